"""nginx as the web server of a mirror: the client of the data plane, and a web mirror as a source, plain
and with TLS."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.interop.nginx_support import BIG, ODD, Nginx
from tests.node.bulk_support import D, web_bulk

from p2psync.errors import NetworkError
from p2psync.sources.http.rate import RateLimiter
from p2psync.sources.source import NotOffered, Span

RANDOM = random.Random(11)


def spans_of_big(count: int, length: int) -> list[Span]:
    offsets = [RANDOM.randrange(len(BIG) - length) for _ in range(count)]
    return [Span(D, offset, length, b"big", len(BIG)) for offset in offsets]


@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_ranges_and_whole_files(nginx: Nginx, kind: str) -> None:
    url = f"{nginx.plain if kind == 'plain' else nginx.tls}/pub/"
    spans = [Span(D, 0, len(BIG), b"big", len(BIG)), *spans_of_big(10, 100_000), *spans_of_big(10, 10)]
    spans += [Span(D, 0, 150, b"%d" % index, 150) for index in range(100, 200)]
    async with web_bulk(url, ssl_context=nginx.context) as asker:
        answers = await asyncio.gather(*(asker.get(span) for span in spans))
        for span, answer in zip(spans, answers, strict=True):
            whole = BIG if span.path == b"big" else (span.path or b"") * 50
            assert asker.bytes_of(answer, [span]) == [whole[span.offset : span.offset + span.length]]
        assert asker.bulk.received > sum(span.length for span in spans)


@pytest.mark.parametrize("name", ODD)
async def test_odd_names(nginx: Nginx, name: bytes) -> None:
    span = Span(D, 0, 3 * len(name), b"dir/" + name, 3 * len(name))
    async with web_bulk(f"{nginx.plain}/pub") as asker:
        assert asker.bytes_of(await asker.get(span), [span]) == [name * 3]


async def test_other_versions_and_missing_paths_are_not_here(nginx: Nginx) -> None:
    spans = [
        Span(D, 0, 10, b"nothing", 10),
        Span(D, 0, 10, None, 10),
        Span(D, 0, 151, b"100", 151),  # longer than it is there
        Span(D, 0, 149, b"100", 149),  # shorter
        Span(D, 5, 10, b"100", 151),  # a part of another version
        Span(D, 200, 10, b"100", 210),  # beyond its end
        Span(D, 5, 10, b"100", 150),
        Span(D, 0, 10, b"dir", 10),
    ]
    async with web_bulk(f"{nginx.plain}/pub") as asker:
        answers = [await asker.get(span) for span in spans]
    assert [answer.error for answer in answers] == [None] * len(spans)
    assert [answer.positions[0] >= 0 for answer in answers] == [False] * 6 + [True, False]


async def test_many_small_reads_at_once_over_connections_that_end(nginx: Nginx) -> None:
    """nginx ends a connection after 50 requests here: pipelined ones behind are sent again."""
    async with web_bulk(f"{nginx.plain}/pub") as asker:

        async def read(index: int) -> None:
            wanted = b"%d" % index * 50
            span = Span(D, 0, len(wanted), b"%d" % index, len(wanted))
            assert asker.bytes_of(await asker.get(span), [span]) == [wanted]

        async with asyncio.TaskGroup() as group:
            for index in range(200):
                group.create_task(read(index))


@pytest.mark.parametrize(
    ("place", "kind", "words"), [("moved", NotOffered, "elsewhere"), ("broken", NetworkError, "503")]
)
async def test_redirections_and_failures_say_what_to_do(
    nginx: Nginx, place: str, kind: type[Exception], words: str
) -> None:
    async with web_bulk(f"{nginx.plain}/{place}") as asker:
        error = (await asker.get(Span(D, 0, 10, b"x", 10))).error
    assert isinstance(error, kind)
    assert words in str(error)


async def test_of_a_server_without_ranges_parts_are_taken_out_of_whole_files(nginx: Nginx) -> None:
    whole = Span(D, 0, len(BIG), b"big", len(BIG))
    async with web_bulk(f"{nginx.plain}/norange") as asker:
        assert asker.bytes_of(await asker.get(whole), [whole]) == [BIG]
        part = Span(D, 5, 10, b"big", len(BIG))
        assert asker.bytes_of(await asker.get(part), [part]) == [BIG[5:15]]


async def test_a_certificate_that_is_not_trusted_is_refused(nginx: Nginx) -> None:
    async with web_bulk(f"{nginx.tls}/pub") as asker:
        error = (await asker.get(Span(D, 0, 10, b"100", 150))).error
    assert isinstance(error, NetworkError)
    assert "TLS failed" in str(error)


async def test_a_certificate_for_another_name_is_refused(nginx: Nginx) -> None:
    url = f"{nginx.tls.replace('localhost', '127.0.0.1')}/pub"
    async with web_bulk(url, ssl_context=nginx.context) as asker:
        error = (await asker.get(Span(D, 0, 10, b"100", 150))).error
    assert isinstance(error, NetworkError)
    assert "TLS failed" in str(error)


@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_a_limit_changes_nothing_but_the_time(nginx: Nginx, kind: str) -> None:
    url = f"{nginx.plain if kind == 'plain' else nginx.tls}/pub"
    span = Span(D, 0, 2_000_000, b"big", len(BIG))
    limiter = RateLimiter(4_000_000)
    async with web_bulk(url, ssl_context=nginx.context, limiter=limiter, idle_timeout=2) as asker:
        assert asker.bytes_of(await asker.get(span), [span]) == [BIG[: span.length]]

"""Bulk threads against nginx, plain and with TLS."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.interop.nginx_support import BIG, KEEPALIVE, ODD, Nginx
from tests.node.bulk_support import D, digest, threads_and_descriptors, web_bulk

from p2psync.errors import NetworkError
from p2psync.sources.http.rate import RateLimiter
from p2psync.sources.source import NotOffered, Span

RANDOM = random.Random(12)
TLS = pytest.mark.parametrize("kind", ["plain", "tls"])


def url(nginx: Nginx, kind: str) -> str:
    return f"{nginx.plain if kind == 'plain' else nginx.tls}/pub/"


@TLS
async def test_whole_files_and_ranges_of_all_lengths(nginx: Nginx, kind: str) -> None:
    async with web_bulk(url(nginx, kind), ssl_context=nginx.context) as asker:
        spans = [Span(D, 0, len(BIG), b"big", len(BIG)), Span(D, 0, 150, b"150", 150)]
        for length in (1, 100, 16_384, 300_000, 2_000_000):
            offset = RANDOM.randrange(len(BIG) - length)
            spans.append(Span(D, offset, length, b"big", len(BIG)))
        wholes = [BIG if span.path == b"big" else b"150" * 50 for span in spans]
        wanted = [
            whole[span.offset : span.offset + span.length] for whole, span in zip(wholes, spans, strict=True)
        ]
        orders = [asker.order([span], [digest(data)]) for span, data in zip(spans, wanted, strict=True)]
        answers = await asyncio.gather(*(asker.ask(order) for order in orders))
        assert [(answer.error, answer.wrong) for answer in answers] == [(None, [])] * len(orders)
        for answer, span, data in zip(answers, spans, wanted, strict=True):
            assert asker.bytes_of(answer, [span]) == [data]
        carried = sum(span.length for span in spans)
        assert asker.bulk.received > carried
    if kind == "tls":  # the handshake and the records count as well, at the latest in the end
        assert asker.bulk.received > carried + carried // 16_384 * 22


@TLS
async def test_many_orders_over_connections_that_end(nginx: Nginx, kind: str) -> None:
    """Those that were sent ahead when nginx ends a connection are sent again."""
    async with web_bulk(url(nginx, kind), ssl_context=nginx.context) as asker:
        spans = [
            Span(D, 0, 50 * len(b"%d" % n), b"%d" % n, 50 * len(b"%d" % n)) for n in range(4 * KEEPALIVE)
        ]
        answers = await asyncio.gather(*(asker.get(span) for span in spans))
        for answer, span in zip(answers, spans, strict=True):
            assert asker.bytes_of(answer, [span]) == [(span.path or b"") * 50]


@pytest.mark.parametrize("name", ODD)
async def test_odd_names(nginx: Nginx, name: bytes) -> None:
    async with web_bulk(f"{nginx.plain}/pub") as asker:
        span = Span(D, 0, 3 * len(name), b"dir/" + name, 3 * len(name))
        assert asker.bytes_of(await asker.get(span), [span]) == [name * 3]


async def test_other_versions_and_missing_paths_are_not_here(nginx: Nginx) -> None:
    absent = [
        Span(D, 0, 10, b"nothing", 10),
        Span(D, 0, 151, b"100", 151),  # longer than it is there
        Span(D, 0, 149, b"100", 149),  # shorter
        Span(D, 5, 10, b"100", 151),  # a part of another version
        Span(D, 200, 10, b"100", 210),  # beyond its end
        Span(D, 0, 10, b"dir", 10),
        Span(D, 0, 3, b"big", 3),  # much longer there
    ]
    async with web_bulk(f"{nginx.plain}/pub") as asker:
        for answer in await asyncio.gather(*(asker.get(span) for span in absent)):
            assert answer.error is None
            assert answer.positions == [-1]
        there = Span(D, 5, 10, b"100", 150)
        assert asker.bytes_of(await asker.get(there), [there]) == [b"001001001001"[1:11]]


async def test_redirections_and_failures_say_what_to_do(nginx: Nginx) -> None:
    for folder, kind, said in (("moved", NotOffered, "elsewhere"), ("broken", NetworkError, "503")):
        async with web_bulk(f"{nginx.plain}/{folder}") as asker:
            answer = await asker.get(Span(D, 0, 10, b"x", 10))
            assert isinstance(answer.error, kind)
            assert said in str(answer.error)


async def test_of_a_server_without_ranges_parts_are_taken_out_of_whole_files(nginx: Nginx) -> None:
    async with web_bulk(f"{nginx.plain}/norange") as asker:
        whole = Span(D, 0, len(BIG), b"big", len(BIG))
        assert asker.bytes_of(await asker.get(whole), [whole]) == [BIG]
        part = Span(D, 5, 10, b"big", len(BIG))
        assert asker.bytes_of(await asker.get(part), [part]) == [BIG[5:15]]


async def test_certificates_that_are_not_trusted_or_for_another_name_are_refused(nginx: Nginx) -> None:
    before = threads_and_descriptors()
    other_name = nginx.tls.replace("localhost", "127.0.0.1")
    for at, options in ((nginx.tls, {}), (other_name, {"ssl_context": nginx.context})):
        async with web_bulk(f"{at}/pub", **options) as asker:
            answer = await asker.get(Span(D, 0, 10, b"100", 150))
            assert type(answer.error) is NetworkError
            assert "TLS failed" in str(answer.error)
    assert threads_and_descriptors() <= before


@TLS
async def test_a_limit_changes_nothing_but_the_time(nginx: Nginx, kind: str) -> None:
    options = {"ssl_context": nginx.context, "limiter": RateLimiter(4_000_000), "idle_timeout": 2}
    async with web_bulk(url(nginx, kind), **options) as asker:
        span = Span(D, 0, 2_000_000, b"big", len(BIG))
        assert asker.bytes_of(await asker.get(span), [span]) == [BIG[:2_000_000]]

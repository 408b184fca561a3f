"""nginx as the web server of a mirror: the client of the data plane, and a web mirror as a source, plain
and with TLS."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.interop.nginx_support import BIG, ODD, Nginx

from p2psync.errors import NetworkError
from p2psync.format.ids import Ref
from p2psync.sources.http.rate import RateLimiter
from p2psync.sources.source import NotOffered, Span
from p2psync.sources.web import WebSource

RANDOM = random.Random(11)
D = b"\x11" * 32


def spans_of_big(count: int, length: int) -> list[Span]:
    offsets = [RANDOM.randrange(len(BIG) - length) for _ in range(count)]
    return [Span(D, offset, length, b"big", len(BIG)) for offset in offsets]


@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_ranges_and_whole_files(nginx: Nginx, kind: str) -> None:
    source = WebSource(f"{nginx.plain if kind == 'plain' else nginx.tls}/pub/", ssl_context=nginx.context)
    spans = [Span(D, 0, len(BIG), b"big", len(BIG)), *spans_of_big(10, 100_000), *spans_of_big(10, 10)]
    spans += [Span(D, 0, 150, b"%d" % index, 150) for index in range(100, 200)]
    buffer = memoryview(bytearray(sum(span.length for span in spans)))
    before = source.received
    assert all(await source.read(spans, buffer))
    position = 0
    for span in spans:
        whole = BIG if span.path == b"big" else (span.path or b"") * 50
        wanted = whole[span.offset : span.offset + span.length]
        assert bytes(buffer[position : position + span.length]) == wanted
        position += span.length
    assert source.received - before > buffer.nbytes
    await source.close()


@pytest.mark.parametrize("name", ODD)
async def test_odd_names(nginx: Nginx, name: bytes) -> None:
    source = WebSource(f"{nginx.plain}/pub")
    buffer = memoryview(bytearray(3 * len(name)))
    assert await source.read([Span(D, 0, len(buffer), b"dir/" + name, len(buffer))], buffer) == [True]
    assert bytes(buffer) == name * 3
    await source.close()


async def test_other_versions_and_missing_paths_are_not_here(nginx: Nginx) -> None:
    source = WebSource(f"{nginx.plain}/pub")
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
    buffer = memoryview(bytearray(sum(span.length for span in spans)))
    assert await source.read(spans, buffer) == [False] * 6 + [True, False]
    await source.close()


async def test_many_small_reads_at_once_over_connections_that_end(nginx: Nginx) -> None:
    """nginx ends a connection after 50 requests here: pipelined ones behind are sent again."""
    source = WebSource(f"{nginx.plain}/pub")

    async def read(index: int) -> None:
        wanted = b"%d" % index * 50
        buffer = memoryview(bytearray(len(wanted)))
        span = Span(D, 0, len(wanted), b"%d" % index, len(wanted))
        assert await source.read([span], buffer) == [True]
        assert bytes(buffer) == wanted

    async with asyncio.TaskGroup() as group:
        for index in range(200):
            group.create_task(read(index))
    await source.close()


async def test_what_a_web_server_does_not_offer(nginx: Nginx) -> None:
    source = WebSource(f"{nginx.plain}/pub")
    assert await source.head(D) is None
    assert await source.metas([Ref(5, D)]) == [None]
    assert await source.holders(D) == []
    for call in (source.meta(Ref(5, D)), source.recipe(D), source.have([D]), source.nominate(D, b"x")):
        with pytest.raises(NotOffered, match=nginx.plain):
            await call
    await source.close()


async def test_redirections_and_failures_say_what_to_do(nginx: Nginx) -> None:
    buffer = memoryview(bytearray(10))
    source = WebSource(f"{nginx.plain}/moved")
    with pytest.raises(NotOffered, match="elsewhere"):
        await source.read([Span(D, 0, 10, b"x", 10)], buffer)
    await source.close()
    source = WebSource(f"{nginx.plain}/broken")
    with pytest.raises(NetworkError, match="503"):
        await source.read([Span(D, 0, 10, b"x", 10)], buffer)
    await source.close()


async def test_a_server_without_ranges_serves_whole_files_only(nginx: Nginx) -> None:
    source = WebSource(f"{nginx.plain}/norange")
    whole = memoryview(bytearray(len(BIG)))
    assert await source.read([Span(D, 0, len(BIG), b"big", len(BIG))], whole) == [True]
    assert bytes(whole) == BIG
    with pytest.raises(NotOffered, match="parts of files"):
        await source.read([Span(D, 5, 10, b"big", len(BIG))], memoryview(bytearray(10)))
    await source.close()


async def test_a_certificate_that_is_not_trusted_is_refused(nginx: Nginx) -> None:
    source = WebSource(f"{nginx.tls}/pub")
    with pytest.raises(NetworkError, match="TLS failed"):
        await source.read([Span(D, 0, 10, b"100", 150)], memoryview(bytearray(10)))
    await source.close()


async def test_a_certificate_for_another_name_is_refused(nginx: Nginx) -> None:
    source = WebSource(f"{nginx.tls.replace('localhost', '127.0.0.1')}/pub", ssl_context=nginx.context)
    with pytest.raises(NetworkError, match="TLS failed"):
        await source.read([Span(D, 0, 10, b"100", 150)], memoryview(bytearray(10)))
    await source.close()


@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_a_limit_changes_nothing_but_the_time(nginx: Nginx, kind: str) -> None:
    source = WebSource(
        f"{nginx.plain if kind == 'plain' else nginx.tls}/pub",
        ssl_context=nginx.context,
        limiter=RateLimiter(4_000_000),
        idle_timeout=2,
    )
    buffer = memoryview(bytearray(2_000_000))
    assert await source.read([Span(D, 0, len(buffer), b"big", len(BIG))], buffer) == [True]
    assert bytes(buffer) == BIG[: len(buffer)]
    await source.close()

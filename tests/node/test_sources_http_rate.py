"""The bandwidth limit: shared, kept on average, and no reason to take a server for silent."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from tests.node.wire_support import scripted

from p2psync.network.server import Server
from p2psync.sources.http.pool import Pool
from p2psync.sources.http.rate import BURST_SECONDS, RATE_MIN, RateLimiter
from p2psync.sources.http.sinks import IntoSink


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    st.integers(RATE_MIN, 10**9),
    st.lists(st.tuples(st.integers(0, 10**7), st.floats(0, 10)), min_size=1, max_size=50),
)
def test_a_reader_that_waits_as_told_never_exceeds_the_rate(
    rate: int, reads: list[tuple[int, float]]
) -> None:
    clock = Clock()
    limiter = RateLimiter(rate, clock)
    taken = 0
    for count, idle in reads:
        clock.now += limiter.take(count) + idle
        taken += count
        assert taken <= rate * (clock.now + BURST_SECONDS) * 1.0001 + 1


def test_the_debt_is_shared() -> None:
    clock = Clock()
    limiter = RateLimiter(1000, clock)
    first = limiter.take(1000)
    assert limiter.take(1000) > first


async def test_reading_pauses_and_nothing_is_lost() -> None:
    body = bytes(range(256)) * 800

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()

    async with scripted(talk) as server:
        limiter = RateLimiter(400_000)
        options = {"limiter": limiter, "idle_timeout": 0.4}
        loop = asyncio.get_running_loop()
        async with Pool(Server.peer(server.address), connections=2, **options) as client:  # type: ignore[arg-type]
            begin = loop.time()
            buffers = [bytearray(len(body)) for _ in range(4)]
            sinks = [IntoSink(memoryview(buffer)) for buffer in buffers]
            await asyncio.gather(*(client.request("GET", "/", sink) for sink in sinks))
            taken = loop.time() - begin
        assert all(buffer == body for buffer in buffers)
        # Not a race against the clock: the limit makes it this slow on any machine.
        assert client.received <= 400_000 * (taken + BURST_SECONDS) + 4 * limiter.read_size

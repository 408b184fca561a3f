"""The client's reader fed by hand: any cut of a stream gives the same bodies, any bytes give an answer or
an error."""

from __future__ import annotations

import asyncio

import pytest
from fuzz.streams import answers
from hypothesis import given, settings
from hypothesis import strategies as st

from p2psync.errors import FormatError, NetworkError
from p2psync.sources.http.connection import DIRECT_MIN
from p2psync.sources.http.sinks import CollectSink, IntoSink, Sink

BIG = bytes(range(256)) * 300
SMALL = b"0123456789"
STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BIG), BIG)
    + b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nsorry"
    + b"HTTP/1.1 103 x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"4\r\n0123\r\n6;a=b\r\n456789\r\n0\r\nT: u\r\n\r\n"
    + b"HTTP/1.1 206 x\r\nContent-Range: bytes 5-14/99\r\nContent-Length: 10\r\n\r\n%b" % SMALL
    + b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BIG), BIG)
)


@settings(max_examples=60)
@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_cut_of_a_stream_gives_the_same_bodies(cuts: list[int]) -> None:
    assert len(BIG) > DIRECT_MIN
    large = [memoryview(bytearray(len(BIG))) for _ in range(2)]
    small = memoryview(bytearray(10))
    chunked = CollectSink(100)
    sinks: list[Sink] = [
        IntoSink(large[0]),
        CollectSink(100),
        chunked,
        IntoSink(small, 5),
        IntoSink(large[1]),
    ]
    assert asyncio.run(answers(STREAM, cuts, sinks)) == [200, 404, 200, 206, 200]
    assert large[0] == BIG
    assert large[1] == BIG
    assert chunked.body == SMALL
    assert small == SMALL


def test_a_stream_that_comes_byte_by_byte() -> None:
    stream = STREAM[STREAM.index(b"HTTP/1.1 404") : STREAM.index(b"HTTP/1.1 206")]
    sinks: list[Sink] = [CollectSink(100), CollectSink(100)]
    assert asyncio.run(answers(stream, list(range(len(stream))), sinks)) == [404, 200]


@settings(max_examples=150)
@given(
    st.integers(0, len(STREAM) - 1),
    st.binary(min_size=1, max_size=40),
    st.integers(0, 60),
)
def test_a_damaged_stream_gives_an_answer_or_an_error(at: int, junk: bytes, cut: int) -> None:
    # Most positions lie in the large bodies; heads are what matters.
    heads = [index for index in range(len(STREAM)) if STREAM.startswith(b"HTTP/1.1", index)]
    at = heads[at % len(heads)] + at % 70
    stream = STREAM[:at] + junk + STREAM[at + cut :]
    sinks: list[Sink] = [IntoSink(memoryview(bytearray(len(BIG)))), *(CollectSink(100) for _ in range(4))]
    for made in asyncio.run(answers(stream, [at], sinks)):
        assert isinstance(made, (int, FormatError, NetworkError))


@pytest.mark.parametrize("length", [1, DIRECT_MIN - 1, DIRECT_MIN, 10 * DIRECT_MIN])
def test_a_body_one_byte_too_short_is_never_taken_for_whole(length: int) -> None:
    stream = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (length, bytes(length - 1))
    made = asyncio.run(answers(stream, [], [IntoSink(memoryview(bytearray(length)))]))
    assert isinstance(made[0], NetworkError)

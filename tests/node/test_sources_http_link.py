"""The blocking reader: any cut of a stream gives the same bodies, any bytes give an answer or an error."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2psync.errors import FormatError, NetworkError, P2psyncError
from p2psync.network.dial import Handle
from p2psync.sources.http.bell import Bell
from p2psync.sources.http.body import Body
from p2psync.sources.http.link import PIECE, SCRATCH_READ, Link

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


@contextlib.contextmanager
def link_to(stream: bytes, cuts: list[int]) -> Iterator[Link]:
    """A link whose other end says ``stream``, in parts, and hangs up."""
    ours, theirs = socket.socketpair()
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]

    def say() -> None:
        with theirs, contextlib.suppress(OSError):
            for begin, end in pairwise(edges):
                theirs.sendall(stream[begin:end])

    handle = Handle()
    handle.hold(ours)
    speaker = threading.Thread(target=say)
    speaker.start()
    bell = Bell()
    link = Link(
        ours,
        handle,
        idle_timeout=60,
        limiter=None,
        bell=bell,
        count=lambda count: None,
        between=lambda: None,
        pause=lambda seconds: None,
    )
    try:
        yield link
    finally:
        link.close()
        bell.close()
        speaker.join()


def answers(stream: bytes, cuts: list[int], views: list[memoryview]) -> list[tuple[int, int] | P2psyncError]:
    """Status and length of as many answers as there are views, up to the first error."""
    made: list[tuple[int, int] | P2psyncError] = []
    with link_to(stream, cuts) as link:
        for view in views:
            try:
                head = link.head()
                body = Body(link, head)
                made.append((head.status, body.into(view)))
            except (FormatError, NetworkError) as error:
                made.append(error)
                break
            if not body.reusable():
                break
    return made


def rooms() -> list[memoryview]:
    return [memoryview(bytearray(size)) for size in (len(BIG), 100, 100, 10, len(BIG))]


@settings(max_examples=60)
@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_cut_of_a_stream_gives_the_same_bodies(cuts: list[int]) -> None:
    views = rooms()
    lengths = [len(BIG), 5, len(SMALL), len(SMALL), len(BIG)]
    assert answers(STREAM, cuts, views) == list(zip([200, 404, 200, 206, 200], lengths, strict=True))
    assert views[0] == BIG
    assert bytes(views[2][:10]) == SMALL
    assert views[3] == SMALL
    assert views[4] == BIG


def test_a_stream_that_comes_byte_by_byte() -> None:
    stream = STREAM[STREAM.index(b"HTTP/1.1 404") : STREAM.index(b"HTTP/1.1 206")]
    views = rooms()[1:3]
    assert answers(stream, list(range(len(stream))), views) == [(404, 5), (200, 10)]


@settings(max_examples=150)
@given(st.integers(0, len(STREAM) - 1), st.binary(min_size=1, max_size=40), st.integers(0, 60))
def test_a_damaged_stream_gives_answers_and_then_an_error(at: int, junk: bytes, cut: int) -> None:
    # Most positions lie in the large bodies; heads are what matters.
    heads = [index for index in range(len(STREAM)) if STREAM.startswith(b"HTTP/1.1", index)]
    at = heads[at % len(heads)] + at % 70
    for each in answers(STREAM[:at] + junk + STREAM[at + cut :], [at], rooms()):
        assert isinstance(each, (tuple, FormatError, NetworkError))


@pytest.mark.parametrize("length", [1, SCRATCH_READ, 10 * SCRATCH_READ, PIECE + 1])
def test_a_body_one_byte_too_short_is_never_taken_for_whole(length: int) -> None:
    stream = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (length, bytes(length - 1))
    assert isinstance(answers(stream, [], [memoryview(bytearray(length))])[0], NetworkError)


def test_a_body_is_never_written_beyond_its_room() -> None:
    for framing in (b"Content-Length: 11\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nb\r\n"):
        room = memoryview(bytearray(20))
        stream = b"HTTP/1.1 200 OK\r\n" + framing + b"x" * 11
        assert isinstance(answers(stream, [], [room[:10]])[0], FormatError)
        assert bytes(room[10:]) == bytes(10)

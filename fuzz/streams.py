"""What servers and clients may say on a connection: whole streams, cut anywhere, to the readers of both
sides.

Each target takes bytes, and raises where a reader breaks its promise: it gives answers and then the error
that it documents, writes nowhere but where it was told to, and reads a request as the HTTP library reads
it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser

from p2psync.content.ranges import select
from p2psync.content.request import END, NOT_PLAIN, parse_request
from p2psync.errors import FormatError, NetworkError
from p2psync.sources.http.bell import Bell
from p2psync.sources.http.body import Body
from p2psync.sources.http.connection import Connection
from p2psync.sources.http.dial import Handle
from p2psync.sources.http.link import Link
from p2psync.sources.http.sinks import BatchSink, CollectSink, IntoSink, Sink
from p2psync_dht.testing.virtual import VirtualLoop

ROOM: Final = 24  # bytes that are asked for, of each answer
GUARD: Final = b"\xa5" * 8  # around the room: nobody may write there
ETAG: Final = '"abc"'


class FakeTransport(asyncio.Transport):
    """Takes what is written, and knows whether it was closed."""

    def __init__(self, protocol: Connection) -> None:
        super().__init__()
        self.protocol = protocol
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def feed(transport: FakeTransport, data: bytes) -> None:
    """As the event loop does it: ask for a place, put in what fits, tell how much."""
    position = 0
    while position < len(data) and not transport.closed:
        place = transport.protocol.get_buffer(-1)
        assert len(place) > 0
        count = min(len(place), len(data) - position)
        place[:count] = data[position : position + count]
        transport.protocol.buffer_updated(count)
        position += count


async def answers(stream: bytes, cuts: Sequence[int], sinks: Sequence[Sink]) -> list[object]:
    """The statuses or errors of as many requests as there are sinks, ``stream`` coming in parts."""
    connection = Connection("host:1", idle_timeout=60)
    transport = FakeTransport(connection)
    connection.connection_made(transport)
    tasks = [asyncio.create_task(connection.request(b"GET", b"", sink)) for sink in sinks]
    await asyncio.sleep(0)
    for part in _parts(stream, cuts):
        feed(transport, part)
    transport.abort()
    made = await asyncio.gather(*tasks, return_exceptions=True)
    return [each if isinstance(each, BaseException) else each.status for each in made]


def _parts(stream: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    return (stream[begin:end] for begin, end in pairwise(edges))


class _Rooms:
    """Places for bodies, with a guard around each."""

    def __init__(self, count: int) -> None:
        self._memory = [bytearray(GUARD + bytes(ROOM) + GUARD) for _ in range(count)]

    @property
    def views(self) -> list[memoryview]:
        return [memoryview(each)[len(GUARD) : -len(GUARD)] for each in self._memory]

    def check(self) -> None:
        for each in self._memory:
            assert each.startswith(GUARD) and each.endswith(GUARD), "written beside its room"


def http_stream(data: bytes) -> None:
    """To the asynchronous client. The first byte says where the rest is cut, the second what is asked for."""
    if len(data) < 2:
        return
    rooms = _Rooms(3)
    views = rooms.views
    wanted: list[list[Sink]] = [
        [IntoSink(view, 5 * number) for number, view in enumerate(views)],
        [CollectSink(ROOM), CollectSink(4 * ROOM), CollectSink(0)],
        [BatchSink([view[:number] for number in (3, 0, 9) for view in views])],
        [BatchSink(views[:2]), CollectSink(ROOM), IntoSink(views[2])],
    ]
    sinks = wanted[data[1] % len(wanted)]
    stream = data[2:]
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        made = runner.run(answers(stream, range(data[0], len(stream), data[0] or len(stream) or 1), sinks))
    for each in made:
        assert isinstance(each, (int, FormatError, NetworkError)), repr(each)
    rooms.check()
    for sink in sinks:
        assert not isinstance(sink, CollectSink) or len(sink.body) <= 4 * ROOM


def http_link(data: bytes) -> None:
    """To the blocking client, whose thread receives what is bulk."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(data)
    handle = Handle()
    handle.hold(ours)
    bell = Bell()
    rooms = _Rooms(3)
    counted: list[int] = []
    try:
        link = Link(
            ours,
            handle,
            idle_timeout=60,
            limiter=None,
            bell=bell,
            count=counted.append,
            between=lambda: None,
            pause=lambda seconds: None,
        )
        with contextlib.suppress(FormatError, NetworkError):
            for view in rooms.views:
                body = Body(link, link.head())
                assert 0 <= body.into(view) <= ROOM
                if not body.reusable():
                    break
    finally:
        handle.close()
        bell.close()
    rooms.check()
    assert sum(counted) <= len(data)


class _Nowhere(BaseProtocol):
    """The library's reader wants a protocol to slow down; there is nothing to slow down here."""


def http_agreed(data: bytes) -> None:
    """A request whose head is plain to us is the same request to the HTTP library, which gets what is not:
    where one ends, and whether another may follow, is never read in two ways. The library may refuse it.
    """
    end = data.find(END)
    if end < 0:
        return
    ours = parse_request(data[:end])
    if ours is NOT_PLAIN:
        return
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        read = runner.run(_as_the_library_reads(data[: end + len(END)]))
    if read is None:
        return
    method, path, headers, keep_alive, is_short = read
    assert (method, path) == (ours.method, ours.target)
    assert keep_alive or not ours.keep_alive, "a request would be read after the last one"
    assert is_short == (not ours.length), "one reader waits for a body, the other does not"
    assert headers == ours.headers


async def _as_the_library_reads(head: bytes) -> tuple[str, str, dict[str, str], bool, bool] | None:
    loop = asyncio.get_running_loop()
    parser = HttpRequestParser(_Nowhere(loop), loop, 2**16, max_line_size=2**16, max_field_size=2**16)
    try:
        messages, _, rest = parser.feed_data(head)
    except HttpProcessingError:
        return None
    assert len(messages) == 1 and not rest, "one head is several requests to the library"
    message, body = messages[0]
    # The library reads header values as UTF-8, and keeps what is none.
    values = ((name, value.encode("utf-8", "surrogateescape")) for name, value in message.headers.items())
    headers = {name.lower(): value.decode("latin-1") for name, value in values}
    assert len(headers) == len(message.headers)
    return message.method, message.path, headers, not message.should_close, body.is_eof()


def ranges(data: bytes) -> None:
    """Header values of a request for a range; lines in the order of the arguments, one that is empty is not
    there.
    """
    size = data[0] if data else 0
    values = [line or None for line in data[1:].decode("latin-1").split("\n")[:4]]
    values += [None] * (4 - len(values))
    made = select(
        size,
        ETAG,
        1_700_000_000,
        range_=values[0],
        if_range=values[1],
        if_none_match=values[2],
        if_modified_since=values[3],
    )
    assert made.status in (200, 206, 304, 416)
    assert made.first >= 0 and made.length >= 0
    assert made.first + made.length <= size
    assert made.status != 206 or made.length > 0
    assert made.status != 200 or (made.first, made.length) == (0, size)


def _stream_seeds() -> list[bytes]:
    whole = b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-23/99\r\nContent-Length: 24\r\n\r\n" + b"x" * ROOM
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"3\r\n\0\0\0\r\n6;a=b\r\n\x03abc\0\0\r\n0\r\nT: u\r\n\r\n"
    unwanted = b"HTTP/1.1 103 x\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nsorry"
    return [whole, unwanted + chunked, chunked + unwanted + whole]


def _request_seeds() -> list[bytes]:
    page = b"GET /a%20b/c?x HTTP/1.1\r\nHost: a\r\nRange: bytes=1-2"
    posted = b"POST /p2psync/v1/batch HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close"
    return [page + END, posted + END, b"GET / HTTP/1.0\r\nConnection: keep-alive" + END]


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    one.__name__: one for one in (http_stream, http_link, http_agreed, ranges)
}
_SEEDS: Final[dict[str, Callable[[], list[bytes]]]] = {
    "http_stream": lambda: [bytes([7, way]) + seed for way, seed in enumerate(_stream_seeds())],
    "http_link": _stream_seeds,
    "http_agreed": _request_seeds,
    "ranges": lambda: [b"\x10bytes=1-2", b'\x10bytes=-5\n"abc"', b'\x10bytes=3-\n\nW/"abc", *'],
}


def seeds(name: str) -> list[bytes]:
    """A few inputs that a target accepts, or nearly."""
    return _SEEDS[name]()

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
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final, cast

from p2psync.errors import FormatError, NetworkError
from p2psync.network.dial import Handle
from p2psync.network.proxy import Kind, Proxy
from p2psync.network.server import Server
from p2psync.network.tunnel import ANSWER_MAX, ProxyRefused, pass_through
from p2psync.sources.http.bell import Bell
from p2psync.sources.http.body import Body
from p2psync.sources.http.connection import Connection
from p2psync.sources.http.link import Link
from p2psync.sources.http.sinks import BatchSink, CollectSink, IntoSink, Sink
from p2psync_dht.testing.virtual import VirtualLoop

ROOM: Final = 24  # bytes that are asked for, of each answer
GUARD: Final = b"\xa5" * 8  # around the room: nobody may write there
PROXY_WORDS_MAX: Final = 700  # characters of what is said of a proxy
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


class SaidSocket:
    """The other end says what it was given, whatever it is told; then it hangs up."""

    def __init__(self, said: bytes, piece: int) -> None:
        self._said = memoryview(said)
        self._piece = piece
        self.at = 0

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def sendall(self, data: bytes) -> None:
        assert data

    def recv(self, most: int) -> bytes:
        came = bytes(self._said[self.at : self.at + min(most, self._piece)])
        self.at += len(came)
        return came


def proxy_answer(data: bytes) -> None:
    """What a proxy says: it has made a connection, or an error says in a bounded sentence why not."""
    kind = Kind.SOCKS5 if data[:1] > b"\x7f" else Kind.HTTP
    login = (b"me", b"word") if data[:1] and data[0] & 1 else (b"", b"")
    said = SaidSocket(data[1:], 1 + (data[0] >> 1 & 15 if data[:1] else 0))
    proxy = Proxy(kind, "proxy.example", 3128, *login)
    try:
        pass_through(
            cast(socket.socket, said), proxy, Server.peer("host.example:8730"), time.monotonic() + 60
        )
    except (ProxyRefused, OSError) as error:
        assert str(error).isprintable()
        assert len(str(error)) < PROXY_WORDS_MAX
    assert said.at <= ANSWER_MAX


def _proxy_seeds() -> list[bytes]:
    http = b"HTTP/1.1 "
    refused = b'407 x\r\nProxy-Authenticate: NTLM\r\nproxy-authenticate: Basic realm="a, b"\r\n\r\n'
    heads = [b"200 OK\r\nVia: x\r\n\r\n", b"403 No \x1b[2J\r\n\r\n", refused]
    done = b"\x05\x00\x00\x01" + bytes(6)
    named = b"\x05\x00\x00\x03\x04name\x00\x50"
    socks = [b"\x05\x00" + done, b"\x05\x00" + named, b"\x05\x00\x05\x02\x00\x01" + bytes(6), b"\x05\xff"]
    with_login = [b"\x05\x02\x01\x00" + done, b"\x05\x02\x01\x01"]
    return [
        *(b"\x1e" + http + head for head in heads),
        *(b"\xfe" + each for each in socks),
        *(b"\xff" + each for each in with_login),
    ]


def _stream_seeds() -> list[bytes]:
    whole = b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-23/99\r\nContent-Length: 24\r\n\r\n" + b"x" * ROOM
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"3\r\n\0\0\0\r\n6;a=b\r\n\x03abc\0\0\r\n0\r\nT: u\r\n\r\n"
    unwanted = b"HTTP/1.1 103 x\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nsorry"
    return [whole, unwanted + chunked, chunked + unwanted + whole]


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    one.__name__: one for one in (http_stream, http_link, proxy_answer)
}
_SEEDS: Final[dict[str, Callable[[], list[bytes]]]] = {
    "http_stream": lambda: [bytes([7, way]) + seed for way, seed in enumerate(_stream_seeds())],
    "http_link": _stream_seeds,
    "proxy_answer": _proxy_seeds,
}


def seeds(name: str) -> list[bytes]:
    """A few inputs that a target accepts, or nearly."""
    return _SEEDS[name]()

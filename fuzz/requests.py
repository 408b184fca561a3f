"""What clients may say on a connection: whole streams to the thread for bulk bytes, and single heads.

Each target takes bytes, and raises where a reader breaks its promise: it gives an answer to each request and
then ends, and reads a request as the HTTP library reads it. What servers say is `streams`'.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, cast

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser

from p2psync.content.admission import Admission
from p2psync.content.counters import Counters
from p2psync.content.interface import BytesContent, Library, Taken
from p2psync.content.line import After, Desk, Line
from p2psync.content.ranges import select
from p2psync.content.request import END, NOT_PLAIN, parse_request
from p2psync.content.rows import ROOM as POSTED_ROOM
from p2psync.content.visitors import Visitors
from p2psync.sources.http.head import parse_response_head
from p2psync.sources.wire import BATCH_PATH, NOT_HERE, PREFIX, ROW_LENGTH, Row, encode_batch
from p2psync_dht.testing.virtual import VirtualLoop

SIZE: Final = 24  # bytes of the one object that is here
ETAG: Final = '"abc"'


class _Shelf:
    """As much of a library as requests for bulk bytes need: one object, and no rows."""

    def open(self, digest: bytes) -> BytesContent | None:
        return BytesContent(bytes(SIZE)) if digest == HELD else None

    def recipe(self, digest: bytes) -> bytes | None:
        return None

    def gather(self, rows: Sequence[Row], room: memoryview) -> Taken:
        for number in range(len(rows)):
            ROW_LENGTH.pack_into(room, number * ROW_LENGTH.size, NOT_HERE)
        return Taken([ROW_LENGTH.size] * len(rows), [None] * len(rows))


HELD: Final = bytes(range(32))
ANSWERS: Final = memoryview(bytearray(POSTED_ROOM))
DESK: Final = Desk(
    cast(Library, _Shelf()),
    Counters(),
    lambda _: True,
    lambda: False,
    lambda: ANSWERS,
    Visitors(),
)


def http_line(data: bytes) -> None:
    """To the thread of a node that answers requests for bulk bytes: as many answers as there are requests at
    most, each of which is an answer, and the end when the client has said all.
    """
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    ticket = Admission(1, 1).admit("192.0.2.1")
    assert ticket is not None
    line = Line(ours, data[1 : data[0] if data else 0], ticket, 0.0)
    after = After.QUEUE
    try:
        theirs.sendall(data[max(data[0], 1) :] if data else b"")
        theirs.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while after is After.QUEUE:
                after = line.go_on(DESK, 60.0)
        assert len(line.received) <= len(data)
        assert after is not After.WAIT, "waits for a client that has said all"
        ours.shutdown(socket.SHUT_WR)
        told = b"".join(iter(partial(theirs.recv, 1 << 20), b""))
    finally:
        line.close()
        theirs.close()
    count = 0
    while told:
        head, _, told = told.partition(END)
        length = parse_response_head(head, bodiless=False).length
        assert length is not None and length <= len(told), "an answer is cut off"
        told = told[length:]
        count += 1
    assert count <= data.count(END)


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


def _request_seeds() -> list[bytes]:
    page = b"GET /a%20b/c?x HTTP/1.1\r\nHost: a\r\nRange: bytes=1-2"
    posted = b"POST /p2psync/v1/batch HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close"
    return [page + END, posted + END, b"GET / HTTP/1.0\r\nConnection: keep-alive" + END]


def _line_seeds() -> list[bytes]:
    whole = b"GET %b/object/%b HTTP/1.1\r\nHost: a" % (PREFIX.encode(), HELD.hex().encode())
    part, last = whole + b"\r\nRange: bytes=2-5" + END, whole + b"\r\nConnection: close" + END
    body = encode_batch([(HELD, 0, 5), (HELD, 5, 7)])
    posted = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d" % (BATCH_PATH.encode(), len(body))
    return [b"\0" + part + whole + END + last, b"\x20" + posted + END + body + last]


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    one.__name__: one for one in (http_line, http_agreed, ranges)
}
_SEEDS: Final[dict[str, Callable[[], list[bytes]]]] = {
    "http_line": _line_seeds,
    "http_agreed": _request_seeds,
    "ranges": lambda: [b"\x10bytes=1-2", b'\x10bytes=-5\n"abc"', b'\x10bytes=3-\n\nW/"abc", *'],
}


def seeds(name: str) -> list[bytes]:
    """A few inputs that a target accepts, or nearly."""
    return _SEEDS[name]()

"""Answers to requests for bulk bytes, sent piece by piece on a socket that does not block.

An answer holds little while it waits for a slow client: rows are read again from where it stands. Who waits,
and for how long, is ``bulk``'s.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import closing
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

from p2psync.content import send
from p2psync.content.counters import Counters
from p2psync.content.interface import Content, Library
from p2psync.content.ranges import select
from p2psync.errors import FormatError
from p2psync.sources import wire
from p2psync.tree.opener import FileContent

HEAD_ROOM: Final = 256
"""Bytes in front of the rows for the head, which is known after them."""
ROOM: Final = HEAD_ROOM + wire.BATCH_BYTES_MAX + wire.BATCH_ROWS_MAX * wire.ROW_LENGTH.size
"""Bytes of a thread's buffer: any answer with rows fits."""
AGAIN: Final = 1 << 20
"""Bytes of rows that are read again at once for a client that did not take them at first."""
IMMUTABLE: Final = "public, max-age=31536000, immutable"
"""What a digest names never changes."""
_MORE: Final[int] = getattr(socket, "MSG_MORE", 0)


class Cut(ConnectionError):
    """What is being sent is no longer what it was: the connection ends, so that nobody takes it for whole."""


class Answer(Protocol):
    """One answer, on its way."""

    @property
    def done(self) -> bool:
        """Whether all is sent."""

    def send(self, sock: socket.socket, room: memoryview) -> int:
        """Send what the socket takes; how many bytes. ``room`` is the thread's buffer, and stays the answer's
        until ``park``. Raises BlockingIOError if the socket takes nothing, OSError if it is broken, Cut.
        """

    def park(self) -> None:
        """The buffer is another's from here on."""

    def close(self) -> None:
        """Let go of what is open."""


class TextAnswer:
    """A short answer: an error, or a condition that is met."""

    def __init__(self, status: int, text: str = "", headers: Mapping[str, str] | None = None) -> None:
        body = text.encode()
        given = dict(headers or {})
        if status != HTTPStatus.NOT_MODIFIED:
            given |= {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
        self._left = memoryview(head(status, given) + body)

    @property
    def done(self) -> bool:
        return not self._left

    def send(self, sock: socket.socket, room: memoryview) -> int:
        count = sock.send(self._left)
        self._left = self._left[count:]
        return count

    def park(self) -> None:
        pass

    def close(self) -> None:
        pass


class FileAnswer:
    """A stretch of an object, from disk to wire by sendfile(2)."""

    def __init__(
        self, raw_head: bytes, content: Content, first: int, length: int, counters: Counters
    ) -> None:
        self._head = memoryview(raw_head)
        self._content = content
        self._next = first
        self._left = length
        self._counters = counters

    @property
    def done(self) -> bool:
        return not self._head and not self._left

    def send(self, sock: socket.socket, room: memoryview) -> int:
        if self._head:
            count = sock.send(self._head, _MORE if self._left else 0)
            self._head = self._head[count:]
            return count
        content = self._content
        if not content.unchanged():
            raise Cut
        wanted = min(send.SLICE, self._left)
        if isinstance(content, FileContent):
            count = os.sendfile(sock.fileno(), content.fd, self._next, wanted)
        else:
            count = sock.send(memoryview(content.data)[self._next : self._next + wanted])
        self._next += count
        self._left -= count
        self._counters.add("object", content.archive, count)
        if not count or (not self._left and not content.unchanged()):
            raise Cut
        return count

    def park(self) -> None:
        pass

    def close(self) -> None:
        self._content.close()


class Taken(NamedTuple):
    """A row of an answer: its bytes with its length in front, and the archive out of whose tree it is."""

    size: int
    archive: bytes | None


_ABSENT: Final = Taken(wire.ROW_LENGTH.size, None)


class RowSource(Protocol):
    """Where the rows of an answer come from."""

    def fill(self, first: int, last: int | None, room: memoryview) -> list[Taken]:
        """Put the rows from ``first`` up to ``last``, or as many as the answer may have, one behind the other
        into ``room``, each with its length in front.
        """


class BatchRows:
    """The rows of a batch."""

    def __init__(self, library: Library, rows: Sequence[wire.Row]) -> None:
        self._library = library
        self._rows = rows

    def fill(self, first: int, last: int | None, room: memoryview) -> list[Taken]:
        rows = self._rows[first:last]
        taken: list[Taken] = []
        at = 0
        with closing(self._library.rows(rows)) as reader:
            for row in rows:
                begin = at + wire.ROW_LENGTH.size
                end = begin + row[2]
                if reader.read(row, room[begin:end]):
                    wire.ROW_LENGTH.pack_into(room, at, row[2])
                    taken.append(Taken(end - at, reader.archive))
                    at = end
                else:
                    wire.ROW_LENGTH.pack_into(room, at, wire.NOT_HERE)
                    taken.append(_ABSENT)
                    at = begin
        return taken


class RecipeRows:
    """The recipes of objects, as many as an answer may have."""

    def __init__(self, library: Library, digests: Sequence[bytes]) -> None:
        self._library = library
        self._digests = digests

    def fill(self, first: int, last: int | None, room: memoryview) -> list[Taken]:
        raw = wire.encode_recipes_answer(map(self._library.recipe, self._digests[first:last]))
        room[: len(raw)] = raw
        taken: list[Taken] = []
        at = 0
        while at < len(raw):
            (length,) = wire.ROW_LENGTH.unpack_from(raw, at)
            taken.append(_ABSENT if length == wire.NOT_HERE else Taken(wire.ROW_LENGTH.size + length, None))
            at += taken[-1].size
        return taken


class RowsAnswer:
    """Rows, gathered in the thread's buffer and sent at once."""

    def __init__(self, source: RowSource, counters: Counters | None) -> None:
        """``counters`` None: these rows are not counted as content."""
        self._source = source
        self._counters = counters
        self._head = b""
        self._taken: list[Taken] = []
        self._ready = memoryview(b"")
        self._sent = 0
        self._row = 0
        self._inside = 0
        """Bytes of the row ``_row`` that are sent."""

    @property
    def done(self) -> bool:
        return bool(self._head) and self._sent >= len(self._head) and self._row == len(self._taken)

    def prepare(self, room: memoryview) -> int:
        """Gather the rows; the length of the body in bytes."""
        self._taken = self._source.fill(0, None, room[HEAD_ROOM:])
        length = sum(row.size for row in self._taken)
        self._head = head(200, {"Content-Type": wire.OCTETS, "Content-Length": str(length)})
        start = HEAD_ROOM - len(self._head)
        room[start:HEAD_ROOM] = self._head
        self._ready = room[start : HEAD_ROOM + length]
        return length

    def send(self, sock: socket.socket, room: memoryview) -> int:
        if not self._head:
            self.prepare(room)
        if not self._ready:
            self._ready = self._again(room)
        count = sock.send(self._ready)
        self._went(count)
        return count

    def body(self, room: memoryview) -> bytes:
        """The next bytes of the body, which count as sent; none behind the last. For those who send the head
        themselves. Raises Cut.
        """
        self._went(max(0, len(self._head) - self._sent))
        if not self._ready and not self.done:
            self._ready = self._again(room)
        data = bytes(self._ready[:AGAIN])
        self._went(len(data))
        return data

    def park(self) -> None:
        self._ready = memoryview(b"")

    def close(self) -> None:
        self.park()

    def _again(self, room: memoryview) -> memoryview:
        """Read rows again from the one that was not sent to its end. Raises Cut if they are others."""
        if self._sent < len(self._head):
            return memoryview(self._head)[self._sent :]
        last, size = self._row, 0
        while last < len(self._taken) and size < AGAIN:
            size += self._taken[last].size
            last += 1
        taken = self._source.fill(self._row, last, room)
        if [row.size for row in taken] != [row.size for row in self._taken[self._row : last]]:
            raise Cut
        return room[self._inside : size]

    def _went(self, count: int) -> None:
        """Bytes are sent: the rows that they belong to are counted."""
        self._ready = self._ready[count:]
        left = count - min(count, max(0, len(self._head) - self._sent))
        self._sent += count
        inside, framing = self._inside, 0
        sums: dict[bytes | None, int] = {}
        while left:
            size, archive = self._taken[self._row]
            end = min(size, inside + left)
            content = end - inside
            if inside < wire.ROW_LENGTH.size:
                head_part = min(end, wire.ROW_LENGTH.size) - inside
                framing += head_part
                content -= head_part
            sums[archive] = sums.get(archive, 0) + content
            left -= end - inside
            inside = end
            if end == size:
                self._row += 1
                inside = 0
        self._inside = inside
        sums[None] = sums.get(None, 0) + framing
        if self._counters is not None:
            for archive, number in sums.items():
                if number:
                    self._counters.add("batch", archive, number)
            if count and self.done:
                missed = self._taken.count(_ABSENT)
                self._counters.note(batches=1, rows=len(self._taken), missed=missed)


def batch_answer(library: Library, raw: bytes, counters: Counters) -> RowsAnswer:
    """To a batch request. Raises FormatError."""
    return RowsAnswer(BatchRows(library, wire.decode_batch(raw)), counters)


def recipes_answer(library: Library, raw: bytes) -> RowsAnswer:
    """To a request for recipes. Raises FormatError."""
    return RowsAnswer(RecipeRows(library, wire.decode_recipes(raw)), None)


def posted_answer(library: Library, target: str, raw: bytes, counters: Counters) -> Answer:
    """To a POST of ``raw`` to one of the bulk paths."""
    try:
        return (
            batch_answer(library, raw, counters)
            if target == wire.BATCH_PATH
            else recipes_answer(library, raw)
        )
    except FormatError as error:
        return TextAnswer(400, f"{error}\n")


def object_answer(library: Library, digest: bytes, given: Mapping[str, str], counters: Counters) -> Answer:
    """To a GET of an object with the headers ``given`` (names in lower case)."""
    content = library.open(digest)
    if content is None:
        counters.note(missed=1)
        return TextAnswer(404, "not here\n")
    keep = False
    try:
        etag = f'"{digest.hex()}"'
        choice = select(
            content.size,
            etag,
            None,
            range_=given.get("range"),
            if_range=given.get("if-range"),
            if_none_match=given.get("if-none-match"),
        )
        headers = {"Cache-Control": IMMUTABLE, "ETag": etag, "Accept-Ranges": "bytes"}
        if choice.status == 304:
            return TextAnswer(304, "", headers)
        if choice.status == 416:
            return TextAnswer(416, "", headers | {"Content-Range": f"bytes */{content.size}"})
        if not content.covers(choice.first, choice.length):
            return TextAnswer(404, "not here\n")
        headers |= {"Content-Type": wire.OCTETS, "Content-Length": str(choice.length)}
        if choice.status == 206:
            last = choice.first + choice.length - 1
            headers["Content-Range"] = f"bytes {choice.first}-{last}/{content.size}"
        keep = True
        counters.note(objects=1)
        return FileAnswer(head(choice.status, headers), content, choice.first, choice.length, counters)
    finally:
        if not keep:
            content.close()


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """A response head, empty line included."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Date: {formatdate(usegmt=True)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii")

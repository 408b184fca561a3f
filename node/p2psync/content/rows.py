"""Answers with rows, of a batch or of recipes: gathered in a thread's buffer, and sent at once.

Such an answer holds little while it waits for a slow client: the rows are read again from where it stands.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import closing
from typing import Final, NamedTuple, Protocol

from p2psync.content.answers import Answer, Cut, TextAnswer, head
from p2psync.content.counters import Counters
from p2psync.content.interface import Library
from p2psync.errors import FormatError
from p2psync.sources import wire

HEAD_ROOM: Final = 256
"""Bytes in front of the rows for the head, which is known after them."""
ROOM: Final = HEAD_ROOM + wire.BATCH_BYTES_MAX + wire.BATCH_ROWS_MAX * wire.ROW_LENGTH.size
"""Bytes of a thread's buffer: any answer with rows fits."""
AGAIN: Final = 1 << 20
"""Bytes of rows that are read again at once for a client that did not take them at first."""


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

    def park(self) -> None:
        """The rest will be asked for later, if at all: hold little until then."""


class BatchRows:
    """The rows of a batch."""

    def __init__(self, library: Library, raw: bytes) -> None:
        """``raw``: the request. Raises FormatError."""
        self._library = library
        self._raw = raw
        self._rows: list[wire.Row] | None = wire.decode_batch(raw)

    def park(self) -> None:
        self._rows = None  # what was asked for takes a quarter of the memory as it came

    def fill(self, first: int, last: int | None, room: memoryview) -> list[Taken]:
        if self._rows is None:
            self._rows = wire.decode_batch(self._raw)
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

    def park(self) -> None:
        pass

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
        self._source.park()

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
    return RowsAnswer(BatchRows(library, raw), counters)


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

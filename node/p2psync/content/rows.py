"""Answers with rows, of a batch or of recipes: gathered in a thread's buffer, and sent at once.

Such an answer holds little while it waits for a slow client: the rows are read again from where it stands.
"""

from __future__ import annotations

import socket
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, Protocol

from p2psync.content.answers import Answer, Cut, TextAnswer, head
from p2psync.content.counters import Counters
from p2psync.content.interface import Library, Taken
from p2psync.errors import FormatError
from p2psync.sources import wire

HEAD_ROOM: Final = 256
"""Bytes in front of the rows for the head, which is known after them."""
ROOM: Final = HEAD_ROOM + wire.BATCH_BYTES_MAX + wire.BATCH_ROWS_MAX * wire.ROW_LENGTH.size
"""Bytes of a thread's buffer: any answer with rows fits."""
AGAIN: Final = 1 << 20
"""Bytes of rows that are read again at once for a client that did not take them at first."""


_LENGTH: Final = wire.ROW_LENGTH.size
"""Bytes of a row that is not here, and in front of one that is, which has one byte or more."""


class RowSource(Protocol):
    """Where the rows of an answer come from."""

    def fill(self, first: int, last: int | None, room: memoryview) -> Taken:
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

    def fill(self, first: int, last: int | None, room: memoryview) -> Taken:
        if self._rows is None:
            self._rows = wire.decode_batch(self._raw)
        return self._library.gather(self._rows[first:last], room)


class RecipeRows:
    """The recipes of objects, as many as an answer may have."""

    def __init__(self, library: Library, digests: Sequence[bytes]) -> None:
        self._library = library
        self._digests = digests

    def park(self) -> None:
        pass

    def fill(self, first: int, last: int | None, room: memoryview) -> Taken:
        raw = wire.encode_recipes_answer(map(self._library.recipe, self._digests[first:last]))
        room[: len(raw)] = raw
        sizes: list[int] = []
        at = 0
        while at < len(raw):
            (length,) = wire.ROW_LENGTH.unpack_from(raw, at)
            sizes.append(_LENGTH if length == wire.NOT_HERE else _LENGTH + length)
            at += sizes[-1]
        return Taken(sizes, [None] * len(sizes))


class RowsAnswer:
    """Rows, gathered in the thread's buffer and sent at once."""

    def __init__(self, source: RowSource, counters: Counters | None) -> None:
        """``counters`` None: these rows are not counted as content."""
        self._source = source
        self._counters = counters
        self._head = b""
        self._taken = Taken([], [])
        self._ends: list[int] = []
        """Where each row ends in the body."""
        self._ready = memoryview(b"")
        self._sent = 0
        self._row = 0
        """Rows that are sent to their ends."""
        self._inside = 0
        """Bytes of the row ``_row`` that are sent."""

    @property
    def done(self) -> bool:
        return bool(self._head) and self._sent >= len(self._head) and self._row == len(self._ends)

    def prepare(self, room: memoryview) -> int:
        """Gather the rows; the length of the body in bytes."""
        self._taken = self._source.fill(0, None, room[HEAD_ROOM:])
        self._ends = list(accumulate(self._taken.sizes))
        length = self._ends[-1] if self._ends else 0
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
        begin = self._ends[self._row - 1] if self._row else 0
        last = min(bisect_left(self._ends, begin + AGAIN) + 1, len(self._ends))
        sizes = self._taken.sizes[self._row : last]
        if self._source.fill(self._row, last, room).sizes != sizes:
            raise Cut
        return room[self._inside : sum(sizes)]

    def _went(self, count: int) -> None:
        """Bytes are sent: the rows that they belong to are counted."""
        self._ready = self._ready[count:]
        of_head = min(count, max(0, len(self._head) - self._sent))
        self._sent += count
        sums = self._advance(count - of_head)
        if self._counters is not None:
            for archive, number in sums.items():
                if number:
                    self._counters.add("batch", archive, number)
            if count and self.done:
                sizes = self._taken.sizes
                self._counters.note(batches=1, rows=len(sizes), missed=sizes.count(_LENGTH))

    def _advance(self, count: int) -> dict[bytes | None, int]:
        """So many bytes of rows are sent: how many of them belong to which archive."""
        sizes, archives = self._taken
        first, skipped = self._row, self._inside
        begin = (self._ends[first - 1] if first else 0) + skipped
        self._row = last = bisect_right(self._ends, begin + count)
        self._inside = begin + count - (self._ends[last - 1] if last else 0)
        # Whole rows, without what was sent of the first before, with what is sent of the one behind them.
        sums: dict[bytes | None, int] = {None: _LENGTH * (last - first)}
        for size, archive in zip(sizes[first:last], archives[first:last], strict=True):
            sums[archive] = sums.get(archive, 0) + size - _LENGTH
        for row, part, sign in ((first, skipped, -1), (last, self._inside, 1)):
            if part:
                framing = min(part, _LENGTH)
                sums[None] += sign * framing
                sums[archives[row]] = sums.get(archives[row], 0) + sign * (part - framing)
        return sums


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

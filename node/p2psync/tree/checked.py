"""A file that may not be what was hashed any more, read by its chunks: what has the right hash counts.

For files whose stamp does not hold. A copy, a backup that was put back or a change of owner leaves the bytes
as they were; a log has grown behind them; a page of a database was written over. Whether the whole file is
as it was, is looked at apart (`p2psync.tree.recheck`).
"""

from __future__ import annotations

import os
from bisect import bisect_right

from p2psync.format.ids import chunk_id
from p2psync.format.recipe import Recipe
from p2psync.tree.opener import FileContent, Stamp
from p2psync.tree.reading import Truncated, read_exactly


class CheckedFile(FileContent):
    """An open file of which a stretch is sent only after its chunks were read and are right.

    A stretch is read again if the file was touched between that and the end of its sending.
    """

    reads = True

    def __init__(self, fd: int, recipe: Recipe, good: bytes | None = None) -> None:
        """``good``: which chunks were right when the whole file was read last, most significant bit first;
        None if it was not. The descriptor is ours from here on.
        """
        present = None if good is None else (recipe.offsets, good)
        super().__init__(fd, recipe.size, Stamp.of(os.fstat(fd)), present)
        self._recipe = recipe
        self._right = range(0)
        """Bytes that were right when the file had the stamp."""

    def unchanged(self) -> bool:
        """Whether the stretch that was allowed last still is right."""
        now = Stamp.of(os.fstat(self.fd))
        if now != self._stamp:
            self._stamp = now
            if self._read(self._right.start, len(self._right)) != self._right:
                self._right = range(0)
        return bool(self._right)

    def allowed(self, offset: int, wanted: int) -> int:
        if self._right and not self.unchanged():  # what was sent since may be wrong
            return 0
        if offset not in self._right:
            self._stamp = Stamp.of(os.fstat(self.fd))
            self._right = self._read(offset, wanted)
        return min(wanted, self._right.stop - offset) if offset in self._right else 0

    def covers(self, offset: int, length: int) -> bool:
        """Whether these bytes are within the object, and there as far as is known; it is looked where they
        begin.
        """
        return super().covers(offset, length) and (not length or self.allowed(offset, 1) == 1)

    def cost(self, offset: int, length: int) -> int:
        """All of the chunks in which they are: what is beyond the end costs nothing."""
        if offset + length > self.size:
            return 0
        first, last = self._index(offset), self._index(offset + length - 1)
        return sum(self._recipe.chunk(index)[1] for index in range(first, last + 1))

    def read_into(self, offset: int, into: memoryview) -> bool:
        end = offset + len(into)
        if not super().covers(offset, len(into)):
            return False
        for index in range(self._index(offset), len(self._recipe)):
            begin = self._recipe.offsets[index]
            if begin >= end:
                break
            data = self._chunk(index)
            if data is None:
                return False
            part = data[max(0, offset - begin) : end - begin]
            at = max(0, begin - offset)
            into[at : at + len(part)] = part
        return True

    def _read(self, offset: int, length: int) -> range:
        """The bytes of the chunks from that at ``offset`` on that are right, for ``length`` or up to a wrong
        one."""
        offsets = self._recipe.offsets
        first = last = self._index(offset)
        while last < len(self._recipe) and offsets[last] < offset + length and self._chunk(last) is not None:
            last += 1
        return range(offsets[first], offsets[last])

    def _index(self, offset: int) -> int:
        return bisect_right(self._recipe.offsets, offset) - 1

    def _chunk(self, index: int) -> memoryview | None:
        """A chunk, in this thread's buffer; None if it is not right."""
        digest, length = self._recipe.chunk(index)
        try:
            data = read_exactly(self.fd, self._recipe.offsets[index], length)
        except (OSError, Truncated):
            return None
        return data if chunk_id(data) == digest else None

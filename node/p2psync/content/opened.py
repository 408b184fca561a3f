"""What one request reads apart from the files of a directory: each object is opened once for it, and what
all of it costs is bounded.

A row of one byte may cost as much as what it is in: the pages of the index before it, or a chunk that has
to be hashed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from p2psync.content.interface import Content
from p2psync.content.objects import IN_PLACE_MAX

READ_MAX: Final = 256 << 20
"""Bytes that one request may have read, beyond what is in memory: thirty times the longest answer. It takes
a thread a quarter of a second; honest requests ask for whole chunks.
"""
OPEN_MAX: Final = 16
"""Objects that are open at once: rows of one object stand together."""
Search = Callable[[bytes, int, memoryview, bool], tuple[bool, bytes | None]]
"""Reads a stretch of an object from wherever it is: digest, offset, where it is put, and whether a file
is known to have had it. Whether it is here, and the archive in whose tree it was.
"""


class Opened:
    """The objects of one request, for one thread. Close it."""

    def __init__(self, search: Search, opening: Callable[[bytes], Content | None]) -> None:
        self._search = search
        self._opening = opening
        self._left = READ_MAX
        self._met: set[bytes] = set()
        self._absent: set[bytes] = set()
        self._contents: OrderedDict[bytes, Content] = OrderedDict()

    def close(self) -> None:
        while self._contents:
            self._contents.popitem()[1].close()

    def read(self, digest: bytes, offset: int, into: memoryview, indexed: bool) -> tuple[bool, bytes | None]:
        """As `Search`. Not here is also what would cost too much."""
        if digest in self._absent:
            return False, None
        if not indexed and digest not in self._met:
            self._met.add(digest)
            if not self._pay(min(offset, IN_PLACE_MAX) + len(into)):
                return False, None
            return self._search(digest, offset, into, indexed)
        content = self._content(digest)
        if content is None or not self._pay(content.cost(offset, len(into))):
            return False, None
        return content.read_into(offset, into), content.archive

    def _content(self, digest: bytes) -> Content | None:
        if (known := self._contents.get(digest)) is not None:
            self._contents.move_to_end(digest)
            return known
        made = self._opening(digest)
        if made is None:
            self._absent.add(digest)
            return None
        self._contents[digest] = made
        if len(self._contents) > OPEN_MAX:
            self._contents.popitem(last=False)[1].close()
        return made if self._pay(made.cost(0, 1)) else None

    def _pay(self, cost: int) -> bool:
        self._left -= cost
        return self._left >= 0

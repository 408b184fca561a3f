"""One piece of memory through which all bulk bytes go: sources receive into it, the writer writes out of it.

It has no name in any file system (memfd_create(2)), so nothing is left of it once the processes that share it
have ended, however they ended. Who gets which part is decided in one thread, the event loop; no lock is
needed.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from bisect import insort
from typing import Final, NamedTuple

ARENA_BYTES: Final = 32 << 20
"""Bytes of an arena: eight of the largest requests, enough to have some on the wire, one being verified and
some being written; small, since it counts for each process that maps it.
"""
ALIGN: Final = 4096
"""Extents begin on a page, so that two processes never write to the same one."""


class Extent(NamedTuple):
    """A part of an arena, in bytes."""

    offset: int
    size: int


class Arena:
    """Memory in extents. ``fd`` is what another process maps; -1 where the system has no memfd_create(2)."""

    def __init__(self, size: int = ARENA_BYTES) -> None:
        self.size = size
        if hasattr(os, "memfd_create"):
            self.fd = os.memfd_create("p2psync", os.MFD_CLOEXEC)
            os.ftruncate(self.fd, size)
            self._map = mmap.mmap(self.fd, size)
        else:
            self.fd = -1
            self._map = mmap.mmap(-1, size)
        self.view = memoryview(self._map)
        self._free: list[Extent] = [Extent(0, size)]

    @property
    def free(self) -> int:
        """Bytes that are free, perhaps not in one piece."""
        return sum(extent.size for extent in self._free)

    def has(self, size: int) -> bool:
        """Whether there is an extent of ``size`` bytes now."""
        return any(extent.size >= size for extent in self._free)

    def take(self, size: int) -> Extent | None:
        """An extent of at least ``size`` bytes; None if there is none now."""
        wanted = -(-max(size, 1) // ALIGN) * ALIGN
        for index, extent in enumerate(self._free):
            if extent.size >= wanted:
                if extent.size == wanted:
                    del self._free[index]
                else:
                    self._free[index] = Extent(extent.offset + wanted, extent.size - wanted)
                return Extent(extent.offset, wanted)
        return None

    def give(self, extent: Extent) -> None:
        """An extent, as ``take`` gave it, is free again."""
        insort(self._free, extent)
        index = self._free.index(extent)
        if index + 1 < len(self._free) and _touch(self._free[index], self._free[index + 1]):
            self._free[index : index + 2] = [_joined(self._free[index], self._free[index + 1])]
        if index and _touch(self._free[index - 1], self._free[index]):
            self._free[index - 1 : index + 1] = [_joined(self._free[index - 1], self._free[index])]

    def close(self) -> None:
        """Unmap it. Nobody may be reading or writing it."""
        with contextlib.suppress(BufferError):  # Whoever still holds a part unmaps it by letting go.
            self.view.release()
            self._map.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _touch(one: Extent, other: Extent) -> bool:
    return one.offset + one.size == other.offset


def _joined(one: Extent, other: Extent) -> Extent:
    return Extent(one.offset, one.size + other.size)

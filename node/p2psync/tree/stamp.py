"""What says that a file is still the one that was hashed, and a directory still the one that was listed.

A file's stamp is compared before its content counts. A directory's covers all that is directly in it, and of
the directories in it only what their entries say: what is below them has stamps of its own, so directories
can be checked in any order, by several processes. Keeping stamps is the index's business
(`p2psync.state.rows.DirRow`).
"""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from blake3 import blake3

# A later change is unseen if it falls into the same tick of the file system's clock as the one that was
# read: kernels stamp with a clock of 1 to 10 ms; FAT counts times in 2 s and some network file systems in
# whole seconds.
FINE_TICK_NS: Final = 100_000_000
COARSE_TICK_NS: Final = 2_000_000_000
NO_STAMP: Final = b""
"""In place of a directory's stamp: look at it again next time."""

_VERSION: Final = b"\3"
_NS: Final = 1_000_000_000
_HIGH_BYTE: Final = 1 if sys.byteorder == "little" else 0
_HIGH_HALF: Final = _HIGH_BYTE
DIRECTORY: Final = b"d"
FILE_OR_LINK: Final = b"f"
OTHER: Final = b"x"
_KINDS: Final = b"".join(
    {0x40: DIRECTORY, 0x80: FILE_OR_LINK, 0xA0: FILE_OR_LINK}.get(high & 0xF0, OTHER) for high in range(256)
)
"""By the upper byte of a mode."""

Row = tuple[bytes, int, int, int, int, int]
"""name, mode with type bits, size, mtime_ns, ctime_ns, ino: `p2psync.tree.scan.Found`, or like it."""


class Stamp(NamedTuple):
    """What tells a file that was hashed from one that was changed since. Times in ns."""

    size: int
    mtime_ns: int
    ctime_ns: int
    ino: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def is_racy(mtime_ns: int, ctime_ns: int, hashed_ns: int) -> bool:
    """Whether a file could have changed after it was hashed without any change of its attributes.

    As git's "racily clean" entries (git documentation, technical/racy-git): its times lie so close to the
    moment of reading that a later write may have got the same ones. Both times count: a write sets both.
    A directory with such a file gets `NO_STAMP`.
    """
    coarse = mtime_ns % 1_000_000_000 == 0 and ctime_ns % 1_000_000_000 == 0
    tick = COARSE_TICK_NS if coarse else FINE_TICK_NS
    return hashed_ns > 0 and min(mtime_ns, ctime_ns) >= hashed_ns - tick


class Columns(NamedTuple):
    """Attributes of some names, each as packed numbers of this machine, in their order; times as seconds and
    nanoseconds.
    """

    mode: bytes
    """With type bits, two bytes each."""
    ino: bytes
    size: bytes
    ctime: bytes
    mtime: bytes
    """These have eight bytes each."""
    ctime_ns: bytes
    mtime_ns: bytes
    """Four bytes each."""

    @classmethod
    def of(
        cls,
        modes: Iterable[int],
        inodes: Iterable[int],
        sizes: Iterable[int],
        ctimes_ns: Iterable[int],
        mtimes_ns: Iterable[int],
    ) -> Columns:
        ctimes, mtimes = list(ctimes_ns), list(mtimes_ns)
        return cls(
            array("H", modes).tobytes(),
            array("Q", inodes).tobytes(),
            array("Q", sizes).tobytes(),
            array("q", [time // _NS for time in ctimes]).tobytes(),
            array("q", [time // _NS for time in mtimes]).tobytes(),
            array("I", [time % _NS for time in ctimes]).tobytes(),
            array("I", [time % _NS for time in mtimes]).tobytes(),
        )

    def rows(self, names: Iterable[bytes]) -> Iterator[Row]:
        """The same as rows, one for each of the ``names``."""
        return zip(
            names,
            memoryview(self.mode).cast("H"),
            memoryview(self.size).cast("Q"),
            _in_ns(self.mtime, self.mtime_ns),
            _in_ns(self.ctime, self.ctime_ns),
            memoryview(self.ino).cast("Q"),
            strict=True,
        )

    def part(self, place: int) -> Columns:
        """Of one name only, by its place."""
        of_2, of_4, of_8 = (slice(place * width, place * width + width) for width in (2, 4, 8))
        return Columns(
            self.mode[of_2],
            self.ino[of_8],
            self.size[of_8],
            self.ctime[of_8],
            self.mtime[of_8],
            self.ctime_ns[of_4],
            self.mtime_ns[of_4],
        )

    def kinds(self) -> bytes:
        """A byte for each: `DIRECTORY`, `FILE_OR_LINK` or `OTHER`."""
        return self.mode[_HIGH_BYTE::2].translate(_KINDS)

    def can_be_listed(self) -> bool:
        """Whether all are directories, files and links with times from 1970 to 2106: of others a listing
        holds only some, or none.
        """
        return OTHER not in self.kinds() and not memoryview(self.mtime).cast("I")[
            _HIGH_HALF::2
        ].tobytes().strip(b"\0")

    def without_contents(self, kinds: bytes) -> Columns:
        """The same, with zeros in place of what says nothing of a directory."""
        ino, size, ctime, ctime_ns = map(bytearray, (self.ino, self.size, self.ctime, self.ctime_ns))
        place = kinds.find(DIRECTORY)
        while place >= 0:
            for column in (ino, size, ctime):
                column[place * 8 : place * 8 + 8] = bytes(8)
            ctime_ns[place * 4 : place * 4 + 4] = bytes(4)
            place = kinds.find(DIRECTORY, place + 1)
        return Columns(
            self.mode, bytes(ino), bytes(size), bytes(ctime), self.mtime, bytes(ctime_ns), self.mtime_ns
        )


def directory_stamp(rows: Iterable[Row]) -> bytes:
    """32 bytes that change with anything directly in a directory. `rows` are what a listing of it would have,
    by name: a stamp goes with a listing only if that has all of them, and nothing else.

    Of files and links all attributes count; of directories mode and mtime, which changes with the names in
    them: their inodes, sizes and ctimes tell nothing that their own stamps do not.
    """
    names, modes, sizes, mtimes, ctimes, inodes = list(zip(*rows, strict=True)) or [()] * 6
    return stamp_of(names, Columns.of(modes, inodes, sizes, ctimes, mtimes))


def stamp_of(names: Sequence[bytes], columns: Columns) -> bytes:
    """As `directory_stamp`, of columns: names, and what lstat(2) tells of them."""
    kinds = columns.kinds()
    if DIRECTORY in kinds:
        columns = columns.without_contents(kinds)
    return blake3(b"".join((_VERSION, len(names).to_bytes(8, "big"), b"\0".join(names), *columns))).digest()


def _in_ns(seconds: bytes, ns: bytes) -> list[int]:
    whole = zip(memoryview(seconds).cast("q"), memoryview(ns).cast("I"), strict=True)
    return [second * _NS + more for second, more in whole]

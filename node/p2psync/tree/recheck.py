"""Whether a file whose stamp does not hold still has what was hashed: copied, given another owner, put back
from a backup, or grown behind it. Reads only such files, chunk by chunk, as their recipes have them.

What follows from it for the index, and when it is done, is for whoever asks (`p2psync.daemon.recheck`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from p2psync.format.ids import chunk_id
from p2psync.format.recipe import Recipe
from p2psync.state.rows import FileRow, was_put
from p2psync.tree.opener import Stamp, open_regular
from p2psync.tree.reading import Truncated, read_exactly
from p2psync.tree.stamp import is_racy


class Checked(NamedTuple):
    """What was found of a file that is not as its row has it."""

    stamp: Stamp | None
    """Of what is there; None where there is no regular file, or it cannot be read."""
    left: bytes
    """Which of the chunks are there, most significant bit first."""
    whole: bool
    """Whether all are: then nothing is lost, though there may be more behind them."""
    problem: str = ""
    """What is wrong with the file, as a clause after its name; empty if nothing is lost."""
    row: FileRow | None = None
    """The row that the file has from now on, if it has this content and nothing else, and was not touched so
    recently that a further change might show nowhere."""

    def is_unsettled(self, row: FileRow) -> bool:
        """Whether it has all and nothing else, but is to be looked at again for that."""
        return self.whole and self.row is None and self.stamp is not None and self.stamp.size == row.size


MISSING: Final = Checked(None, b"", whole=False, problem="is missing")
UNREADABLE: Final = Checked(None, b"", whole=False, problem="cannot be read, or is no file any more")


def stamp_at(folder: int, name: bytes) -> Stamp | None:
    """The stamp of what is at a name in an open directory; None if nothing is."""
    try:
        return Stamp.of(os.stat(name, dir_fd=folder, follow_symlinks=False))
    except OSError:
        return None


def stamp_in(row: FileRow) -> Stamp:
    """The stamp that a row has."""
    return Stamp(row.size, row.mtime_ns, row.ctime_ns, row.ino)


def recheck(folder: int, row: FileRow, recipe: Recipe, breathe: Callable[[], None]) -> Checked:
    """Read the file of a row in an open directory. ``recipe`` is its content's; ``breathe`` is called after
    each chunk, to rest, and may raise.
    """
    fd = open_regular(row.name, folder)
    if fd is None:
        return UNREADABLE
    try:
        began = time.time_ns()
        stamp = Stamp.of(os.fstat(fd))
        left = bytearray((len(recipe) + 7) // 8)
        missing = 0
        offset = 0
        for index, (digest, length) in enumerate(recipe):
            if offset + length <= stamp.size and _is_right(fd, offset, length, digest):
                left[index >> 3] |= 0x80 >> (index & 7)
            else:
                missing += 1
            offset += length
            breathe()
        settled = stamp.size == row.size and Stamp.of(os.fstat(fd)) == stamp
    except OSError:
        return UNREADABLE
    finally:
        os.close(fd)
    if missing:
        problem = "is shorter than it was" if stamp.size < row.size else "has other bytes"
        return Checked(stamp, bytes(left), whole=False, problem=problem)
    if not settled or is_racy(stamp.mtime_ns, stamp.ctime_ns, began):
        return Checked(stamp, bytes(left), whole=True)
    renewed = FileRow(row.name, *stamp, row.digest, 0 if was_put(row) else began)
    return Checked(stamp, bytes(left), whole=True, row=renewed)


def _is_right(fd: int, offset: int, length: int, digest: bytes) -> bool:
    try:
        return chunk_id(read_exactly(fd, offset, length)) == digest
    except Truncated:
        return False

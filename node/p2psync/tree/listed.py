"""What is directly in a directory, as packed columns: for those who mostly find that it is as it was, and
need no object for each name to see that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from p2psync.tree.stamp import DIRECTORY, Columns, Row, stamp_of

_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()


class Listed(NamedTuple):
    """Directories, files and links, by name."""

    names: list[bytes]
    columns: Columns
    linked: int = 0
    """Files among them that have further names, here or elsewhere (hard links)."""

    @classmethod
    def read(cls, fd: int, left_out: Collection[bytes] = ()) -> Listed | None:
        """All names in the directory that is open as ``fd`` but those that are ``left_out``. None where
        they have to be looked at one by one: there are others than directories, files and links, one is
        gone by now, or the system does not tell. Raises OSError.
        """
        from p2psync.tree.statx import look  # noqa: PLC0415 - ctypes is for those only who compare

        found = os.listdir(fd)
        # One call for all of them: os.fsencode takes as long as looking at the file.
        names = sorted("\0".join(found).encode(_ENCODING, _ERRORS).split(b"\0")) if found else []
        if left_out:
            names = [name for name in names if name not in left_out]
        looked = look(fd, names)
        return cls(names, *looked) if looked is not None and looked[0].can_be_listed() else None

    def stamp(self) -> bytes:
        """As ``stamp.directory_stamp`` of its rows."""
        return stamp_of(self.names, self.columns)

    def rows(self) -> list[Row]:
        """All of them."""
        return list(self.columns.rows(self.names))

    def directories(self) -> Iterator[Row]:
        """Those that are directories."""
        kinds = self.columns.kinds()
        place = kinds.find(DIRECTORY)
        while place >= 0:
            yield from self.columns.part(place).rows(self.names[place : place + 1])
            place = kinds.find(DIRECTORY, place + 1)

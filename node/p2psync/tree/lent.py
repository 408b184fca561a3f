"""A directory of our own whose mode keeps us out lends us the permission to enter it while we work there."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Final, NamedTuple

ENTERED: Final = stat.S_IRUSR | stat.S_IXUSR


class Lent(NamedTuple):
    """A directory that we may enter for a while, and what it was before."""

    mode: int
    ctime_ns: int
    """Of the loan: who changes anything in the directory afterwards, or its mode, ends it."""

    @classmethod
    def of(cls, fd: int, place: int | bytes) -> Lent:
        """Make the directory ``place``, open as ``fd``, one that we may enter. Raises OSError."""
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        os.chmod(place, mode | ENTERED)
        return cls(mode, os.fstat(fd).st_ctime_ns)

    def give_back(self, fd: int) -> None:
        """Let it have its mode again, unless it was given another one."""
        with contextlib.suppress(OSError):
            if os.fstat(fd).st_ctime_ns == self.ctime_ns:
                os.fchmod(fd, self.mode)

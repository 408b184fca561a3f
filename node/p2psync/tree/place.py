"""Whether a directory is still the one that it was: what an unmounted disk leaves is an empty directory with
the same name.

Numbers alone do not tell. A device's number may be another one after each start of the machine (dm, USB,
NFS), some file systems have no number of their own that lasts (statfs(2), f_fsid) and some give out inodes
anew. So a directory counts as another one if its inode differs, or device and file system do; and who asks
should take that as a reason for doubt only where the content is gone as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from p2psync.format.limits import INT64_MAX

_FIELDS: Final = 3
MOUNTS: Final = "/proc/self/mountinfo"
"""Where Linux says what is mounted (proc_pid_mountinfo(5)); the fifth field is the place."""
MOUNTS_MAX: Final = 256
"""Places below one directory that are remembered: more have only containers, which have none in a mirror."""
_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")


class Place(NamedTuple):
    """What is remembered of a directory."""

    device: int
    inode: int
    filesystem: int
    """0 where the file system has no number."""

    @classmethod
    def of(cls, path: bytes) -> Place:
        """The directory at ``path``, through symbolic links. Raises OSError."""
        found = os.stat(path)
        return cls(*(n & INT64_MAX for n in (found.st_dev, found.st_ino, os.statvfs(path).f_fsid)))

    @classmethod
    def from_row(cls, row: Any) -> Place | None:
        """As it was kept; None if nothing usable was."""
        if not isinstance(row, Sequence) or len(row) != _FIELDS or not all(isinstance(n, int) for n in row):
            return None
        return cls(*row)

    def is_same(self, other: Place) -> bool:
        """Whether both may be the same directory."""
        same_filesystem = bool(self.filesystem) and self.filesystem == other.filesystem
        return self.inode == other.inode and (self.device == other.device or same_filesystem)

    def is_on_same_filesystem(self, other: Place) -> bool:
        """As far as it can be told: numbers of devices are given out anew."""
        if self.filesystem and other.filesystem:
            return self.filesystem == other.filesystem
        return self.device == other.device


def mounts_below(path: bytes, table: str = MOUNTS) -> list[bytes]:
    """The directories below ``path`` (absolute, real) at which something is mounted, relative to it; none
    where the system does not say.
    """
    try:
        with open(table, "rb") as file:
            fields = [line.split(b" ") for line in file]
    except OSError:
        return []
    places = {_ESCAPED.sub(_unescaped, line[4]) for line in fields if len(line) > 4}
    below = path.rstrip(b"/") + b"/"
    return sorted(
        place.removeprefix(below) for place in places if place.startswith(below) and place != below
    )[:MOUNTS_MAX]


def _unescaped(found: re.Match[bytes]) -> bytes:
    return bytes([int(found[1], 8) & 0xFF])

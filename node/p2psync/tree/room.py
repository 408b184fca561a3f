"""How much room there is for a tree, and how much of it is taken by what will make way."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from p2psync.format.reserved import PARTIAL
from p2psync.tree.beneath import Beneath
from p2psync.tree.place import mounts_below

BLOCK: Final = 512
"""Bytes that ``st_blocks`` counts in (stat(2)), whatever the file system's own blocks are."""


class Room(NamedTuple):
    """What there is room for: bytes, and names of any kind."""

    bytes: int
    names: int | None
    """None where the file system makes as many inodes as it has bytes for."""


def room_at(root: bytes) -> Room:
    """What there is room for below a directory (absolute, real), or where it is going to be: on its disk, and
    on those that are mounted in it. Where that cannot be told, there is room for anything.
    """
    place = Path(os.fsdecode(root))
    while not place.is_dir() and place != place.parent:
        place = place.parent
    free = names = 0
    counted = True
    seen: set[int] = set()
    for each in (os.fsencode(place), *(os.path.join(root, inner) for inner in mounts_below(root))):
        try:
            device, disk = os.stat(each).st_dev, os.statvfs(each)
        except OSError:
            continue  # Whoever writes there says what is wrong.
        if device not in seen:
            seen.add(device)
            # What only root may use (statvfs(3)), it may use.
            is_root = os.geteuid() == 0
            free += (disk.f_bfree if is_root else disk.f_bavail) * disk.f_frsize
            names += disk.f_ffree if is_root else disk.f_favail
            counted = counted and bool(disk.f_files)
    return Room(free, names if counted else None) if seen else Room(sys.maxsize, None)


def taken_by(beneath: Beneath, directory: bytes, names: Iterable[bytes]) -> int:
    """Bytes that files of these names in a directory take; what else there may be takes nothing."""
    taken = 0
    try:
        fd = beneath.dir(directory)
    except OSError:
        return 0
    for name in names:
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            taken += status.st_blocks * BLOCK
    return taken


def taken_by_unfinished(beneath: Beneath) -> int:
    """Bytes that is here of files that are not whole yet."""
    try:
        names = os.listdir(beneath.dir(PARTIAL))
    except OSError:
        return 0
    return taken_by(beneath, PARTIAL, map(os.fsencode, names))

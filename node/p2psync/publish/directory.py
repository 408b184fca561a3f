"""One directory on its way through a walk: what was found in it, what is done, what it waits for. No I/O."""

from __future__ import annotations

from typing import Final

import msgpack
from blake3 import blake3

from p2psync.format.ids import Ref
from p2psync.format.listing import Entry
from p2psync.state import DirRow, FileRow
from p2psync.tree.scan import Found

# A later change is unseen if it falls into the same tick of the file system's clock as the one that was
# read: kernels stamp with a clock of 1 to 10 ms; FAT counts times in 2 s and some network file systems in
# whole seconds.
FINE_TICK_NS: Final = 100_000_000
COARSE_TICK_NS: Final = 2_000_000_000
_STAMP_VERSION: Final = 1


def is_racy(mtime_ns: int, ctime_ns: int, hashed_ns: int) -> bool:
    """Whether a file could have changed after it was hashed without any change of its attributes.

    As git's "racily clean" entries (git documentation, technical/racy-git): its times lie so close to the
    moment of reading that a later write may have got the same ones. Both times count: a write sets both.
    """
    coarse = mtime_ns % 1_000_000_000 == 0 and ctime_ns % 1_000_000_000 == 0
    tick = COARSE_TICK_NS if coarse else FINE_TICK_NS
    return hashed_ns > 0 and min(mtime_ns, ctime_ns) >= hashed_ns - tick


def is_unchanged(found: Found, known: FileRow) -> bool:
    """Whether the content that `known` names is still what the file holds, as far as its attributes can
    tell.
    """
    return (
        found.size == known.size
        and found.mtime_ns == known.mtime_ns
        and found.ctime_ns == known.ctime_ns
        and found.ino == known.ino
        and not is_racy(known.mtime_ns, known.ctime_ns, known.hashed_ns)
    )


class Node:
    """A directory that is being walked. `found` is the directory itself, `rows` what is in it, by name."""

    __slots__ = (
        "begun",
        "depth",
        "done",
        "entries",
        "fd",
        "found",
        "fresh",
        "gone_dirs",
        "gone_files",
        "intact",
        "kept",
        "known_dirs",
        "name",
        "old_listing",
        "parent",
        "path",
        "rows",
        "waiting",
    )

    def __init__(self, parent: Node | None, name: bytes, path: bytes, fd: int, found: Found) -> None:
        self.parent = parent
        self.name = name
        self.path = path
        self.fd = fd
        self.found = found
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.rows: list[Found] = []
        self.waiting = 0  # directories and files in it that are not done
        self.begun = False  # all directories in it are done, its files are looked at
        self.kept = False  # nothing changed: the old listing stands
        self.intact = True  # False: something was left out or may be missed, look again next time
        self.done: dict[bytes, Entry] = {}  # directories in it that are done
        self.entries: list[Entry] = []  # of the new listing
        self.fresh: list[FileRow] = []  # files that were read
        self.gone_files: set[bytes] = set()
        self.gone_dirs: set[bytes] = set()
        self.known_dirs: dict[bytes, DirRow] | None = (
            None  # rows of the directories in it, once they were read
        )
        self.old_listing: Ref | None = None

    def stamp(self) -> bytes:
        """32 bytes that change with anything that goes into the listing.

        A file may have been read in another state than it was listed in: then the state it was read in
        counts.
        """
        rows: list[object] = []
        read = {row.name: row for row in self.fresh}
        if not read and not self.done:
            rows = list(self.rows)
        else:
            for row in self.rows:
                entry = self.done.get(row.name)
                file = read.get(row.name)
                if entry is not None:
                    rows.append(entry[:8])
                elif file is not None:
                    rows.append((row.name, row.mode, *file[1:5]))
                else:
                    rows.append(row)
        return blake3(msgpack.packb([_STAMP_VERSION, rows])).digest()

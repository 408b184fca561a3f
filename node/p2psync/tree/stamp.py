"""What says that a file is still the one that was hashed, and a directory still the one that was listed.

A file's stamp is compared before its content counts. A directory's covers all that is directly in it, and of
the directories in it only what their entries say: what is below them has stamps of its own, so directories
can be checked in any order, by several processes. Keeping stamps is the index's business
(`p2psync.state.rows.DirRow`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable
from operator import itemgetter
from typing import Final, NamedTuple

import msgpack
from blake3 import blake3

from p2psync.format.limits import INT64_MAX
from p2psync.format.reserved import RESERVED_NAMES

# A later change is unseen if it falls into the same tick of the file system's clock as the one that was
# read: kernels stamp with a clock of 1 to 10 ms; FAT counts times in 2 s and some network file systems in
# whole seconds.
FINE_TICK_NS: Final = 100_000_000
COARSE_TICK_NS: Final = 2_000_000_000
NO_STAMP: Final = b""
"""In place of a directory's stamp: look at it again next time."""

_VERSION: Final = 2
_TYPE: Final = 0o170000
_DIR: Final = 0o040000
_PLAIN: Final = frozenset({_DIR, 0o100000, 0o120000})  # directories, files and links: what a listing can hold
_by_name: Final = itemgetter(0)
_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()

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


def directory_stamp(rows: Iterable[Row]) -> bytes:
    """32 bytes that change with anything directly in a directory. `rows` are what a listing of it would have,
    by name: a stamp goes with a listing only if that has all of them, and nothing else.

    Of files and links all attributes count; of directories mode and mtime, which changes with the names in
    them: their inodes, sizes and ctimes tell nothing that their own stamps do not.
    """
    return _stamp([row if row[1] & _TYPE != _DIR else (row[0], row[1], row[3]) for row in rows])


def _stamp(rows: list[Row | tuple[bytes, int, int]]) -> bytes:
    return blake3(msgpack.packb((_VERSION, rows))).digest()


def stamp_of_directory(fd: int, directory: bytes, hidden: Collection[bytes] = ()) -> bytes:
    """The stamp of what is on disk now, where no filter rules apply: `directory_stamp` of a walk's rows, in
    little more than the time of scandir(3) and stat(2).

    `fd` is the directory's descriptor, `directory` its path in the tree; paths in `hidden` are left out, as
    are the folders that p2psync keeps at the root. A temporary name that a killed writer left counts, unlike
    in a walk: a directory with one is to be looked at. Raises OSError: among others, a name vanished
    meanwhile.
    """
    rows: list[Row | tuple[bytes, int, int]] = []
    with os.scandir(fd) as entries:
        for entry in entries:
            st = entry.stat(follow_symlinks=False)
            name = entry.name.encode(_ENCODING, _ERRORS)
            mode = st.st_mode
            kind = mode & _TYPE
            mtime_ns = st.st_mtime_ns
            if kind not in _PLAIN or not -INT64_MAX <= mtime_ns <= INT64_MAX:
                continue  # as a walk leaves it out
            if kind == _DIR:
                rows.append((name, mode, mtime_ns))
            else:
                rows.append((name, mode, st.st_size, mtime_ns, st.st_ctime_ns, st.st_ino))
    if not directory or hidden:
        above = directory + b"/" if directory else b""
        reserved = RESERVED_NAMES if not directory else frozenset[bytes]()
        rows = [row for row in rows if row[0] not in reserved and above + row[0] not in hidden]
    rows.sort(key=_by_name)
    return _stamp(rows)

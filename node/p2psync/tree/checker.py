"""Whether directories are as they were: what is on disk now against the stamp that the index has.

What a stamp covers is described where it is made (``tree.stamp``). Names that a killed writer left are not
part of the stamp that the index keeps, so a directory with one of them counts as changed and is looked into.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Collection
from operator import itemgetter
from typing import Final

from p2psync.format.limits import INT64_MAX
from p2psync.format.reserved import RESERVED_NAMES
from p2psync.tree.beneath import Beneath
from p2psync.tree.listed import Listed
from p2psync.tree.stamp import NO_STAMP, Row, directory_stamp

_TYPE: Final = 0o170000
_PLAIN: Final = frozenset({stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK})
"""What a listing can hold."""
_by_name: Final = itemgetter(0)
_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()


def is_as_it_was(beneath: Beneath, path: bytes, stamp: bytes) -> bool:
    """Whether the directory ``path`` still has ``stamp``; False, too, if it is none or cannot be read."""
    if stamp == NO_STAMP:
        return False
    try:
        return stamp_of_directory(beneath.dir(path), path, beneath.spared) == stamp
    except OSError:
        return False


def stamp_of_directory(fd: int, directory: bytes, hidden: Collection[bytes] = ()) -> bytes:
    """The stamp of what is on disk now, where no filter rules apply: `directory_stamp` of a walk's rows, in
    little more than the time of readdir(3) and stat(2).

    `fd` is the directory's descriptor, `directory` its path in the tree; paths in `hidden` are left out, as
    are the folders that p2psync keeps at the root. A temporary name that a killed writer left counts, unlike
    in a walk: a directory with one is to be looked at. Raises OSError: among others, a name vanished
    meanwhile.
    """
    left_out = names_left_out(directory, hidden)
    listed = Listed.read(fd, left_out)
    return directory_stamp(_rows(fd, left_out)) if listed is None else listed.stamp()


def names_left_out(directory: bytes, hidden: Collection[bytes]) -> Collection[bytes]:
    """The names in a directory that do not count."""
    if directory and not hidden:
        return ()
    above = directory + b"/" if directory else b""
    below = {path[len(above) :] for path in hidden if path.startswith(above)}
    return below if directory else below | RESERVED_NAMES


def _rows(fd: int, left_out: Collection[bytes]) -> list[Row]:
    """What is in a directory and can be in a listing, looked at one by one. Raises OSError."""
    rows: list[Row] = []
    with os.scandir(fd) as entries:
        for entry in entries:
            st = entry.stat(follow_symlinks=False)
            name = entry.name.encode(_ENCODING, _ERRORS)
            can_be_listed = st.st_mode & _TYPE in _PLAIN and -INT64_MAX <= st.st_mtime_ns <= INT64_MAX
            if can_be_listed and name not in left_out:
                rows.append((name, st.st_mode, st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino))
    rows.sort(key=_by_name)
    return rows

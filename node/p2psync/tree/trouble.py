"""What the file system refuses, sorted: one path's own trouble, or the end of all work.

A path's own trouble becomes its result and the next path is tried; what ends all work becomes a ``Broken``
fact, and in the end the sentence that a person reads.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from p2psync.errors import FileError
from p2psync.tree.beneath import file_error
from p2psync.tree.orders import Broken

ENDS_ALL: Final = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENODEV,
        errno.ESTALE,
    }
)
"""No space, no quota, read-only, a broken or vanished disk, a machine at its limits: what is tried next would
meet the same.
"""
NOT_EMPTY: Final = "a directory that is not empty is in the way; move it away, or give --delete"
BUSY: Final = "another fetch is writing there; wait until it ends, or stop it, and run again"


class Stopped(Exception):
    """Nothing more can be done: the file system refused ``doing`` something to ``path`` with ``errno``."""

    def __init__(self, number: int, path: bytes, doing: str) -> None:
        super().__init__(number, path, doing)
        self.errno = number
        self.path = path
        self.doing = doing


def reason(error: OSError, path: bytes, doing: str) -> str:
    """Why this one path could not be made, in words that follow it. Raises Stopped if it is not only this
    one's trouble.
    """
    if error.errno in ENDS_ALL:
        raise Stopped(error.errno, path, doing) from error
    if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
        return NOT_EMPTY
    return error.strerror or str(error)


def explain(broken: Broken, root: bytes) -> FileError:
    """The error that a person reads when the writer cannot go on. ``root`` is DEST."""
    if not broken.errno:
        return FileError(
            f"the process that writes files in {os.fsdecode(root)!r} ended; what is done is kept, run again"
        )
    path = os.path.join(root, broken.path) if broken.path else root
    if broken.errno == errno.EWOULDBLOCK:
        return FileError(f"{broken.doing} {os.fsdecode(path)!r} failed: {BUSY}")
    return file_error(OSError(broken.errno, os.strerror(broken.errno)), path, broken.doing)

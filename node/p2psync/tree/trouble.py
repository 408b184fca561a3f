"""What the file system refuses, sorted: one path's own trouble, or the end of all work.

A path's own trouble becomes its result and the next path is tried; what ends all work becomes a ``Broken``
fact, and in the end the sentence that a person reads. "No space left" can be either (a quota of one
directory, a file larger than what is free), and so can "read-only" (something that is mounted within DEST):
then a block is written at the root of DEST, which tells.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from p2psync.errors import FileError, P2psyncError, show_path
from p2psync.format.reserved import TEMPORARY_PREFIX
from p2psync.holder import busy
from p2psync.tree.beneath import Beneath, file_error
from p2psync.tree.orders import Broken

_OF_ALL: Final = frozenset(
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
"""No space, no quota, read-only, a broken or vanished disk, a machine at its limits: what is tried next may
meet the same, which is then looked at.
"""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
FULL_MAX: Final = 20
"""Paths that are refused for want of space before all work ends: each of them was fetched in vain."""
PROBE_BYTES: Final = 4096
"""What is written, twice, to see whether anything can be: a block."""
_NO_NAME: Final = frozenset({errno.EILSEQ, errno.EINVAL})
NOT_EMPTY: Final = "a directory that is not empty is in the way; move it away, or give --delete"


class Stopped(Exception):
    """Nothing more can be done: the file system refused ``doing`` something to ``path`` with ``errno``."""

    def __init__(self, number: int, path: bytes, doing: str) -> None:
        super().__init__(number, path, doing)
        self.errno = number
        self.path = path
        self.doing = doing


class Trouble:
    """Sorts what is refused in one DEST."""

    def __init__(self, beneath: Beneath) -> None:
        self._beneath = beneath
        self._full = 0

    def reason(self, error: OSError, path: bytes, doing: str) -> str:
        """Why this one path could not be made, in words that follow it. Raises Stopped if it is not only
        this one's trouble.
        """
        number = error.errno or 0
        self._full += number in _FULL
        if number in _OF_ALL and (self._full > FULL_MAX or not self._works()):
            raise Stopped(number, path, doing) from error
        if number in (errno.ENOTEMPTY, errno.EEXIST):
            return NOT_EMPTY
        if number in _NO_NAME:
            return f"the file system does not take that name ({error.strerror})"
        return error.strerror or str(error)

    def _works(self) -> bool:
        """Whether anything can be written to DEST. Where we may not make a file there, it is taken for
        granted.
        """
        name = TEMPORARY_PREFIX + b"%d" % os.getpid()
        try:
            root = self._beneath.dir(b"")
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=root)
            try:
                written = os.write(fd, bytes(PROBE_BYTES)) + os.pwrite(fd, bytes(PROBE_BYTES), PROBE_BYTES)
                os.utime(fd)
                os.rename(name, name, src_dir_fd=root, dst_dir_fd=root)
                return written == 2 * PROBE_BYTES
            finally:
                os.close(fd)
                os.unlink(name, dir_fd=root)
        except OSError as error:
            return error.errno not in _OF_ALL


def explain(broken: Broken) -> P2psyncError:
    """The error that a person reads when the writer cannot go on."""
    if not broken.errno:
        return FileError(
            "the process that writes files ended before its work was done; what is there is kept, run again"
        )
    if broken.errno == errno.ESTALE:
        return FileError(
            f"{show_path(broken.path)!r} is not the directory any more that it was when the fetch began, or "
            "its file system was taken away; what was fetched is there, run again"
        )
    if broken.errno == errno.EWOULDBLOCK:
        return busy(broken.doing, repr(show_path(broken.path)))
    return file_error(OSError(broken.errno, os.strerror(broken.errno)), broken.path, broken.doing)

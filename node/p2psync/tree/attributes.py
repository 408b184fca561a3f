"""Modes and times: the one place where those of a file, directory or link are compared and set.

A mode or a time of None is to be left as it is. Every number of nanoseconds is a time: those before 1970 are
negative. Access times are set to the present, as reading what was just written would.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import Final

_NOT_GRANTED: Final = frozenset({errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})
"""It is not ours, or the file system has no modes or no such time."""


class NotDressed(OSError):
    """A file or link is in its place, but without the mode and the time that it should have."""

    def __init__(self, refused: OSError) -> None:
        super().__init__(refused.errno, f"it is there, but without its mode and time ({refused.strerror})")


def not_granted(error: OSError) -> NotDressed:
    """What is said of a file that gets its place without them. Raises ``error`` if it is no refusal of these,
    but trouble that any write might meet.
    """
    if error.errno not in _NOT_GRANTED:
        raise error
    return NotDressed(error)


def differ(found: os.stat_result, mode: int | None, mtime_ns: int | None) -> bool:
    """Whether what ``found`` describes has another mode (permission bits) or modification time."""
    return (mode is not None and stat.S_IMODE(found.st_mode) != mode) or (
        mtime_ns is not None and found.st_mtime_ns != mtime_ns
    )


def apply(fd: int, mode: int | None, mtime_ns: int | None) -> os.stat_result:
    """Set mode and time of the open file or directory ``fd``; returns its attributes afterwards. Raises
    OSError.

    What is right already is not touched: to set it would change the ctime, and somebody who may write to a
    file that is not his may not set its mode. Of the two, one may be granted where the other is not.
    """
    found = os.fstat(fd)
    if not differ(found, mode, mtime_ns):
        return found
    refused: OSError | None = None
    if mtime_ns is not None and found.st_mtime_ns != mtime_ns:
        try:
            os.utime(fd, ns=(time.time_ns(), mtime_ns))
        except OSError as error:
            refused = error  # The mode may be granted all the same.
    if mode is not None and stat.S_IMODE(found.st_mode) != mode:
        os.fchmod(fd, mode)
    if refused is not None:
        raise refused
    return os.fstat(fd)


def apply_to_link(directory: int, name: bytes, mtime_ns: int) -> None:
    """Set the time of a symbolic link itself; it has no mode of its own. Raises OSError."""
    os.utime(name, ns=(time.time_ns(), mtime_ns), dir_fd=directory, follow_symlinks=False)

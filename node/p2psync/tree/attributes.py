"""Modes and times: the one place where those of a file, directory or link are compared and set.

A mode or a time of None is to be left as it is. Every number of nanoseconds is a time: those before 1970 are
negative. Access times are set to the present, as reading what was just written would.
"""

from __future__ import annotations

import os
import stat
import time


def differ(found: os.stat_result, mode: int | None, mtime_ns: int | None) -> bool:
    """Whether what ``found`` describes has another mode (permission bits) or modification time."""
    return (mode is not None and stat.S_IMODE(found.st_mode) != mode) or (
        mtime_ns is not None and found.st_mtime_ns != mtime_ns
    )


def apply(fd: int, mode: int | None, mtime_ns: int | None) -> os.stat_result:
    """Set mode and time of the open file or directory ``fd``; returns its attributes afterwards. Raises
    OSError.

    What is right already is not touched: to set it would change the ctime, and somebody who may write to a
    file that is not his may not set its mode.
    """
    found = os.fstat(fd)
    if not differ(found, mode, mtime_ns):
        return found
    if mode is not None and stat.S_IMODE(found.st_mode) != mode:
        os.fchmod(fd, mode)
    if mtime_ns is not None and found.st_mtime_ns != mtime_ns:
        os.utime(fd, ns=(time.time_ns(), mtime_ns))
    return os.fstat(fd)


def apply_to_link(directory: int, name: bytes, mtime_ns: int) -> None:
    """Set the time of a symbolic link itself; it has no mode of its own. Raises OSError."""
    os.utime(name, ns=(time.time_ns(), mtime_ns), dir_fd=directory, follow_symlinks=False)

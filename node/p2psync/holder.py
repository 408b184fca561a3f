"""Who holds a lock, in words for whoever waits for it: the process and its command line, as Linux tells them
in /proc (proc(5)). Elsewhere only that somebody does.
"""

from __future__ import annotations

import os
import re
from typing import Final

from p2psync.errors import BusyError, show_path

COMMAND_SHOWN: Final = 120
"""Characters of a command line: enough to know it by, and a sentence all the same."""
_WRITER: Final = b"p2psync.tree.writer_main"
_LOCK: Final = re.compile(rb"FLOCK\s+\S+\s+\S+\s+(\d+)\s+([0-9a-f]+):([0-9a-f]+):(\d+)\s")
"""A line of /proc/locks: process id, then device and inode of the file."""


def busy(who: str, on: str) -> BusyError:
    """What a person reads who has to wait."""
    return BusyError(
        f"another p2psync is at work on {on}: {who}; wait until it ends, or stop it, and run again"
    )


def holder_of(fd: int) -> str:
    """Who has the open file or directory ``fd`` locked with flock(2)."""
    found = os.fstat(fd)
    place = os.major(found.st_dev), os.minor(found.st_dev), found.st_ino
    for pid, major, minor, inode in _LOCK.findall(_read("/proc/locks")):
        if (int(major, 16), int(minor, 16), int(inode)) == place:
            return describe(int(pid))
    return "a process that this system does not name"


def describe(pid: int) -> str:
    """A process by its number and, if that can be told, what it was started as.

    >>> describe(0)
    'process 0'
    """
    command = _command(pid)
    if _WRITER in command:  # It writes for another process, which somebody has started.
        parent = re.search(rb"^PPid:\s*(\d+)", _read(f"/proc/{pid}/status"), re.MULTILINE)
        if parent is not None:
            pid, command = int(parent[1]), _command(int(parent[1]))
    words = command.rstrip(b"\0").split(b"\0") if command else []
    if len(words) > 1 and os.path.basename(words[0]).startswith(b"python"):
        words = words[2:] if words[1] == b"-m" else words[1:]
    if not words:
        return f"process {pid}"
    text = show_path(b" ".join([os.path.basename(words[0]), *words[1:]]))
    if len(text) > COMMAND_SHOWN:
        text = text[: COMMAND_SHOWN - 1] + "…"
    return f"process {pid} ({text})"


def _command(pid: int) -> bytes:
    return _read(f"/proc/{pid}/cmdline")


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""

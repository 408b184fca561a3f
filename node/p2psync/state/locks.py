"""Locks between processes: flock(2) on files in the state directory. The system releases them when a
process dies.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from p2psync.errors import FileError
from p2psync.holder import busy, describe, holder_of

PROBES_LAST: Final = 0.2
"""Seconds for which a lock is tried: who only looks whether it is held has it for a moment."""
WRITABLE: Final = "make the state directory and all in it writable to this user, or name another with --state"
"""What to do where the state directory, or a file in it, cannot be opened."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@contextmanager
def lock(folder: Path, name: str, *, on: str = "", patience: float | None = PROBES_LAST) -> Iterator[None]:
    """Hold the lock `name` in `folder` for the length of the block. `on`: what it is about, for people;
    `patience`: seconds for which it is tried, None: until it is had.

    Two holders exclude each other also within one process. Raises BusyError if it is held for longer, naming
    the process that holds it; FileError if it cannot be opened; ValueError for a name that is no plain file
    name.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a lock")
    path = folder / name
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FileError(f"the lock {path} cannot be opened ({error.strerror}): {WRITABLE}") from error
    try:
        if not _taken(fd, patience):
            holder = os.pread(fd, 32, 0).strip()
            who = describe(int(holder)) if holder.isdigit() else holder_of(fd)
            raise busy(who, on or f"this (lock {path})")
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        # The file stays: removing it would let a third process lock a file that nobody else sees.
        yield
    finally:
        os.close(fd)


def is_held(folder: Path, name: str) -> bool:
    """Whether somebody holds the lock `name` in `folder`. Raises FileError if that cannot be told."""
    try:
        fd = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise FileError(
            f"the lock {folder / name} cannot be opened ({error.strerror}): {WRITABLE}"
        ) from error
    try:
        # Shared: those who look do not take each other for a holder.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _taken(fd: int, patience: float | None) -> bool:
    """Take the lock of an open file, or find that another process holds it."""
    if patience is None:
        fcntl.flock(fd, fcntl.LOCK_EX)
        return True
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(PROBES_LAST / 20)
        else:
            return True

"""A state directory is its owner's alone: folders have the mode 0700 and files 0600, whatever the umask is,
and whatever was there before.

The index says which files a user has, and who was asked for them; SQLite makes it readable to everybody,
and the files beside it (-wal, -shm) like the index. What is written in other files is their writers'.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

INDEX: Final = "index.sqlite"
OURS: Final = frozenset(
    {
        *("node.key", "node.address", "tidied", "keys", "locks", "seeds", "origins", "queued", "rsyncd"),
        *("contacts.msgpack", "records.msgpack", "udp-blocked", "control.sock", "control.sock.new"),
        *(INDEX, f"{INDEX}-wal", f"{INDEX}-shm", f"{INDEX}-journal"),
    }
)
"""What may be in a state directory. One that has anything else in it, such as a home directory, is more than
that: what is ours in it is made private, and the directory itself stays as it is.
"""
FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
_PATH_ONLY: Final[int] = getattr(os, "O_PATH", 0) if os.path.isdir("/proc/self/fd") else 0
"""Opens a name without what it names: closing that releases no lock of a database (fcntl(2), open(2))."""


def make_folder(path: Path) -> None:
    """Make a folder that only its owner can enter, with those above it; one that is there stays as it is.
    Raises OSError.
    """
    if path.is_dir():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(FOLDER_MODE)
        path.chmod(FOLDER_MODE)  # mkdir(2) takes away what the umask has


def make_file(path: Path) -> None:
    """Make an empty file that only its owner can read, unless there is one already. Raises OSError."""
    # Not opened if it is there: closing a database's file would release locks on it (fcntl(2)).
    if path.exists():
        return
    with contextlib.suppress(FileExistsError):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        try:
            os.fchmod(fd, FILE_MODE)
        finally:
            os.close(fd)


def make_private(folder: Path) -> None:
    """Take from others what an older version, or whoever made the directory, left them of a state directory.

    What belongs to another user stays as it is, unless we are root.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            names = os.listdir(fd)
            for name in OURS.intersection(names):
                _close_to_others(name, fd)
            if all(_is_ours(name) for name in names):
                _close_to_others(".", fd)
        finally:
            os.close(fd)
    except OSError as error:
        log.warning("%s: what others may read there could not be taken from them: %s", folder, error.strerror)


def _is_ours(name: str) -> bool:
    """Whether we have made what has this name; a file is called ``.NAME.…`` until it is whole."""
    return name in OURS or any(name.startswith(f".{each}.") for each in OURS)


def _close_to_others(name: str, folder: int) -> None:
    """Leave a file or folder in an open folder to its owner. A link is not followed, nor a file with several
    names touched: root may be at work in the directory of somebody who is not honest.
    """
    with contextlib.suppress(FileNotFoundError):  # Another process's, gone by now.
        if not _PATH_ONLY:
            _change(name, os.stat(name, dir_fd=folder, follow_symlinks=False), folder)
            return
        fd = os.open(name, _PATH_ONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            _change(f"/proc/self/fd/{fd}", os.fstat(fd), None)
        finally:
            os.close(fd)


def _change(path: str, found: os.stat_result, folder: int | None) -> None:
    """``path`` is the name in ``folder``, or one by which the kernel knows what is open."""
    is_folder = stat.S_ISDIR(found.st_mode)
    regular = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
    wanted = FOLDER_MODE if is_folder else FILE_MODE
    if not (is_folder or regular) or os.geteuid() not in (0, found.st_uid):
        return
    if stat.S_IMODE(found.st_mode) != wanted:
        os.chmod(path, wanted, dir_fd=folder, follow_symlinks=folder is None)

"""Small private files of the state directory: written whole or not at all, readable by their owner alone."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from pathlib import Path
from typing import Final

from p2psync.errors import FileError
from p2psync_dht.files import sweep, temporary_of

log = logging.getLogger(__name__)

FOLDERS_DEEP: Final = 1
"""Levels of folders below a state directory: ``keys``, ``locks`` and ``seeds`` have none in them."""


def write_private(path: Path, data: bytes, *, replace: bool) -> bool:
    """Write `path` with mode 0600 so that readers see all of it or nothing, also after a crash.

    With `replace` off an existing file is left alone and the answer is False. Raises FileError.
    """
    sweep(path)
    temporary = temporary_of(path)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        if replace:
            os.replace(temporary, path)
        else:
            # A link fails where the name is taken: the first of several writers wins, and nobody sees half
            # a file.
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
        _sync_folder(path.parent)
    except OSError as error:
        raise FileError(
            f"{path} cannot be written ({error.strerror}): free space there, or let this user write there"
        ) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    return True


def read_private(path: Path) -> bytes | None:
    """The bytes of `path`, None if it does not exist. Raises FileError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileError(f"{path} cannot be read ({error.strerror}): make it readable to this user") from error


def leave_to_owner(folder: Path) -> None:
    """Give what root has made in somebody else's state directory to its owner; nothing if we are not root.

    Root looks at a service by naming its state directory. The service runs as another user, and would not
    start again where it finds a file that it may not read.
    """
    if os.geteuid() != 0:
        return
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            owner = os.fstat(fd)
            if owner.st_uid != 0:
                give(fd, owner.st_uid, owner.st_gid)
        finally:
            os.close(fd)
    except OSError as error:
        log.warning("%s: what root made there could not be given to its owner: %s", folder, error.strerror)


def give(folder: int, user: int, group: int, *, maker: int = 0, deep: int = FOLDERS_DEEP) -> None:
    """Give what belongs to `maker` in an open folder to a user who may write there, and need not be honest.

    A link could name any file of the system: symbolic ones are passed over, and files with several names.
    Raises OSError.
    """
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # Another process's temporary file.
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            # Opened only if needed: closing a database's file would release locks on it (fcntl(2)).
            if not stat.S_ISDIR(found.st_mode) and not _is_given(found, maker):
                continue
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            try:
                opened = os.fstat(fd)
                if _is_given(opened, maker):
                    os.fchown(fd, user, group)
                if deep and stat.S_ISDIR(opened.st_mode):
                    give(fd, user, group, maker=maker, deep=deep - 1)
            finally:
                os.close(fd)


def _is_given(status: os.stat_result, maker: int) -> bool:
    named_once = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
    return status.st_uid == maker and (named_once or stat.S_ISDIR(status.st_mode))


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

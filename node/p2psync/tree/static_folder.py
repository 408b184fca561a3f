"""The folder of static files on disk: opened, read, written by rename, tidied. What its files mean is
``p2psync.publish.static``'s.

Each file is there whole or not at all, also after a crash: it is written under another name, brought to the
disk, and renamed. Everybody may read it, whatever the umask is, since a web server has to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from typing import Final

from p2psync.errors import FileError, UsageError, show_path
from p2psync.format.pack import HEAD, HEADS, PACKS
from p2psync.format.reserved import TEMPORARY_PREFIX
from p2psync.tree.beneath import file_error

OURS: Final = frozenset({os.fsencode(name) for name in (HEAD, HEADS, PACKS)})
"""The names that the folder may have in it."""
SHOWN: Final = 3
"""Other names that are told."""
READABLE: Final = 0o644
ENTERED: Final = 0o755
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class StaticFolder:
    """One such folder, open. Use it from one thread; close it."""

    def __init__(self, path: bytes) -> None:
        """``path`` is absolute; it and the folders in it are made where they are missing.

        Raises:
            UsageError: something of somebody else's is there. FileError: it cannot be made or opened.
        """
        self.path = path
        self._folders: dict[str, int] = {}
        try:
            self._folders[""] = self._open(path, None)
            others = sorted(name for name in os.listdir(self._folders[""]) if not _is_ours(os.fsencode(name)))
            if others:
                told = ", ".join(show_path(name) for name in others[:SHOWN])
                raise UsageError(
                    f"{show_path(path)} has files that are not p2psync's ({told}): name another folder for "
                    "the static files, --static=NAME in the directory that is published, or --static=/PATH "
                    "beside it"
                )
            for name in (HEADS, PACKS):
                self._folders[name] = self._open(os.fsencode(name), self._folders[""])
        except OSError as error:
            self.close()
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise UsageError(
                    f"{show_path(path)} is no folder of static files, but something else: name another one "
                    "with --static=NAME, or --static=/PATH"
                ) from None
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise FileError(
                    f"{show_path(path)} cannot be made or opened ({os.strerror(error.errno)}): let this user "
                    "write there, or name a place where it may with --static=/PATH"
                ) from error
            raise file_error(error, path, "making") from error
        except UsageError:
            self.close()
            raise

    @staticmethod
    def _open(name: bytes, parent: int | None) -> int:
        try:
            os.mkdir(name, dir_fd=parent)
            made = True
        except FileExistsError:
            made = False
        # Whoever may write in the tree could lead us elsewhere by a link.
        fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        if made:
            os.fchmod(fd, ENTERED)
        return fd

    def close(self) -> None:
        while self._folders:
            os.close(self._folders.popitem()[1])

    def open(self, name: str) -> int | None:
        """A file, open for reading; the caller closes it. None: it is not there. Raises FileError."""
        folder, base = self._place(name)
        try:
            fd = os.open(base, _READ, dir_fd=folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error(error, name, "reading") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        return fd

    def read(self, name: str, limit: int) -> bytes | None:
        """The beginning of a file, ``limit`` bytes at most; None: it is not there. Raises FileError."""
        fd = self.open(name)
        if fd is None:
            return None
        try:
            return os.pread(fd, limit, 0)
        except OSError as error:
            raise self._error(error, name, "reading") from error
        finally:
            os.close(fd)

    def put(self, name: str, pieces: Iterable[bytes]) -> None:
        """Write a file, in place of the one that is there. Raises FileError, and what ``pieces`` raises."""
        folder, base = self._place(name)
        temporary = TEMPORARY_PREFIX + os.urandom(8).hex().encode()
        try:
            fd = os.open(temporary, _WRITE, READABLE, dir_fd=folder)
            try:
                os.fchmod(fd, READABLE)
                for piece in pieces:
                    view = memoryview(piece)
                    while view:
                        view = view[os.write(fd, view) :]
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temporary, base, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        except OSError as error:
            raise self._error(error, name, "writing") from error
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)

    def keep(self, folder: str, names: Iterable[str]) -> None:
        """Remove all from ``heads`` or ``packs`` but the files of these names. Raises FileError."""
        kept = set(names)
        try:
            for name in os.listdir(self._folders[folder]):
                if f"{folder}/{name}" not in kept:
                    os.unlink(name, dir_fd=self._folders[folder])
        except OSError as error:
            raise self._error(error, folder, "tidying") from error

    def remove(self) -> None:
        """Remove the folder and what is in it. Raises FileError."""
        top = self._folders[""]
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(HEAD, dir_fd=top)
            for folder in (HEADS, PACKS):
                self.keep(folder, ())
                os.rmdir(folder, dir_fd=top)
            for name in os.listdir(top):
                os.unlink(name, dir_fd=top)
            os.rmdir(self.path)
        except OSError as error:
            raise file_error(error, self.path, "removing") from error

    def _place(self, name: str) -> tuple[int, str]:
        folder, _, base = name.rpartition("/")
        return self._folders[folder], base

    def _error(self, error: OSError, name: str, doing: str) -> FileError:
        return file_error(error, os.path.join(self.path, os.fsencode(name)), doing)


def _is_ours(name: bytes) -> bool:
    return name in OURS or name.startswith(TEMPORARY_PREFIX)

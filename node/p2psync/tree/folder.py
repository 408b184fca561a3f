"""The folder ``.p2psync.partial`` at the root of DEST, where files are made before they are put in place.

It holds objects of several chunks under their ids, with their full size and holes where chunks are missing,
so that a later run finds them; what made way, under ``old-*``, until the end of the run; and small files
under ``tmp-*`` for a moment. Where DEST itself may not be written to, a directory of the run's own in
TMPDIR takes its place, and nothing of it stays. While it is open it is locked (flock(2)), also for
processes under other state directories: nobody else makes files in this DEST, and what a killed run left
belongs to nobody.

Nobody else may write to it, since what lies in it is put in place as it is: where others may write to DEST,
one of them may have made a folder of this name for us to work in. Such a one is removed, as what is in it is
of no use to us; where that is not ours to do, TMPDIR serves.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from typing import TYPE_CHECKING, Final

from p2psync.format.reserved import PARTIAL
from p2psync.holder import holder_of
from p2psync.tree.beneath import Beneath
from p2psync.tree.identity import ChangedMeanwhile, identity
from p2psync.tree.removal import remove_tree

if TYPE_CHECKING:
    from p2psync.tree.aside import Aside

CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
LOCK_LOOK: Final = 0.01
"""Seconds between tries to lock the folder: the writer of a run that was killed is at its last order."""
TRIES: Final = 8
"""Folders of others that are removed before it is given up: somebody makes them as quickly."""
_NOT_OURS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_ALL: Final = stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO


class FolderBusy(OSError):
    """Another process makes files in this DEST."""

    def __init__(self, holder: str) -> None:
        super().__init__(errno.EWOULDBLOCK, f"{holder} is at work there")
        self.holder = holder


class Folder:
    """The folder, made, locked and swept."""

    def __init__(self, beneath: Beneath, wait: float = 0.0) -> None:
        """``wait``: seconds to wait while another process has it.

        Raises:
            OSError: FolderBusy if another process has it; what the file system refuses.
        """
        self._beneath = beneath
        self.temporary: Final = b"tmp-%d" % os.getpid()
        """A name in it for one file at a time."""
        self.bits = _ALL
        """The permission bits that open(2) grants there: fewer than all under a umask or a default ACL."""
        self.owner = os.geteuid()
        """Whose files are that we make there: on some file systems, not ours by that number."""
        self._aside: Aside | None = None
        try:
            self.fd = self._open(time.monotonic() + wait)
        except OSError as error:
            if error.errno not in _NOT_OURS:
                raise
            # DEST is not ours, but what is in it may be: files are made elsewhere, and copied to there.
            from p2psync.tree.aside import Aside  # noqa: PLC0415 - seldom needed, and slow to load

            try:
                self._aside = Aside()
            except OSError:
                raise error from None  # TMPDIR takes none either: what DEST says is the matter.
            self.fd = self._aside.fd
            self._own(self.fd)

    def _open(self, until: float) -> int:
        for _ in range(TRIES):
            fd = self._lock(until)
            try:
                if self._own(fd):
                    return fd
                self._remove(fd)
            except OSError:
                os.close(fd)
                raise
            os.close(fd)
        raise _not_ours()

    def _remove(self, fd: int) -> None:
        try:
            self._beneath.remove(b"", PARTIAL, identity(fd))
        except OSError as error:
            raise _not_ours() from error

    def _lock(self, until: float) -> int:
        while True:
            try:
                fd = os.dup(self._beneath.make_dir(PARTIAL))
            except ChangedMeanwhile:
                continue  # Another process made it at the same moment.
            finally:
                self._beneath.forget(PARTIAL)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                busy = FolderBusy(holder_of(fd)) if time.monotonic() >= until else None
                os.close(fd)
                if busy is not None:
                    raise busy from None
                time.sleep(LOCK_LOOK)
                continue
            except OSError:
                return fd  # A file system without locks for directories (NFS): as if nobody else were there.
            if self._is_there(fd):
                return fd
            os.close(fd)  # The one who had it removed it.

    def _is_there(self, fd: int) -> bool:
        try:
            found = os.stat(PARTIAL, dir_fd=self._beneath.dir(b""), follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(fd))

    def _own(self, fd: int) -> bool:
        """Sweep the open folder, and see to it that nobody else may write to it; whether it is ours."""
        found = os.fstat(fd)
        try:
            for name in map(os.fsencode, os.listdir(fd)):
                if name.startswith(b"tmp-"):
                    remove_tree(fd, name)
            made = self._try_out(fd)
        except OSError:
            if found.st_uid == os.geteuid():
                raise
            return False
        if found.st_uid != made.st_uid:
            return False
        self.bits, self.owner = stat.S_IMODE(made.st_mode) & _ALL, made.st_uid
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            with contextlib.suppress(OSError):  # There are file systems without modes.
                os.fchmod(fd, stat.S_IRWXU)
        return True

    def _try_out(self, fd: int) -> os.stat_result:
        """What a file is like that is made there."""
        made = os.open(self.temporary, CREATE, _ALL, dir_fd=fd)
        try:
            return os.fstat(made)
        finally:
            os.close(made)
            os.unlink(self.temporary, dir_fd=fd)

    def close(self) -> None:
        """Unlock it, and remove it if it is empty. Where that fails, a later run will use it."""
        if self._aside is not None:
            self._aside.close()
            return
        with contextlib.suppress(OSError):
            os.rmdir(PARTIAL, dir_fd=self._beneath.dir(b""))
        os.close(self.fd)


def _not_ours() -> OSError:
    return PermissionError(errno.EACCES, "it belongs to somebody else", PARTIAL)

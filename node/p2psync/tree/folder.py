"""The folder ``.p2psync.partial`` at the root of DEST, where files are made before they are put in place.

It holds objects of several chunks under their ids, with their full size and holes where chunks are missing,
so that a later run finds them; what made way, under ``old-*``, until the end of the run; and small files
under ``tmp-*`` for a moment. Where DEST itself may not be written to, a directory of the run's own in
TMPDIR takes its place, and nothing of it stays. While it is open it is locked (flock(2)), also for
processes under other state directories: nobody else makes files in this DEST, and what a killed run left
belongs to nobody.
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

if TYPE_CHECKING:
    from p2psync.tree.aside import Aside

CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
LOCK_LOOK: Final = 0.01
"""Seconds between tries to lock the folder: the writer of a run that was killed is at its last order."""
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
        self._aside: Aside | None = None
        try:
            self.fd = self._lock(time.monotonic() + wait)
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
        for name in map(os.fsencode, os.listdir(self.fd)):
            if name.startswith(b"tmp-"):
                self._beneath.remove(PARTIAL, name)
        self._beneath.forget(PARTIAL)
        self.bits = self._bits()
        """The permission bits that open(2) grants there: fewer than all under a umask or a default ACL."""

    def _lock(self, until: float) -> int:
        while True:
            fd = os.dup(self._beneath.make_dir(PARTIAL))
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

    def _bits(self) -> int:
        fd = os.open(self.temporary, CREATE, _ALL, dir_fd=self.fd)
        try:
            return stat.S_IMODE(os.fstat(fd).st_mode) & _ALL
        finally:
            os.close(fd)
            os.unlink(self.temporary, dir_fd=self.fd)

    def close(self) -> None:
        """Unlock it, and remove it if it is empty. Where that fails, a later run will use it."""
        if self._aside is not None:
            self._aside.close()
            return
        with contextlib.suppress(OSError):
            os.rmdir(PARTIAL, dir_fd=self._beneath.dir(b""))
        os.close(self.fd)

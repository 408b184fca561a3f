"""A directory of a run's own in TMPDIR, for a DEST in which no folder may be made. It is locked (flock(2))
as long as it is used; one that is not locked was left by a run that was killed, and the next one removes
it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from typing import Final

from p2psync.tree.removal import remove_tree

PREFIX: Final = "p2psync-partial-"
_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Aside:
    """The directory; ``fd`` is it, opened and locked."""

    def __init__(self) -> None:
        """Raises OSError."""
        above = tempfile.gettempdir()
        self._parent = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _sweep(self._parent)
            self.fd, self._name = self._make(above)
        except BaseException:
            os.close(self._parent)
            raise

    def _make(self, above: str) -> tuple[int, bytes]:
        while True:
            name = os.fsencode(os.path.basename(tempfile.mkdtemp(prefix=PREFIX, dir=above)))
            with contextlib.suppress(FileNotFoundError):  # Swept by another run, which found it unlocked.
                fd = os.open(name, _FLAGS, dir_fd=self._parent)
                try:
                    ours = _lock(fd)
                except OSError:
                    return fd, name  # No locks here, so that nobody sweeps either.
                if ours and _is_there(self._parent, name, fd):
                    return fd, name
                os.close(fd)

    def close(self) -> None:
        """Remove it. Where that fails, a later run will."""
        with contextlib.suppress(OSError):
            remove_tree(self._parent, self._name)
        os.close(self.fd)
        os.close(self._parent)


def _sweep(parent: int) -> None:
    """Remove what runs of this user left that were killed."""
    for name in map(os.fsencode, os.listdir(parent)):
        if not name.startswith(PREFIX.encode()):
            continue
        with contextlib.suppress(OSError):
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
                continue
            fd = os.open(name, _FLAGS, dir_fd=parent)
            try:
                if _lock(fd) and _is_there(parent, name, fd):
                    remove_tree(parent, name)
            finally:
                os.close(fd)


def _lock(fd: int) -> bool:
    """Whether nobody uses it; then it is ours until it is closed. Raises OSError: no locks here (NFS)."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_there(parent: int, name: bytes, fd: int) -> bool:
    return os.path.samestat(os.stat(name, dir_fd=parent, follow_symlinks=False), os.fstat(fd))

"""What makes way in DEST for something new: old files, whose chunks others may still want, and directories
where the snapshot has a file or a link.

A directory goes at the moment when what replaces it comes, whole and verified: the two change places in one
step (renameat2(2), RENAME_EXCHANGE), so whoever looks at DEST, or pulls the plug, sees one or the other.
Until the end of the run it lies in the folder of unfinished files, where its chunks serve. Which directories
may go is decided beforehand; one that was changed since stays.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from itertools import count
from typing import Final

from p2psync.format.paths import join
from p2psync.format.reserved import PARTIAL
from p2psync.tree.beneath import Beneath
from p2psync.tree.exchange import exchange
from p2psync.tree.folder import Folder
from p2psync.tree.identity import ChangedMeanwhile, Identity, identity, identity_at
from p2psync.tree.removal import remove_tree
from p2psync.tree.survey import survey

ASIDE_PREFIX: Final = b"old-"
"""How the names in the folder begin of what made way."""


class InTheWay(OSError):
    """A directory that may go, but cannot be moved."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            errno.EBUSY,
            f"the directory in its place cannot be moved away ({reason}); move or remove it and run again",
        )


class Way:
    """Puts aside what makes way."""

    def __init__(self, beneath: Beneath, folder: Folder, may_go: Mapping[bytes, bytes | None]) -> None:
        """``may_go``: paths of directories that may go, each with the seal that it must have then (None:
        any).
        """
        self._beneath = beneath
        self._folder = folder.fd
        self._may_go = may_go
        self._leftovers = frozenset(map(os.fsencode, os.listdir(folder.fd)))
        self._numbers = count()
        self._displaced: list[tuple[bytes, bytes]] = []
        self._removed = 0

    def take(self) -> tuple[list[tuple[bytes, bytes]], int]:
        """What made way since this was called last, as (where it stood, where it lies now), and how many
        names went with directories.
        """
        taken = self._displaced, self._removed
        self._displaced, self._removed = [], 0
        return taken

    def _name(self) -> bytes:
        """A name in the folder that is free; a killed run may have left some."""
        return next(
            name
            for name in (ASIDE_PREFIX + b"%d" % number for number in self._numbers)
            if name not in self._leftovers
        )

    def keep_file(self, directory: bytes, name: bytes) -> None:
        """Keep the file that is about to be replaced under another name too. Raises OSError."""
        fd = self._beneath.dir(directory)
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISREG(found.st_mode) or not found.st_size:
            return
        aside = self._name()
        try:
            os.link(name, aside, src_dir_fd=fd, dst_dir_fd=self._folder, follow_symlinks=False)
        except OSError:
            return  # No hard links here: those chunks are asked of the network instead.
        self._displaced.append((join(directory, name), join(PARTIAL, aside)))

    def replace_directory(self, name: bytes, directory: bytes, own_name: bytes) -> None:
        """Put ``name``, a file or link in the folder, where the directory ``own_name`` in ``directory``
        stands. An empty one always goes, any other only if it may.

        Raises:
            OSError: ENOTEMPTY if it may not go; ``ChangedMeanwhile``; ``InTheWay``. Both are where they were.
        """
        path = join(directory, own_name)
        which = self._check(path)
        if which is None:
            self._beneath.forget(path)
            fd = self._beneath.dir(directory)
            os.rmdir(own_name, dir_fd=fd)
            os.rename(name, own_name, src_dir_fd=self._folder, dst_dir_fd=fd)
            return
        found = survey(self._beneath, path)
        there = os.dup(self._beneath.dir(path))
        try:
            mode = _make_writable(there)
            self._beneath.forget(path)
            fd = self._beneath.dir(directory)
            try:
                aside = self._exchange(name, fd, own_name, which)
            except OSError as error:
                if mode is not None:
                    os.fchmod(there, mode)
                if isinstance(error, ChangedMeanwhile):
                    raise
                if error.errno != errno.EXDEV:
                    raise InTheWay(error.strerror or str(error)) from error
                if os.fstat(fd).st_dev != os.fstat(self._folder).st_dev:
                    raise  # What replaces it is copied beside it first, and then it goes (``clear_place``).
                # It cannot be moved (it lies in a lower layer of an overlay), but it can be removed.
                self._removed += self._beneath.remove(directory, own_name, which)
                os.rename(name, own_name, src_dir_fd=self._folder, dst_dir_fd=fd)
                return
        finally:
            os.close(there)
        self._displaced.append((path, join(PARTIAL, aside)))
        self._removed += found.names

    def clear_place(self, directory: bytes, own_name: bytes) -> None:
        """Remove the directory ``own_name`` in ``directory``, which cannot be put aside: what replaces it
        lies ready beside it, on another file system than the folder. An empty one always goes, any other only
        if it may. Raises OSError.
        """
        path = join(directory, own_name)
        which = self._check(path)
        if which is not None:
            self._removed += self._beneath.remove(directory, own_name, which)
            return
        self._beneath.forget(path)
        os.rmdir(own_name, dir_fd=self._beneath.dir(directory))

    def _check(self, path: bytes) -> Identity | None:
        """Which directory ``path`` is, if it may go with what is in it. Raises OSError: it should not any
        more.
        """
        if path not in self._may_go:
            return None
        if self._beneath.spares(path):
            raise InTheWay("the state directory is in it")
        which = identity(self._beneath.dir(path))
        seal = self._may_go[path]
        if seal not in (None, survey(self._beneath, path).seal) or identity(self._beneath.dir(path)) != which:
            raise ChangedMeanwhile("the directory in its place was changed")
        return which

    def _exchange(self, name: bytes, directory: int, other: bytes, which: Identity) -> bytes:
        """Let ``name`` in the folder and the directory ``other`` change places, if that is ``which``; its
        name in the folder.
        """
        aside = self._name()
        # First under the name that the directory gets, so that no moment leaves it under another one.
        os.rename(name, aside, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        try:
            try:
                exchange(self._folder, aside, directory, other)
            except OSError:
                return self._exchange_in_two(aside, directory, other, which)
            if identity_at(self._folder, aside) != which:
                exchange(self._folder, aside, directory, other)
                raise _exchanged()
        except OSError:
            os.rename(aside, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            raise
        return aside

    def _exchange_in_two(self, name: bytes, directory: int, other: bytes, which: Identity) -> bytes:
        """The same where the system or the file system cannot do it in one step: killed in between,
        nothing stands there until the next run.
        """
        aside = self._name()
        os.rename(other, aside, src_dir_fd=directory, dst_dir_fd=self._folder)
        try:
            if identity_at(self._folder, aside) != which:
                raise _exchanged()
            os.rename(name, other, src_dir_fd=self._folder, dst_dir_fd=directory)
        except OSError:
            os.rename(aside, other, src_dir_fd=self._folder, dst_dir_fd=directory)
            raise
        return aside


def _exchanged() -> ChangedMeanwhile:
    return ChangedMeanwhile("the directory in its place was exchanged for another one")


def _make_writable(directory: int) -> int | None:
    """Make sure that an open directory can be moved, which is a change to it (rename(2), EACCES); returns the
    mode that it had.
    """
    mode = stat.S_IMODE(os.fstat(directory).st_mode)
    if mode & stat.S_IWUSR:
        return None
    os.fchmod(directory, mode | stat.S_IRWXU)
    return mode


def clear(folder: int, *, everything: bool = False) -> None:
    """Remove what was put aside, by this run or one that was killed; or all that is in the open folder.

    Raises:
        OSError: what could not be removed is its ``filename``; the rest of it stays too.
    """
    for name in map(os.fsencode, os.listdir(folder)):
        if everything or name.startswith(ASIDE_PREFIX):
            try:
                remove_tree(folder, name)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise OSError(error.errno, error.strerror, join(PARTIAL, name)) from None

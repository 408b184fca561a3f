"""Directories beneath DEST, opened without ever following a symbolic link.

A manifest cannot lead out of DEST by its names (the format refuses them); this keeps links that stand in
DEST, or are put there while a fetch runs, from doing so: each component is opened with O_NOFOLLOW from the
one above (openat(2)).

A directory of our own whose mode keeps us out is opened all the same, as rsync does: it lends us the
permission while it is open, and has its mode back afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import OrderedDict
from typing import Final

from p2psync.errors import FileError
from p2psync.format.paths import join, split
from p2psync.format.reserved import RESERVED_NAMES
from p2psync.tree.identity import ChangedMeanwhile, Identity, identity, others_may_change
from p2psync.tree.lent import ENTERED, Lent
from p2psync.tree.removal import remove_tree

OPEN_DIRS_MAX: Final = 64
"""Directories kept open: deep trees are walked in order, so the next file is nearly always in one of
these.
"""
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NAME_ONLY: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC
"""For a descriptor that only names what it was opened as: no permission is needed for that."""


class Beneath:
    """Opens directories below one root; used from one thread at a time."""

    def __init__(self, root: bytes, spared: frozenset[bytes] = frozenset()) -> None:
        """``root`` must exist; it may itself be reached through symbolic links, as the user named it.
        ``spared`` are paths below it that no fetch reads, lists or removes: the state directory.
        """
        self.root = root
        self.spared = spared
        self._open: OrderedDict[bytes, int] = OrderedDict()
        self._lent: dict[bytes, Lent] = {}
        self._owed: dict[bytes, tuple[Identity, int]] = {}
        """Directories that are writable for us now, and the mode that they had."""
        self._made: dict[bytes, Identity] = {}
        """Exposed directories that were made here."""
        self._exposed: set[bytes] = set()
        """Those of the open directories that others may exchange, or one that they are in."""
        self._root = os.geteuid() == 0
        """Who is root may enter every directory."""
        self._root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    @classmethod
    def make(cls, root: bytes, spared: frozenset[bytes] = frozenset()) -> Beneath:
        """The same of a root that does not exist yet, in a directory that does. Raises OSError."""
        os.mkdir(root)
        return cls(root, spared)

    def close(self) -> None:
        for path in list(self._owed):
            self.give_back(path)
        self.forget(b"")
        os.close(self._root_fd)

    def forget(self, path: bytes) -> None:
        """Close what is open at or below ``path`` (it is about to be removed or replaced)."""
        below = path + b"/"
        for known in list(self._open):
            if not path or known == path or known.startswith(below):
                self._close(known, self._open.pop(known))

    def _close(self, path: bytes, fd: int) -> None:
        lent = self._lent.pop(path, None)
        if lent is not None:
            lent.give_back(fd)
        self._exposed.discard(path)
        os.close(fd)

    def mode(self, path: bytes) -> int:
        """The mode of the directory ``path``: the one that it has when nobody works in it. Raises OSError."""
        found = stat.S_IMODE(os.fstat(self.dir(path)).st_mode)
        lent = self._lent.get(path)
        which, owed = self._owed.get(path, (None, 0))
        if which == identity(self.dir(path)):
            return owed
        return found if lent is None else lent.mode

    def make_writable(self, path: bytes) -> bool:
        """Make sure that we may work in the directory ``path`` until it gets its own mode (``keep_mode``) or
        the one that it had (``give_back``); whether that changed anything. Raises OSError if it cannot be.
        """
        fd = self.dir(path)
        if self._root or stat.S_IMODE(os.fstat(fd).st_mode) & stat.S_IRWXU == stat.S_IRWXU:
            return False
        mode = self.mode(path)
        os.fchmod(fd, mode | stat.S_IRWXU)
        self._owed[path] = identity(fd), mode
        self._lent.pop(path, None)
        return True

    def give_back(self, path: bytes) -> None:
        """Let the directory ``path`` have the mode that it had, unless it was given another one."""
        which, mode = self._owed.pop(path)
        with contextlib.suppress(OSError):
            fd = self.dir(path)
            if identity(fd) == which and stat.S_IMODE(os.fstat(fd).st_mode) == mode | stat.S_IRWXU:
                os.fchmod(fd, mode)

    def keep_mode(self, path: bytes) -> None:
        """The directory ``path`` has the mode that it is to have from now on."""
        self._lent.pop(path, None)
        self._owed.pop(path, None)

    def spares(self, path: bytes) -> bool:
        """Whether ``path`` is, or has below it, something that is spared."""
        return any(each == path or not path or each.startswith(path + b"/") for each in self.spared)

    def dir(self, path: bytes) -> int:
        """A descriptor of the directory ``path`` (b"": the root), valid until the next call.

        Raises:
            FileNotFoundError, NotADirectoryError: it is not there, or something on the way is not a
            directory.
        """
        if not path:
            return self._root_fd
        found = self._open.get(path)
        if found is not None:
            self._open.move_to_end(path)
            return found
        # From the nearest one above that is open; not by recursion: a tree may be deeper than that goes.
        at = path.rfind(b"/")
        while at > 0 and path[:at] not in self._open:
            at = path.rfind(b"/", 0, at)
        fd = self._open[path[:at]] if at > 0 else self._root_fd
        while at < len(path):
            end = path.find(b"/", at + 1)
            end = len(path) if end < 0 else end
            fd = self._enter(fd, path[:end], path[at + 1 : end])
            at = end
        return fd

    def _enter(self, parent: int, path: bytes, name: bytes) -> int:
        """Open the directory ``name``, which is ``path``, in the open one ``parent``."""
        try:
            made = os.open(name, _FLAGS, dir_fd=parent)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise NotADirectoryError(errno.ENOTDIR, "a symbolic link stands in the way", path) from None
            if error.errno != errno.EACCES:
                raise
            made = self._enter_lent(parent, path, name)
        else:
            if not self._root and os.fstat(made).st_mode & ENTERED != ENTERED:
                self._lend(path, made)
        self._open[path] = made
        above = split(path)[0]
        if above in self._exposed or others_may_change(os.fstat(parent)):
            self._exposed.add(path)
        while len(self._open) > OPEN_DIRS_MAX:
            self._close(*self._open.popitem(last=False))
        return made

    def _enter_lent(self, parent: int, path: bytes, name: bytes) -> int:
        """Open a directory that may not be read. Raises PermissionError if it is not ours."""
        named = os.open(name, NAME_ONLY | os.O_DIRECTORY, dir_fd=parent)
        try:
            lent = Lent.of(named, b"/proc/self/fd/%d" % named)
            made = os.open(b"/proc/self/fd/%d" % named, _FLAGS & ~os.O_NOFOLLOW)
        except FileNotFoundError:  # Without /proc there is no way to it.
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path) from None
        finally:
            os.close(named)
        self._lent[path] = lent
        return made

    def _lend(self, path: bytes, fd: int) -> None:
        """Let an open directory be searched, if it is ours; else whoever opens what is in it meets that."""
        with contextlib.suppress(OSError):
            self._lent[path] = Lent.of(fd, fd)

    def open_file(self, path: bytes, name: bytes) -> int:
        """A descriptor for reading of ``name`` in the directory ``path``; the caller closes it. Never blocks,
        even if it has become a pipe. Raises OSError.
        """
        return os.open(name, _READ, dir_fd=self.dir(path))

    def read_link(self, path: bytes, name: bytes) -> bytes:
        """Where the symbolic link ``name`` in the directory ``path`` leads. Raises OSError."""
        return os.fsencode(os.readlink(name, dir_fd=self.dir(path)))

    def scan(self, path: bytes) -> dict[bytes, os.stat_result]:
        """What is in the directory ``path``, except what p2psync keeps for itself and what is spared. Raises
        OSError.
        """
        made: dict[bytes, os.stat_result] = {}
        with os.scandir(self.dir(path)) as entries:
            for found in entries:
                name = os.fsencode(found.name)
                if (not path and name in RESERVED_NAMES) or join(path, name) in self.spared:
                    continue
                with contextlib.suppress(FileNotFoundError):  # Gone again: others may work here too.
                    made[name] = found.stat(follow_symlinks=False)
        return made

    def make_dir(self, path: bytes) -> int:
        """Like ``dir``, but makes the directory and those above it, and removes what is in their place."""
        try:
            return self.dir(path)
        except FileNotFoundError:
            pass
        except NotADirectoryError:
            self._clear_way(path)
        missing = [path]
        while (above := split(missing[-1])[0]) and not self._is_there(above):
            missing.append(above)
        for each in reversed(missing):
            self._make_one(*split(each), each)
        return self.dir(path)

    def _make_one(self, parent: bytes, name: bytes, path: bytes) -> None:
        above = self.dir(parent)
        try:
            # Writable for us until its own mode is set, when all that is in it is in place.
            os.mkdir(name, 0o700, dir_fd=above)
        except FileExistsError:
            # It came since it was looked for. A directory is its maker's, with all that may be in it.
            if stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
                raise ChangedMeanwhile("somebody else made a directory of this name") from None
            os.unlink(name, dir_fd=above)
            os.mkdir(name, 0o700, dir_fd=above)
        made = self.dir(path)
        if path in self._exposed:
            if os.listdir(made):
                raise ChangedMeanwhile("the directory was exchanged for another one")
            self._made[path] = identity(made)

    def check(self, path: bytes, ino: int) -> int:
        """A descriptor of the directory ``path``, provided that it is the one with this inode, or for 0 the
        one that was made here, as far as others may exchange it. Raises ChangedMeanwhile, OSError.
        """
        fd = self.dir(path)
        if path in self._exposed:
            same = os.fstat(fd).st_ino == ino if ino else identity(fd) == self._made.get(path)
            # A file system without a number (FUSE) may give a directory another inode with each look at it.
            if not same and os.fstatvfs(fd).f_fsid:
                raise ChangedMeanwhile("the directory was exchanged for another one")
        return fd

    def _is_there(self, path: bytes) -> bool:
        try:
            self.dir(path)
        except FileNotFoundError:
            return False
        return True

    def _clear_way(self, path: bytes) -> None:
        """Remove the first component of ``path`` that is not a directory."""
        parts = path.split(b"/")
        for depth in range(len(parts)):
            parent = b"/".join(parts[:depth])
            try:
                found = os.stat(parts[depth], dir_fd=self.dir(parent), follow_symlinks=False)
            except FileNotFoundError:
                return
            if not stat.S_ISDIR(found.st_mode):
                os.unlink(parts[depth], dir_fd=self.dir(parent))
                return

    def remove(self, parent: bytes, name: bytes, only: Identity | None = None) -> int:
        """Remove ``name`` in ``parent`` with everything below it; returns how many names were removed.
        ``only``: if it is that directory. Raises OSError with EBUSY if it is not, or something in it is
        spared.
        """
        top = join(parent, name)
        if self.spares(top):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), top)
        self.forget(top)
        return remove_tree(self.dir(parent), name, only)


def file_error(error: OSError, path: bytes, doing: str) -> FileError:
    """The error a person reads for an ``OSError`` met while ``doing`` something to ``path``."""
    where = os.fsdecode(path)
    if error.errno == errno.ENOSPC:
        return FileError(
            f"no space left on the device while {doing} {where!r}; free some and run again, "
            "what is there is kept"
        )
    if error.errno == errno.EDQUOT:
        return FileError(f"the disk quota is used up while {doing} {where!r}; free some space and run again")
    if error.errno == errno.EROFS:
        return FileError(f"{where!r} is on a file system mounted read-only; mount it writable and run again")
    return FileError(f"{doing} {where!r} failed: {os.strerror(error.errno or 0)}")

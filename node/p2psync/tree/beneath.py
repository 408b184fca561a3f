"""Directories beneath DEST, opened without ever following a symbolic link.

A manifest cannot lead out of DEST by its names (the format refuses them); this keeps links that stand in
DEST, or are put there while a fetch runs, from doing so: each component is opened with O_NOFOLLOW from the
one above (openat(2)).
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

OPEN_DIRS_MAX: Final = 64
"""Directories kept open: deep trees are walked in order, so the next file is nearly always in one of
these.
"""
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ChangedMeanwhile(OSError):
    """Something in DEST is not any more what it was when DEST was compared."""


class Beneath:
    """Opens directories below one root; used from one thread at a time."""

    def __init__(self, root: bytes, spared: frozenset[bytes] = frozenset()) -> None:
        """``root`` must exist; it may itself be reached through symbolic links, as the user named it.
        ``spared`` are paths below it that no fetch reads, lists or removes: the state directory.
        """
        self.root = root
        self.spared = spared
        self._open: OrderedDict[bytes, int] = OrderedDict()
        self._root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    @classmethod
    def make(cls, root: bytes, spared: frozenset[bytes] = frozenset()) -> Beneath:
        """The same of a root that does not exist yet, in a directory that does. Raises OSError."""
        os.mkdir(root)
        return cls(root, spared)

    def close(self) -> None:
        self.forget(b"")
        os.close(self._root_fd)

    def forget(self, path: bytes) -> None:
        """Close what is open at or below ``path`` (it is about to be removed or replaced)."""
        below = path + b"/"
        for known in list(self._open):
            if not path or known == path or known.startswith(below):
                os.close(self._open.pop(known))

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
            raise
        self._open[path] = made
        while len(self._open) > OPEN_DIRS_MAX:
            os.close(self._open.popitem(last=False)[1])
        return made

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
        parent, name = split(path)
        parent_fd = self.make_dir(parent)
        try:
            # Writable for us until its own mode is set, when all that is in it is in place.
            os.mkdir(name, 0o700, dir_fd=parent_fd)
        except FileExistsError:
            self.remove(parent, name)
            os.mkdir(name, 0o700, dir_fd=self.dir(parent))
        return self.dir(path)

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

    def remove(self, parent: bytes, name: bytes) -> int:
        """Remove ``name`` in ``parent`` with everything below it; returns how many names were removed. Raises
        OSError with EBUSY if something in it is spared.
        """
        top = join(parent, name)
        if self.spares(top):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), top)
        found = os.stat(name, dir_fd=self.dir(parent), follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(name, dir_fd=self.dir(parent))
            return 1
        count = 0
        waiting = [(top, False)]
        while waiting:
            path, emptied = waiting.pop()
            if emptied:
                self.forget(path)
                above, own = split(path)
                os.rmdir(own, dir_fd=self.dir(above))
                count += 1
            else:
                gone, inner = self._empty_of_files(self.dir(path))
                count += gone
                waiting.append((path, True))
                waiting += [(join(path, each), False) for each in inner]
        return count

    def _empty_of_files(self, directory: int) -> tuple[int, list[bytes]]:
        """Remove everything from an open directory except the directories in it; returns how many names were
        removed, and those directories.
        """
        mode = os.fstat(directory).st_mode
        if not mode & stat.S_IWUSR or not mode & stat.S_IXUSR:
            os.fchmod(directory, stat.S_IMODE(mode) | stat.S_IRWXU)
        with os.scandir(directory) as entries:
            found = [(os.fsencode(each.name), each.is_dir(follow_symlinks=False)) for each in entries]
        for name, is_dir in found:
            if not is_dir:
                os.unlink(name, dir_fd=directory)
        inner = [name for name, is_dir in found if is_dir]
        return len(found) - len(inner), inner


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

"""What makes way in DEST for something new: old files, whose chunks others may still want, and directories
where the snapshot has a file or a link.

A directory goes in the moment in which what replaces it, whole and verified, comes: the two change places in
one step (renameat2(2), RENAME_EXCHANGE), so whoever looks at DEST, or pulls the plug, sees one or the other.
Until the end of the run it lies in the folder of unfinished files, where its chunks serve. Which directories
may go is decided beforehand (``removal``); one that was changed since stays.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from itertools import count

from p2psync.state import State
from p2psync.state.trees import Tree
from p2psync.supply.jobs import Target
from p2psync.supply.local import PARTIAL, LocalChunks
from p2psync.tree.beneath import Beneath, ChangedMeanwhile, file_error, join
from p2psync.tree.exchange import exchange
from p2psync.tree.survey import survey
from p2psync.tree.way import InTheWay


class Aside:
    """Puts aside what makes way. Used by the thread that touches the disk."""

    def __init__(self, state: State, tree: Tree, beneath: Beneath, folder: int) -> None:
        """``folder``: a descriptor of the folder of unfinished files."""
        self._state = state
        self._tree = tree
        self._beneath = beneath
        self._folder = folder
        self._leftovers = set(map(os.fsencode, os.listdir(folder)))
        self._numbers = count()
        self._may_go: dict[bytes, bytes | None] = {}
        self.deleted = 0
        """Names that are gone from the tree with the directories that were replaced."""

    def allow(self, may_go: Mapping[bytes, bytes | None]) -> None:
        """Paths of directories that may go, each with the seal that it must have then (None: any)."""
        self._may_go.update(may_go)

    def _name(self) -> bytes:
        """A name in the folder that is free; a killed run may have left some, under the same process id."""
        return next(
            name
            for name in (b"old-%d-%d" % (os.getpid(), number) for number in self._numbers)
            if name not in self._leftovers
        )

    def keep_file(self, target: Target, directory: int, local: LocalChunks) -> None:
        """Keep the old file at ``target``, which is about to be replaced, under another name too."""
        try:
            found = os.stat(target.entry.name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISREG(found.st_mode) and found.st_size:
            aside = self._name()
            try:
                os.link(
                    target.entry.name,
                    aside,
                    src_dir_fd=directory,
                    dst_dir_fd=self._folder,
                    follow_symlinks=False,
                )
            except OSError:
                return  # No hard links here: those chunks are asked of the network instead.
            local.moved(target.path, join(PARTIAL, aside))

    def replace_directory(self, name: bytes, target: Target, local: LocalChunks) -> None:
        """Put ``name``, a file or link in the folder, where a directory stands. An empty one always goes, any
        other only if it may.

        Raises:
            OSError: ENOTEMPTY if it may not go; ``ChangedMeanwhile``; ``InTheWay``. Both are where they were.
        """
        path, own_name = target.path, target.entry.name
        if path not in self._may_go:
            self._beneath.forget(path)
            directory = self._beneath.dir(target.directory)
            os.rmdir(own_name, dir_fd=directory)
            os.rename(name, own_name, src_dir_fd=self._folder, dst_dir_fd=directory)
            return
        found = survey(self._beneath, path)
        if self._may_go[path] not in (None, found.seal):
            raise ChangedMeanwhile(
                errno.EBUSY, "the directory in its place was changed while the fetch went on; run again"
            )
        mode = self._make_writable(path)
        self._beneath.forget(path)
        try:
            aside = self._exchange(name, self._beneath.dir(target.directory), own_name)
        except OSError as error:
            if mode is not None:
                os.fchmod(self._beneath.dir(path), mode)
            raise InTheWay(error.strerror or str(error)) from error
        del self._may_go[path]
        local.moved(path, join(PARTIAL, aside))
        self._state.trees.drop_name(self._tree.id, target.directory, own_name)
        self.deleted += found.names

    def _make_writable(self, path: bytes) -> int | None:
        """Let a directory be moved, which is a change to it (rename(2), EACCES); the mode that it had."""
        fd = self._beneath.dir(path)
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        if mode & stat.S_IWUSR:
            return None
        os.fchmod(fd, mode | stat.S_IRWXU)
        return mode

    def _exchange(self, name: bytes, directory: int, other: bytes) -> bytes:
        """Let ``name`` in the folder and the directory ``other`` change places; its name in the folder."""
        aside = self._name()
        # First under the name that the directory gets, so that no moment leaves it under another one.
        os.rename(name, aside, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        try:
            try:
                exchange(self._folder, aside, directory, other)
            except OSError:
                return self._exchange_in_two(aside, directory, other)
        except OSError:
            os.rename(aside, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            raise
        return aside

    def _exchange_in_two(self, name: bytes, directory: int, other: bytes) -> bytes:
        """The same where the system or the file system cannot do it in one step: killed in between,
        nothing stands there until the next run.
        """
        aside = self._name()
        os.rename(other, aside, src_dir_fd=directory, dst_dir_fd=self._folder)
        try:
            os.rename(name, other, src_dir_fd=self._folder, dst_dir_fd=directory)
        except OSError:
            os.rename(aside, other, src_dir_fd=self._folder, dst_dir_fd=directory)
            raise
        return aside

    def clear(self, *, everything: bool = False) -> None:
        """Remove the directories that were put aside, by this run or one that was killed; or all that is in
        the folder. Raises FileError.
        """
        for name in map(os.fsencode, os.listdir(self._folder)):
            try:
                if stat.S_ISDIR(os.stat(name, dir_fd=self._folder, follow_symlinks=False).st_mode):
                    self._beneath.remove(PARTIAL, name)
                elif everything:
                    os.unlink(name, dir_fd=self._folder)
            except OSError as error:
                raise file_error(error, join(PARTIAL, name), "removing") from None

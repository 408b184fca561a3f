"""Objects of several chunks: unfinished files that grow in the folder, and are put into their places when
they are whole.

What an unfinished file holds was verified by whoever orders it to be written; here it is bytes at offsets.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Final

from p2psync.format.paths import join
from p2psync.format.reserved import PARTIAL
from p2psync.tree import attributes
from p2psync.tree.files import result_of
from p2psync.tree.folder import CREATE, Folder
from p2psync.tree.identity import ChangedMeanwhile
from p2psync.tree.orders import FinishObject, OpenObject, Result, Target, WriteObject
from p2psync.tree.placing import Placing, copy, write_at
from p2psync.tree.removal import remove_tree
from p2psync.tree.trouble import Trouble
from p2psync.tree.way import Way

NOT_OPEN: Final = "its unfinished file could not be opened"
_OPEN: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_OURS: Final = 0o600
"""Nobody else reads what is not verified, or may not be his to read in the end."""


class Objects:
    """The unfinished files that are open. Who orders them to be opened bounds their number."""

    def __init__(
        self, folder: Folder, trouble: Trouble, way: Way, placing: Placing, arena: memoryview
    ) -> None:
        self._folder = folder.fd
        self._owner = folder.owner
        self._trouble = trouble
        self._temporary = folder.temporary
        self._way = way
        self._placing = placing
        self._arena = arena
        self._open: dict[bytes, int] = {}
        self._refused: dict[bytes, str] = {}
        """Objects of which something could not be written, and why: they are put nowhere."""

    def close(self) -> None:
        """Close them; what they have stays for a later run."""
        while self._open:
            os.close(self._open.popitem()[1])

    def open(self, order: OpenObject) -> Result:
        """Open or make an unfinished file. Raises Stopped."""
        name = order.digest.hex().encode()
        self._refused.pop(order.digest, None)
        try:
            if order.digest not in self._open:
                self._open[order.digest] = self._open_file(name)
            fd = self._open[order.digest]
            found = os.fstat(fd)
            if found.st_size != order.size:
                os.ftruncate(fd, order.size)
            return result_of(found)
        except OSError as error:
            why = self._trouble.reason(error, join(PARTIAL, name), "making")
            return self._refuse(order.digest, why, drop=error.errno == errno.EFBIG)

    def _refuse(self, digest: bytes, why: str, *, drop: bool) -> str:
        """Close an unfinished file that can never be whole in this run; ``drop``: in no later one either."""
        if drop:
            with contextlib.suppress(OSError):
                os.unlink(digest.hex().encode(), dir_fd=self._folder)
        fd = self._open.pop(digest, None)
        if fd is not None:
            os.close(fd)
        self._refused[digest] = why
        return why

    def _open_file(self, name: bytes) -> int:
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(name, dir_fd=self._folder, follow_symlinks=False)
            if not (stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == self._owner):
                # Not one that we made: what is written here must not be written elsewhere too, nor by others.
                remove_tree(self._folder, name)
        try:
            fd = os.open(name, _OPEN, _OURS, dir_fd=self._folder)
        except PermissionError:
            # Whole, with its own mode, and stopped just before it was put in place. The folder is ours alone.
            os.chmod(name, _OURS, dir_fd=self._folder)
            fd = os.open(name, _OPEN, _OURS, dir_fd=self._folder)
        if stat.S_IMODE(os.fstat(fd).st_mode) != _OURS:
            with contextlib.suppress(PermissionError):  # There are file systems without modes.
                os.fchmod(fd, _OURS)
        return fd

    def write(self, order: WriteObject) -> Result:
        """Write parts of an object. Raises Stopped."""
        fd = self._open.get(order.digest)
        if fd is None:
            return self._refused.get(order.digest, NOT_OPEN)
        try:
            for offset, start, length in order.parts:
                write_at(fd, self._arena[start : start + length], offset)
            return result_of(os.fstat(fd))
        except OSError as error:
            path = join(PARTIAL, order.digest.hex().encode())
            why = self._trouble.reason(error, path, "writing")
            return self._refuse(order.digest, why, drop=error.errno == errno.EFBIG)

    def finish(self, order: FinishObject) -> list[Result]:
        """Put an object into its places and close it. Raises Stopped."""
        fd = self._open.pop(order.digest, None)
        if fd is None:
            return [self._refused.pop(order.digest, NOT_OPEN)] * len(order.targets)
        results: list[Result] = []
        try:
            for position, target in enumerate(order.targets):
                last = position == len(order.targets) - 1
                try:
                    found = self._put(order.digest, fd, target) if last else self.put_copy(fd, target)
                    results.append(result_of(found))
                except OSError as error:
                    path = join(target.directory, target.name)
                    results.append(self._trouble.reason(error, path, "writing"))
        finally:
            os.close(fd)
        return results

    def _put(self, digest: bytes, fd: int, target: Target) -> os.stat_result:
        return self._place(digest.hex().encode(), fd, target)

    def put_copy(self, source: int, target: Target) -> os.stat_result:
        """Make a file with the same bytes as the open file ``source``; what was made. Raises OSError."""
        before = result_of(os.fstat(source))
        fd = os.open(self._temporary, CREATE, target.mode & 0o700, dir_fd=self._folder)
        try:
            copy(source, fd)
            if result_of(os.fstat(source)) != before:
                raise ChangedMeanwhile("it was changed")
            return self._place(self._temporary, fd, target)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._folder)
            raise
        finally:
            os.close(fd)

    def _place(self, name: bytes, fd: int, target: Target) -> os.stat_result:
        refused: attributes.NotDressed | None = None
        try:
            attributes.apply(fd, target.mode, target.mtime_ns)
        except OSError as error:
            refused = attributes.not_granted(error)
        if target.replaces:
            self._way.keep_file(target.directory, target.name)
        made = self._placing.put_file(name, fd, target.directory, target.name, target.mode, target.mtime_ns)
        if refused is not None:
            raise refused
        return made

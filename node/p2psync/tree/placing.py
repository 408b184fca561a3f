"""The last step of everything that is made in DEST: from the folder into its place, by one rename.

Whoever looks at DEST at any time, or pulls the plug, sees what stood there before or what is new, whole.
Where another file system is mounted within DEST, the step is a copy beside the place and a rename there; the
copy has a name of its own (``TEMPORARY_PREFIX``) that is never taken for content.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Final

from p2psync.format.reserved import TEMPORARY_PREFIX
from p2psync.tree import attributes
from p2psync.tree.beneath import Beneath
from p2psync.tree.folder import CREATE, Folder
from p2psync.tree.identity import ChangedMeanwhile
from p2psync.tree.way import Way

COPY_BUFFER: Final = 1 << 20
copy_range: Final = getattr(os, "copy_file_range", None)
"""copy_file_range(2); None where the system has none: then bytes are read and written."""


class Placing:
    """Puts what is in the folder into its place, at once (``delayed`` waits)."""

    def __init__(self, beneath: Beneath, folder: Folder, way: Way) -> None:
        self._beneath = beneath
        self._folder = folder.fd
        self._way = way
        self._beside = TEMPORARY_PREFIX + b"%d" % os.getpid()
        self._swept: set[bytes] = set()

    def put_file(
        self, name: bytes, fd: int, directory: bytes, own_name: bytes, mode: int, mtime_ns: int
    ) -> os.stat_result:
        """Put the finished file ``name`` of the folder, open as ``fd``, into ``directory``; what was made.

        Raises:
            OSError: it is still in the folder, and its place as it was.
        """
        try:
            self._move(name, directory, own_name)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            return self._put_across(name, fd, directory, own_name, mode, mtime_ns)
        return os.fstat(fd)  # Of what was made, whatever stands under that name by now.

    def put_link(
        self, name: bytes, directory: bytes, own_name: bytes, target: bytes, mtime_ns: int
    ) -> os.stat_result:
        """The same for a symbolic link."""
        try:
            self._move(name, directory, own_name)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            there = self._sweep(directory)
            os.symlink(target, self._beside, dir_fd=there)
            try:
                refused: attributes.NotDressed | None = None
                try:
                    attributes.apply_to_link(there, self._beside, mtime_ns)
                except OSError as error:
                    refused = attributes.not_granted(error)
                self._rename_beside(there, directory, own_name)
            except OSError:
                os.unlink(self._beside, dir_fd=there)
                raise
            os.unlink(name, dir_fd=self._folder)
            if refused is not None:
                raise refused from None
        there = self._beneath.dir(directory)
        found = os.stat(own_name, dir_fd=there, follow_symlinks=False)
        if not stat.S_ISLNK(found.st_mode) or os.fsencode(os.readlink(own_name, dir_fd=there)) != target:
            raise ChangedMeanwhile("it was replaced")
        return found

    def close(self) -> None:
        """Nothing more is going to be put anywhere."""

    def _move(self, name: bytes, directory: bytes, own_name: bytes) -> None:
        try:
            os.rename(name, own_name, src_dir_fd=self._folder, dst_dir_fd=self._beneath.make_dir(directory))
        except IsADirectoryError:
            self._way.replace_directory(name, directory, own_name)

    def _put_across(
        self, name: bytes, fd: int, directory: bytes, own_name: bytes, mode: int, mtime_ns: int
    ) -> os.stat_result:
        there = self._sweep(directory)
        made = os.open(self._beside, CREATE, mode & 0o700, dir_fd=there)
        try:
            copy(fd, made)
            refused: attributes.NotDressed | None = None
            try:
                attributes.apply(made, mode, mtime_ns)
            except OSError as error:
                refused = attributes.not_granted(error)
            self._rename_beside(there, directory, own_name)
            found = os.fstat(made)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(self._beside, dir_fd=there)
            raise
        finally:
            os.close(made)
        os.unlink(name, dir_fd=self._folder)
        if refused is not None:
            raise refused
        return found

    def _rename_beside(self, there: int, directory: bytes, name: bytes) -> None:
        """The last step on another file system within DEST."""
        try:
            os.rename(self._beside, name, src_dir_fd=there, dst_dir_fd=there)
        except IsADirectoryError:
            self._way.clear_place(directory, name)
            there = self._beneath.dir(directory)
            os.rename(self._beside, name, src_dir_fd=there, dst_dir_fd=there)

    def _sweep(self, directory: bytes) -> int:
        """A descriptor of ``directory``, without what killed runs left there: only one run writes to DEST."""
        there = self._beneath.make_dir(directory)
        if directory not in self._swept:
            self._swept.add(directory)
            for name in map(os.fsencode, os.listdir(there)):
                if name.startswith(TEMPORARY_PREFIX):
                    os.unlink(name, dir_fd=there)
        return there


def copy(source: int, to: int) -> None:
    """All bytes of one open file into another, within the kernel where it can. Raises OSError."""
    position = 0
    size = os.fstat(source).st_size
    if copy_range is not None:
        # Where it is not supported it fails at once; on some file systems it copies nothing and says so.
        with contextlib.suppress(OSError):
            while position < size and (count := copy_range(source, to, size - position, position, position)):
                position += count
    while data := os.pread(source, COPY_BUFFER, position):
        write_at(to, memoryview(data), position)
        position += len(data)


def write_at(fd: int, data: memoryview, offset: int) -> None:
    """Write all of ``data``. Raises OSError."""
    while data:
        written = os.pwrite(fd, data, offset)
        data = data[written:]
        offset += written

"""Making small files and links, and setting mode and time of files whose content is right already."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable
from typing import Final

from p2psync.format.paths import join
from p2psync.tree import attributes
from p2psync.tree.beneath import NAME_ONLY, Beneath
from p2psync.tree.folder import CREATE, Folder
from p2psync.tree.identity import ChangedMeanwhile
from p2psync.tree.orders import Attributes, File, Link, MakeFiles, MakeLinks, Result, SetAttributes
from p2psync.tree.placing import Placing, write_at
from p2psync.tree.trouble import Trouble
from p2psync.tree.way import Way

_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # never waits, should it be a pipe
_SPECIAL: Final = 0o7000
"""Bits that open(2) does not set, or that a write takes away again."""


def result_of(found: os.stat_result) -> Result:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


class Files:
    """Makes files whose bytes lie in the arena, and links, in their places."""

    def __init__(
        self,
        beneath: Beneath,
        folder: Folder,
        trouble: Trouble,
        way: Way,
        placing: Placing,
        arena: memoryview,
    ) -> None:
        self._beneath = beneath
        self._trouble = trouble
        self._folder = folder.fd
        self._temporary = folder.temporary
        self._refused_bits = 0o777 & ~folder.bits | _SPECIAL
        self._way = way
        self._placing = placing
        self._arena = arena

    def make_files(self, order: MakeFiles) -> list[Result]:
        """Make each, in order. Raises Stopped."""
        results: list[Result] = []
        now = time.time_ns()
        for file in order.files:
            try:
                results.append(result_of(self._make_file(order.directory, file, now)))
            except OSError as error:
                results.append(self._trouble.reason(error, join(order.directory, file.name), "writing"))
        return results

    def _make_file(self, directory: bytes, file: File, now: int) -> os.stat_result:
        name, mode, mtime_ns, offset, length, replaces = file
        fd = os.open(self._temporary, CREATE, mode & 0o777, dir_fd=self._folder)
        try:
            if length:
                data = self._arena[offset : offset + length]
                written = os.write(fd, data)
                if written != length:  # The disk is nearly full, or a signal came.
                    write_at(fd, data[written:], written)
            refused: attributes.NotDressed | None = None
            try:
                if mode & self._refused_bits:
                    os.fchmod(fd, mode)
                os.utime(fd, ns=(now, mtime_ns))
            except OSError as error:
                refused = attributes.not_granted(error)
            if replaces:
                self._way.keep_file(directory, name)
            made = self._placing.put_file(self._temporary, fd, directory, name, mode, mtime_ns)
            if refused is not None:
                raise refused
            return made
        except OSError:
            self._drop()
            raise
        finally:
            os.close(fd)

    def make_links(self, order: MakeLinks) -> list[Result]:
        """Make each, in order. Raises Stopped."""
        results: list[Result] = []
        for link in order.links:
            try:
                results.append(result_of(self._make_link(order.directory, link)))
            except OSError as error:
                results.append(self._trouble.reason(error, join(order.directory, link.name), "writing"))
        return results

    def _make_link(self, directory: bytes, link: Link) -> os.stat_result:
        os.symlink(link.target, self._temporary, dir_fd=self._folder)
        try:
            refused: attributes.NotDressed | None = None
            try:
                attributes.apply_to_link(self._folder, self._temporary, link.mtime_ns)
            except OSError as error:
                refused = attributes.not_granted(error)
            made = self._placing.put_link(self._temporary, directory, link.name, link.target, link.mtime_ns)
            if refused is not None:
                raise refused
            return made
        except OSError:
            self._drop()
            raise

    def _drop(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._temporary, dir_fd=self._folder)


def set_attributes(
    beneath: Beneath,
    trouble: Trouble,
    order: SetAttributes,
    anew: Callable[[int, bytes, Attributes], os.stat_result],
) -> list[Result]:
    """Set mode and time of files that still are what the order says they were; ``anew`` makes one anew, with
    them, from the open file. Raises Stopped.
    """
    results: list[Result] = []
    for file in order.files:
        try:
            fd = _open_one(beneath.dir(order.directory), file)
            try:
                if _is_elsewhere(fd, file):
                    found = anew(fd, order.directory, file)
                else:
                    found = attributes.apply(fd, file.mode, file.mtime_ns)
            finally:
                os.close(fd)
            results.append(result_of(found))
        except OSError as error:
            path = join(order.directory, file.name)
            results.append(trouble.reason(error, path, "setting mode and time of"))
    return results


def _is_elsewhere(fd: int, file: Attributes) -> bool:
    """Whether a file may be one that somebody else has to do with: it has another name, which may be outside
    of DEST (a link(2) to a file of another owner, an older copy of the tree), or it is to get bits with which
    it would run with its owner's rights, while somebody may still have it open for writing.
    """
    found = os.fstat(fd)
    return attributes.differ(found, file.mode, file.mtime_ns) and (
        found.st_nlink > 1 or bool(file.mode & _SPECIAL & ~found.st_mode)
    )


def _open_one(directory: int, file: Attributes) -> int:
    try:
        fd = os.open(file.name, _OPEN, dir_fd=directory)
    except PermissionError:
        # Ours, but unreadable: made readable through a descriptor that only names it, not through its name.
        fd = os.open(file.name, NAME_ONLY, dir_fd=directory)
        try:
            _check(fd, file)
            if os.fstat(fd).st_nlink > 1:
                raise
            os.chmod(b"/proc/self/fd/%d" % fd, file.mode | stat.S_IRUSR)
            return os.open(b"/proc/self/fd/%d" % fd, _OPEN & ~os.O_NOFOLLOW)
        finally:
            os.close(fd)
    try:
        _check(fd, file)
    except OSError:
        os.close(fd)
        raise
    return fd


def _check(fd: int, file: Attributes) -> None:
    """Whether a file is still the one whose content the comparison knew."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or result_of(found) != tuple(file.stamp):
        raise ChangedMeanwhile("it was changed")

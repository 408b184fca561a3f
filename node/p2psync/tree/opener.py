"""Opening published files safely: beneath a root, component by component, never through a symbolic link.

What is opened is compared with what was hashed (size, mtime, ctime, inode) before a byte of it counts.
Which file holds which object is the library's to know.
"""

from __future__ import annotations

import os
import stat
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import islice
from operator import attrgetter
from struct import Struct
from typing import Final

from p2psync.tree.stamp import Stamp

__all__ = ["FileContent", "Opener", "Stamp", "is_plain", "open_beneath", "open_regular"]

FOLDERS_CACHED: Final = 256
"""Directories kept open: a batch asks for many files of few directories. Costs as many descriptors."""
SMALL_MAX: Final = 4 << 10
"""Bytes of a row that is read apart, and copied with others like it: it costs 10 % less than to read it
where it belongs.
"""
_FOLDER_FLAGS: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS: Final = (
    os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
)  # a FIFO that was swapped in must not block

_stamp_of: Final = attrgetter("st_size", "st_mtime_ns", "st_ctime_ns", "st_ino")
"""The fields of a ``Stamp``, of a ``stat_result``."""


class FileContent:
    """An open file that holds an object, whole or in part. Close it.

    ``stamp`` None: the file is our own temporary file, which may grow and change outside of ``present``.
    ``present``: offsets where the chunks begin and a bitmap of those that are there; None for a whole
    object. ``archive``: whose tree the file was found in, if that is known.
    """

    archive: bytes | None = None
    reads: bool = False
    """Whether `allowed` and `unchanged` read the file: not for an event loop."""

    def __init__(
        self, fd: int, size: int, stamp: Stamp | None, present: tuple[Sequence[int], bytes] | None = None
    ) -> None:
        self.fd = fd
        self.size = size
        self._stamp = stamp
        self._present = present

    def unchanged(self) -> bool:
        """Whether the file is still what was hashed."""
        return self._stamp is None or Stamp.of(os.fstat(self.fd)) == self._stamp

    def allowed(self, offset: int, wanted: int) -> int:
        """How many of the `wanted` bytes from `offset` on may be sent now. 0: the file has changed."""
        return wanted if self.unchanged() else 0

    def covers(self, offset: int, length: int) -> bool:
        """Whether these bytes are within the object, and there."""
        if offset + length > self.size:
            return False
        if self._present is None or length == 0:
            return True
        offsets, bitmap = self._present
        first = bisect_right(offsets, offset) - 1
        last = bisect_right(offsets, offset + length - 1) - 1
        return all(bitmap[index >> 3] & (0x80 >> (index & 7)) for index in range(first, last + 1))

    def cost(self, offset: int, length: int) -> int:
        """How many bytes have to be read for these."""
        return length

    def read_into(self, offset: int, into: memoryview) -> bool:
        """Read these bytes. False: they are not there, or the file has changed."""
        if not self.covers(offset, len(into)):
            return False
        return os.preadv(self.fd, [into], offset) == len(into) and self.unchanged()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Folder:
    """An open directory, for ``Opener`` and those who have it pinned."""

    __slots__ = ("cached", "fd", "pins", "used")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.pins = 0
        self.cached = True
        self.used = True

    def read_rows(
        self,
        files: Mapping[bytes, tuple[bytes, tuple[int, int, int, int]]],
        rows: Sequence[tuple[bytes, int, int]],
        first: int,
        room: memoryview,
        at: int,
        front: Struct,
    ) -> tuple[int, int]:
        """Read stretches of regular files in here, one behind the other, into ``room`` from ``at`` on: the
        rows (digest, offset, length) from ``first`` up to one that cannot be had.

        ``files`` has by digest the name of the file and the fields of the ``Stamp`` that it must have;
        ``front`` is what is put in front of a row to hold its length. Returns which row is the next, and
        where in ``room`` that would begin. The next one's file is not among these, or it is missing, shorter,
        something else or changed.

        One look at the attributes, after the reading, is enough: a change before or during it would show in
        the change time, which nobody sets back.
        """
        # Thousands of rows for each request: what is saved here is saved as often.
        folder, flags = self.fd, _FILE_FLAGS
        openat, pread, preadv, fstat, close = os.open, os.pread, os.preadv, os.fstat, os.close
        file_of, stamp_of, is_regular, put_length = files.get, _stamp_of, stat.S_ISREG, front.pack
        number, small_at = first, at
        small: list[bytes] = []
        for digest, offset, length in islice(rows, first, None):
            file = file_of(digest)
            if file is None:
                break
            name, stamp = file
            if b"/" in name:  # "." and "..", which are no files either, cannot be read
                break
            end = at + front.size + length
            data = None
            try:
                fd = openat(name, flags, dir_fd=folder)
                try:
                    if length <= SMALL_MAX:
                        data = pread(fd, length, offset)
                        count = len(data)
                    else:
                        count = preadv(fd, [room[end - length : end]], offset)
                    now = fstat(fd)
                finally:
                    close(fd)
            except OSError:  # also what cannot be read at an offset, and a disk that fails
                break
            if count != length or stamp_of(now) != stamp or not is_regular(now.st_mode):
                break
            if data is not None:
                small += put_length(length), data
            else:
                if small:
                    room[small_at:at] = b"".join(small)
                    small.clear()
                room[at : end - length] = put_length(length)
                small_at = end
            at = end
            number += 1
        room[small_at:at] = b"".join(small)
        return number, at


class Opener:
    """Opens files below roots; threads may share one.

    Directories stay open for a while. One that was moved meanwhile may still be served from: its files are
    the published ones as long as their stamps hold.
    """

    def __init__(self, cached: int = FOLDERS_CACHED) -> None:
        self._cached = cached
        self._folders: OrderedDict[tuple[bytes, bytes], Folder] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, root: bytes, directory: bytes, name: bytes, stamp: Stamp) -> FileContent | None:
        """The regular file ``name`` in ``directory`` (relative, b"" for the root itself), if it is the one
        that ``stamp`` describes.

        None if it is missing, cannot be read, is something else, has changed, or would be reached through a
        symbolic link.
        """
        for fresh in (False, True):
            fd = self.open_any(root, directory, name, fresh=fresh)
            if fd is not None:
                if Stamp.of(os.fstat(fd)) == stamp:
                    return FileContent(fd, stamp.size, stamp)
                os.close(fd)
        return None

    def open_any(self, root: bytes, directory: bytes, name: bytes, *, fresh: bool = True) -> int | None:
        """A descriptor of the regular file of this name, whatever is in it; else as `open`. `fresh`: its
        directory is looked up again by its name.
        """
        folder = self.pin(root, directory, fresh=fresh) if is_plain(name) else None
        if folder is None:
            return None
        try:
            return open_regular(name, folder.fd)
        finally:
            self.unpin(folder)

    def pin(self, root: bytes, directory: bytes, *, fresh: bool = False) -> Folder | None:
        """The directory, open until ``unpin``. ``fresh``: looked up again by its name.

        None if it is missing, cannot be searched, or would be reached through a symbolic link.
        """
        key = (root, directory)
        with self._lock:
            if fresh and (stale := self._folders.pop(key, None)) is not None:
                self._leave(stale)
            found = self._folders.get(key)
            if found is not None:
                self._folders.move_to_end(key)
                found.pins += 1
                found.used = True
                return found
        if not all(is_plain(part) for part in directory.split(b"/") if directory):
            return None
        try:
            made = Folder(open_beneath(root, directory))
        except OSError:
            return None
        made.pins = 1
        with self._lock:
            if (known := self._folders.get(key)) is not None:  # another thread was as quick
                self._leave(known)
            self._folders[key] = made
            if len(self._folders) > self._cached:
                self._leave(self._folders.popitem(last=False)[1])
        return made

    def unpin(self, folder: Folder) -> None:
        """It is not used any more by one who had it pinned."""
        with self._lock:
            folder.pins -= 1
            if not folder.pins and not folder.cached:
                os.close(folder.fd)

    def rest(self) -> None:
        """Close the directories that nobody has used since the last call: an open one keeps a file system
        from being unmounted.
        """
        with self._lock:
            for key, folder in list(self._folders.items()):
                if not folder.pins and not folder.used:
                    self._leave(self._folders.pop(key))
                folder.used = False

    def close(self) -> None:
        """Close all directories, pinned ones as soon as they are not used any more."""
        with self._lock:
            while self._folders:
                self._leave(self._folders.popitem()[1])

    def _leave(self, folder: Folder) -> None:
        """It is in the cache no longer. With the lock."""
        folder.cached = False
        if not folder.pins:
            os.close(folder.fd)


def open_regular(name: bytes, folder: int) -> int | None:
    """A descriptor of the regular file `name` in an open directory; None if it is none, or cannot be read."""
    try:
        fd = os.open(name, _FILE_FLAGS, dir_fd=folder)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


def is_plain(name: bytes) -> bool:
    """Whether ``name`` is one component that leads nowhere else."""
    return name not in (b"", b".", b"..") and b"/" not in name and b"\0" not in name


def open_beneath(root: bytes, directory: bytes) -> int:
    """A descriptor of ``directory`` below ``root``, reached without following any link. Raises OSError."""
    fd = os.open(root, _FOLDER_FLAGS)
    try:
        for part in directory.split(b"/") if directory else ():
            inner = os.open(part, _FOLDER_FLAGS, dir_fd=fd)
            os.close(fd)
            fd = inner
    except BaseException:
        os.close(fd)
        raise
    return fd

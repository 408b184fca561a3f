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
from collections.abc import Sequence
from typing import Final, NamedTuple

FOLDERS_CACHED: Final = 256
"""Directories kept open: a batch asks for many files of few directories. Costs as many descriptors."""
_FOLDER_FLAGS: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS: Final = (
    os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
)  # a FIFO that was swapped in must not block
_NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)


class Stamp(NamedTuple):
    """What tells a file that was hashed from one that was changed since. Times in ns."""

    size: int
    mtime_ns: int
    ctime_ns: int
    ino: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class FileContent:
    """An open file that holds an object, whole or in part. Close it.

    ``stamp`` None: the file is our own temporary file, which may grow and change outside of ``present``.
    ``present``: offsets where the chunks begin and a bitmap of those that are there; None for a whole
    object. ``archive``: whose tree the file was found in, if that is known.
    """

    archive: bytes | None = None

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

    def read(self, offset: int, length: int, *, wait: bool = True) -> bytes | bytearray | None:
        """These bytes; None if they are not there, or the file has changed.

        Without ``wait``, BlockingIOError where the kernel would have to read from the disk (preadv2(2),
        RWF_NOWAIT).
        """
        if not self.covers(offset, length):
            return None
        data = os.pread(self.fd, length, offset) if wait else self._read_cached(offset, length)
        return data if len(data) == length and self.unchanged() else None

    def _read_cached(self, offset: int, length: int) -> bytearray:
        data = bytearray(length)
        try:
            count = os.preadv(self.fd, [data], offset, _NOWAIT) if _NOWAIT else 0
        except OSError:  # not cached, or a file system that cannot tell
            count = 0
        if count != length:
            raise BlockingIOError
        return data

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Opener:
    """Opens files below roots; threads may share one.

    Directories stay open for a while. One that was moved meanwhile may still be served from: its files are
    the published ones as long as their stamps hold.
    """

    def __init__(self, cached: int = FOLDERS_CACHED) -> None:
        self._cached = cached
        self._folders: OrderedDict[tuple[bytes, bytes], int] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, root: bytes, directory: bytes, name: bytes, stamp: Stamp) -> FileContent | None:
        """The regular file ``name`` in ``directory`` (relative, b"" for the root itself), if it is the one
        that ``stamp`` describes.

        None if it is missing, cannot be read, is something else, has changed, or would be reached through a
        symbolic link.
        """
        if not is_plain(name) or not all(is_plain(part) for part in directory.split(b"/") if directory):
            return None
        with self._lock:
            key = (root, directory)
            for fresh in (False, True):
                if fresh and (stale := self._folders.pop(key, None)) is not None:
                    os.close(stale)
                try:
                    fd = os.open(name, _FILE_FLAGS, dir_fd=self._folder(root, directory))
                except OSError:
                    continue
                status = os.fstat(fd)
                if stat.S_ISREG(status.st_mode) and Stamp.of(status) == stamp:
                    return FileContent(fd, status.st_size, stamp)
                os.close(fd)
        return None

    def close(self) -> None:
        """Close all directories."""
        with self._lock:
            while self._folders:
                os.close(self._folders.popitem()[1])

    def _folder(self, root: bytes, directory: bytes) -> int:
        key = (root, directory)
        fd = self._folders.get(key)
        if fd is not None:
            self._folders.move_to_end(key)
            return fd
        fd = open_beneath(root, directory)
        self._folders[key] = fd
        if len(self._folders) > self._cached:
            os.close(self._folders.popitem(last=False)[1])
        return fd


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

"""Attributes of many names in a directory, without an object for each: by statx(2), through ctypes.

``os.stat`` makes an object of nineteen values for each file, which takes longer than the kernel takes to
look at it. Here the kernel writes its records one after the other into memory, and columns are cut from
there. Where there is no statx, or it is forbidden (a container's filter), `attributes` returns None, and
its caller looks at each name by itself.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache
from itertools import repeat
from typing import Any, Final

from p2psync.tree.stamp import Columns

RECORD: Final = 256
"""Bytes of struct statx, which is the same on all architectures (linux/stat.h)."""
AT_ONCE: Final = 512
"""Records in memory at once, for each thread that asks: 128 KiB."""
_FLAGS: Final = 0x100 | 0x800
"""AT_SYMLINK_NOFOLLOW, AT_NO_AUTOMOUNT: as lstat(2)."""
_MASK: Final = 0x1 | 0x2 | 0x4 | 0x40 | 0x80 | 0x100 | 0x200
"""STATX_TYPE, MODE, NLINK, MTIME, CTIME, INO and SIZE."""
_ONE: Final = (1).to_bytes(4, sys.byteorder)
"""The only name of a file, as a record has it."""
_AT_FDCWD: Final = -100


class _Records:
    """Memory that the kernel writes its records into."""

    def __init__(self, call: Callable[..., int]) -> None:
        import ctypes  # noqa: PLC0415 - whoever has `call` has it

        memory = ctypes.create_string_buffer(RECORD * AT_ONCE)
        start = ctypes.addressof(memory)
        view = memoryview(memory).cast("B")
        self._call = call
        self._places = [ctypes.c_void_p(start + RECORD * number) for number in range(AT_ONCE)]
        self._2, self._4, self._8 = view.cast("H"), view.cast("I"), view.cast("Q")

    def read(self, fd: int, names: Sequence[bytes]) -> tuple[Columns, int] | None:
        """Up to `AT_ONCE` names, and how many of them are files with further names; None if any of them
        could not be looked at.
        """
        if any(map(self._call, repeat(fd), names, repeat(_FLAGS), repeat(_MASK), self._places)):
            return None
        count = len(names)
        end_2, end_4, end_8 = count * 128, count * 64, count * 32
        links = self._4[4:end_4:64]
        linked = 0
        if links.tobytes() != _ONE * count:
            modes = self._2[14:end_2:128]
            linked = sum(many > 1 and stat.S_ISREG(mode) for many, mode in zip(links, modes, strict=True))
        columns = Columns(
            mode=self._2[14:end_2:128].tobytes(),
            ino=self._8[4:end_8:32].tobytes(),
            size=self._8[5:end_8:32].tobytes(),
            ctime=self._8[12:end_8:32].tobytes(),
            ctime_ns=self._4[26:end_4:64].tobytes(),
            mtime=self._8[14:end_8:32].tobytes(),
            mtime_ns=self._4[30:end_4:64].tobytes(),
        )
        return columns, linked


_threads: Final = threading.local()


def attributes(fd: int, names: Sequence[bytes]) -> Columns | None:
    """What lstat(2) tells of ``names`` in the directory that is open as ``fd``. None if that cannot be told
    in this way, or one of them is not there.
    """
    looked = look(fd, names)
    return None if looked is None else looked[0]


def look(fd: int, names: Sequence[bytes]) -> tuple[Columns, int] | None:
    """As `attributes`, and how many of the names are files that have further names (hard links)."""
    call = _statx()
    if call is None:
        return None
    records: _Records | None = getattr(_threads, "records", None)
    if records is None:
        records = _threads.records = _Records(call)
    if len(names) <= AT_ONCE:
        return records.read(fd, names)
    parts: list[Columns] = []
    linked = 0
    for start in range(0, len(names), AT_ONCE):
        part = records.read(fd, names[start : start + AT_ONCE])
        if part is None:
            return None
        parts.append(part[0])
        linked += part[1]
    return Columns._make(map(b"".join, zip(*parts, strict=True))), linked


@cache
def _statx() -> Callable[..., int] | None:
    """The C library's statx(2), if it tells the same as lstat(2) of the root directory."""
    try:
        # Where memory cannot be made executable (systemd's MemoryDenyWriteExecute=), older ones cannot be
        # imported.
        import ctypes  # noqa: PLC0415

        call: Any = ctypes.CDLL(None).statx
    except (ImportError, MemoryError, AttributeError, OSError):
        return None
    root = os.lstat("/")
    expected = Columns.of(
        [root.st_mode], [root.st_ino], [root.st_size], [root.st_ctime_ns], [root.st_mtime_ns]
    )
    return call if _Records(call).read(_AT_FDCWD, [b"/"]) == (expected, 0) else None

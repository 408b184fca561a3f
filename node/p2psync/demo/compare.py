"""Whether two directory trees are equal: types, bytes, modes, times in nanoseconds, symlink targets.

It judges the engine, so it shares no code with it and reads every byte of both sides.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from p2psync.format.paths import join

BLOCK = 1 << 20
"""Bytes compared at once."""
SHOWN_MAX = 50
"""Differences that are told apart; a tree that is all different need not be listed whole."""


def differences(left: bytes, right: bytes, skip: frozenset[bytes] = frozenset()) -> list[str]:
    """What differs between two trees, at most SHOWN_MAX lines; empty if they are equal.

    Args:
        skip: names of directories that are not looked into, on the left, and must be absent on the right.
    """
    found = []
    for line in _compare(left, right, b"", skip):
        found.append(line)
        if len(found) == SHOWN_MAX:
            found.append("... and perhaps more")
            break
    return found


def count_files(root: bytes, skip: frozenset[bytes] = frozenset()) -> tuple[int, int]:
    """Regular files below a directory, and their bytes."""
    files = size = 0
    for entry in _entries(root, skip):
        if entry.is_dir(follow_symlinks=False):
            below = count_files(entry.path, skip)
            files, size = files + below[0], size + below[1]
        elif entry.is_file(follow_symlinks=False):
            files, size = files + 1, size + entry.stat(follow_symlinks=False).st_size
    return files, size


def _entries(directory: bytes, skip: frozenset[bytes]) -> list[os.DirEntry[bytes]]:
    with os.scandir(directory) as entries:
        return [e for e in entries if not (e.name in skip and e.is_dir(follow_symlinks=False))]


def _compare(left: bytes, right: bytes, path: bytes, skip: frozenset[bytes]) -> Iterator[str]:
    """Compare two things that both exist; ``path`` names them in what is told."""
    shown = os.fsdecode(path) or "."
    a, b = os.lstat(left), os.lstat(right)
    if stat.S_IFMT(a.st_mode) != stat.S_IFMT(b.st_mode):
        yield f"{shown}: {_kind(a)} became {_kind(b)}"
        return
    if a.st_mtime_ns != b.st_mtime_ns:
        yield f"{shown}: time {a.st_mtime_ns} became {b.st_mtime_ns}"
    if stat.S_ISLNK(a.st_mode):
        if os.readlink(left) != os.readlink(right):
            yield f"{shown}: points to {os.readlink(right)!r}, not to {os.readlink(left)!r}"
        return  # A symlink's mode means nothing on Linux.
    if stat.S_IMODE(a.st_mode) != stat.S_IMODE(b.st_mode):
        yield f"{shown}: mode {stat.S_IMODE(a.st_mode):o} became {stat.S_IMODE(b.st_mode):o}"
    if stat.S_ISREG(a.st_mode) and not (a.st_size == b.st_size and _same_bytes(left, right)):
        yield f"{shown}: other content ({a.st_size} bytes became {b.st_size})"
    if stat.S_ISDIR(a.st_mode):
        yield from _compare_directories(left, right, path, skip)


def _compare_directories(left: bytes, right: bytes, path: bytes, skip: frozenset[bytes]) -> Iterator[str]:
    there = {entry.name for entry in _entries(left, skip)}
    here = {entry.name for entry in _entries(right, frozenset())}
    for name in sorted(there | here):
        inner = join(path, name)
        if name not in here:
            yield f"{os.fsdecode(inner)}: missing"
        elif name not in there:
            yield f"{os.fsdecode(inner)}: should not be there"
        else:
            yield from _compare(os.path.join(left, name), os.path.join(right, name), inner, skip)


def _same_bytes(left: bytes, right: bytes) -> bool:
    with open(left, "rb") as a, open(right, "rb") as b:
        while True:
            block = a.read(BLOCK)
            if block != b.read(BLOCK):
                return False
            if not block:
                return True


def _kind(status: os.stat_result) -> str:
    kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a directory", stat.S_IFLNK: "a symlink"}
    return kinds.get(stat.S_IFMT(status.st_mode), "something special")

"""Removing a name with all that is below it, however deep that goes.

Not by recursion, and with one open directory at a time: the way back up is ``..``, which is taken only if it
leads to where the way down began (as fts(3) does), so that nobody who moves a directory meanwhile leads the
removal out of the tree. Paths are never put together, so none is too long.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from typing import Final, NamedTuple

from p2psync.errors import show_path
from p2psync.tree.identity import ChangedMeanwhile, Identity, identity

_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME_ONLY: Final = getattr(os, "O_PATH", os.O_RDONLY) | _FLAGS
_OURS: Final = stat.S_IRWXU


class _Level(NamedTuple):
    """A directory that is being emptied."""

    name: bytes
    above: Identity
    """Of the directory that it is in."""
    waiting: list[bytes]
    """Directories in it that are still to be removed."""


def remove_tree(parent: int, name: bytes, only: Identity | None = None) -> int:
    """Remove ``name`` in the open directory ``parent`` with everything below it; how many names went.

    What cannot be removed keeps the directories above it, and nothing else. ``only``: which directory it must
    be; of another one nothing is removed.

    Raises OSError: of the first name that could not be removed, with its path below ``parent``.
    """
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if only is None and not stat.S_ISDIR(found.st_mode):
        os.unlink(name, dir_fd=parent)
        return 1
    count = 0
    refused: OSError | None = None
    at = os.dup(parent)
    levels: list[_Level] = []

    def note(error: OSError, *inside: bytes) -> None:
        nonlocal refused
        if refused is None:
            path = b"/".join([*(level.name for level in levels), *inside])
            refused = OSError(error.errno, f"{show_path(path)!r} in it stays: {error.strerror}")

    try:
        down: bytes | None = name
        while True:
            if down is not None:
                try:
                    inner = _open(down, at, None if levels else only)
                except OSError as error:
                    if not levels:
                        raise
                    note(error, down)
                else:
                    levels.append(_Level(down, identity(at), []))
                    os.close(at)
                    at = inner
                    gone = _empty_of_files(at, levels[-1].waiting, note)
                    count += gone
            level = levels[-1]
            down = level.waiting.pop() if level.waiting else None
            if down is None:
                at = _go_up(at, level.above)
                levels.pop()
                try:
                    os.rmdir(level.name, dir_fd=at)
                    count += 1
                except OSError as error:
                    if refused is None and not levels:
                        raise
                    note(error, level.name)
                if not levels:
                    if refused is not None:
                        raise refused
                    return count
    finally:
        os.close(at)


def _open(name: bytes, parent: int, only: Identity | None) -> int:
    """Open a directory; ``only``: as for ``remove_tree``."""
    made = _open_any(name, parent)
    if only is not None and identity(made) != only:
        os.close(made)
        raise ChangedMeanwhile("the directory was exchanged for another one")
    return made


def _open_any(name: bytes, parent: int) -> int:
    """Open a directory; one of ours that may not be read is made readable: it is going to go."""
    try:
        return os.open(name, _FLAGS, dir_fd=parent)
    except PermissionError:
        named = os.open(name, _NAME_ONLY, dir_fd=parent)
        try:
            place = b"/proc/self/fd/%d" % named
            os.chmod(place, stat.S_IMODE(os.fstat(named).st_mode) | _OURS)
            return os.open(place, _FLAGS & ~os.O_NOFOLLOW)
        finally:
            os.close(named)


def _go_up(fd: int, to: Identity) -> int:
    """The directory that ``fd`` is in, which must be ``to``; closes ``fd``."""
    above = os.open("..", _FLAGS & ~os.O_NOFOLLOW, dir_fd=fd)
    if identity(above) != to:
        os.close(above)
        raise OSError(errno.EBUSY, "it was moved while it was removed; run again")
    os.close(fd)
    return above


def _empty_of_files(directory: int, waiting: list[bytes], note: Callable[[OSError, bytes], None]) -> int:
    """Remove everything from an open directory except the directories in it, which are added to ``waiting``;
    returns how many names were removed. ``note`` hears of those that were not.
    """
    mode = os.fstat(directory).st_mode
    if mode & _OURS != _OURS and os.geteuid():
        with contextlib.suppress(OSError):  # If it is not ours, what is in it says so.
            os.fchmod(directory, stat.S_IMODE(mode) | _OURS)
    try:
        with os.scandir(directory) as entries:
            found = [(os.fsencode(each.name), each.is_dir(follow_symlinks=False)) for each in entries]
    except OSError as error:
        note(error, b"")
        return 0
    gone = 0
    for name, is_dir in found:
        if is_dir:
            waiting.append(name)
            continue
        try:
            os.unlink(name, dir_fd=directory)
            gone += 1
        except FileNotFoundError:
            continue
        except OSError as error:
            note(error, name)
    return gone

"""Making directories, removing names from them, and giving them their own mode and time in the end."""

from __future__ import annotations

import contextlib
import errno
import os

from p2psync.format.paths import join
from p2psync.tree import attributes
from p2psync.tree.beneath import Beneath
from p2psync.tree.files import result_of
from p2psync.tree.orders import DressDirectories, MakeDirectory, Remove, Result
from p2psync.tree.trouble import Trouble


def make_directory(beneath: Beneath, trouble: Trouble, order: MakeDirectory) -> Result:
    """Make a directory, or make it writable until its own mode is set at the end. Raises Stopped."""
    try:
        if order.ino:
            beneath.check(order.path, order.ino)
        fd = beneath.make_dir(order.path)
    except OSError as error:
        return trouble.reason(error, order.path, "making the directory")
    # Where it is somebody else's it may be writable all the same; if not, each file says so.
    with contextlib.suppress(OSError):
        beneath.make_writable(order.path)
    return result_of(os.fstat(fd))


def remove(beneath: Beneath, trouble: Trouble, order: Remove) -> list[Result]:
    """Remove names; the size in each result is how many names were removed. A directory that was made
    writable for this has its own mode again afterwards. Raises Stopped.
    """
    try:
        beneath.dir(order.directory)
        opened = False
        with contextlib.suppress(OSError):
            opened = beneath.make_writable(order.directory)
    except FileNotFoundError:
        return [(0, 0, 0, 0) for _ in order.names]
    except OSError as error:
        return [trouble.reason(error, order.directory, "removing from")] * len(order.names)
    results: list[Result] = []
    for name, all_below in order.names:
        try:
            results.append((_remove(beneath, order.directory, name, all_below), 0, 0, 0))
        except FileNotFoundError:
            results.append((0, 0, 0, 0))
        except OSError as error:
            results.append(trouble.reason(error, join(order.directory, name), "removing"))
    if opened:
        beneath.give_back(order.directory)
    return results


def _remove(beneath: Beneath, directory: bytes, name: bytes, all_below: bool) -> int:
    if all_below:
        return beneath.remove(directory, name)
    path = join(directory, name)
    if beneath.spares(path):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
    try:
        os.unlink(name, dir_fd=beneath.dir(directory))
    except (IsADirectoryError, PermissionError):
        # Some systems answer EPERM for a directory (unlink(2)).
        beneath.forget(path)
        try:
            os.rmdir(name, dir_fd=beneath.dir(directory))
        except NotADirectoryError:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path) from None
    return 1


def dress(beneath: Beneath, trouble: Trouble, order: DressDirectories) -> list[Result]:
    """Set mode and time of directories, in the order given. Raises Stopped."""
    results: list[Result] = []
    for path, mode, mtime_ns, ino in order.directories:
        try:
            fd = beneath.check(path, ino)
            wanted = beneath.mode(path) if mode is None else mode
            results.append(result_of(attributes.apply(fd, wanted, mtime_ns)))
            beneath.keep_mode(path)
        except OSError as error:
            results.append(trouble.reason(error, path, "setting mode and time of"))
    return results

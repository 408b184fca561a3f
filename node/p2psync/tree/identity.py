"""Which directory it is that a name leads to: others who may change the directory above can let the name lead
to another one at any moment.

Who may write to a directory may rename what is in it, also what he can neither read nor remove (rename(2)).
What is decided of a directory by its name is therefore carried out only on that very one.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


class ChangedMeanwhile(OSError):
    """Something in DEST is not any more what it was when DEST was compared."""

    def __init__(self, what: str) -> None:
        super().__init__(errno.EBUSY, f"{what} while the fetch went on; run again")


Identity = tuple[int, int]
"""Device and inode."""


def identity(fd: int) -> Identity:
    """What tells an open file or directory from all others."""
    return _of(os.fstat(fd))


def identity_at(directory: int, name: bytes) -> Identity:
    """The same of a name in an open directory. Raises OSError."""
    return _of(os.stat(name, dir_fd=directory, follow_symlinks=False))


def _of(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino


def others_may_change(directory: os.stat_result) -> bool:
    """Whether anybody but us and root may rename what is in a directory. An ACL that lets others write shows
    in the bits of the group (acl(5)).
    """
    return bool(directory.st_mode & _OTHERS) or directory.st_uid not in (0, os.geteuid())

"""Names that a file system takes for one: it ignores upper and lower case (exFAT, NTFS, APFS), or how an
accent is written (APFS, ZFS with normalization).

An archive may hold both of two such names; DEST can hold one. Which file systems do this is not asked: a name
that is not in the directory's list, and yet leads to something that is, says so.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable

from p2psync.format.paths import join
from p2psync.tree.beneath import Beneath


def folded(
    beneath: Beneath, path: bytes, missing: Iterable[bytes], found: Iterable[bytes]
) -> dict[bytes, bytes]:
    """Of the names that are ``missing`` in the directory ``path``, where ``found`` is, those that lead to
    something there under another name: that other name of each.
    """
    others: dict[str, bytes] | None = None
    made: dict[bytes, bytes] = {}
    for name in missing:
        if others is None:
            others = {_key(each): each for each in found}
        other = others.get(_key(name))
        if other is None:
            continue
        try:
            os.stat(name, dir_fd=beneath.dir(path), follow_symlinks=False)
        except OSError:
            continue  # It is another name to this file system.
        made[name] = other  # Inodes would tell no more: some file systems number names.
    return made


def told(path: bytes, name: bytes, other: bytes) -> str:
    """What is said of a name that cannot be there beside ``other``."""
    return (
        f"{os.fsdecode(join(path, name))!r}: to this file system it is the same name as "
        f"{os.fsdecode(other)!r}, and it holds one of them"
    )


def _key(name: bytes) -> str:
    """Equal for names that some file system takes for one."""
    text = os.fsdecode(name)
    return text.lower() if text.isascii() else unicodedata.normalize("NFD", text).casefold()

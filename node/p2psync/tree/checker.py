"""Whether directories are as they were: for a fetch, in a thread of its own and in the writer's process.

What a stamp covers is described where it is made (``tree.stamp``). Names that a killed writer left are not
part of the stamp that the index keeps, so a directory with one of them counts as changed and is looked into.
"""

from __future__ import annotations

from p2psync.tree.beneath import Beneath
from p2psync.tree.stamp import NO_STAMP, stamp_of_directory


def is_as_it_was(beneath: Beneath, path: bytes, stamp: bytes) -> bool:
    """Whether the directory ``path`` still has ``stamp``; False, too, if it is none or cannot be read."""
    if stamp == NO_STAMP:
        return False
    try:
        return stamp_of_directory(beneath.dir(path), path, beneath.spared) == stamp
    except OSError:
        return False

"""What a directory with all below it looks like, so that a change to it is noticed. Reads names and
attributes, no content.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from blake3 import blake3

from p2psync.format.paths import join
from p2psync.tree.beneath import Beneath


class Survey(NamedTuple):
    """What a directory and all below it looks like."""

    names: int
    """The directory itself and everything below."""
    seal: bytes
    """Differs when anything there was added, removed or changed."""


def survey(beneath: Beneath, path: bytes) -> Survey:
    """Look at all that is in the directory ``path``; content is not read. Raises OSError."""
    seal = blake3()
    names = 1
    waiting = [path]
    while waiting:
        directory = waiting.pop()
        with os.scandir(beneath.dir(directory)) as entries:
            found = sorted((os.fsencode(each.name), each.stat(follow_symlinks=False)) for each in entries)
        names += len(found)
        seal.update(b"%d\0" % len(found))
        for name, at in found:
            seal.update(b"%b\0%d %d %d %d\0" % (name, at.st_mode, at.st_size, at.st_mtime_ns, at.st_ino))
            if stat.S_ISDIR(at.st_mode):
                waiting.append(join(directory, name))
    return Survey(names, seal.digest())

"""A directory that had content before this state directory knew of it, for example a copy that rsync made.

It is indexed once, as publishing would: read, hashed and listed. Its directories then have the ids that they
would have in a snapshot: what is equal there, at the same path or at another one, costs not even metadata.
Reading is cheaper than asking only up to a point; beyond it the comparison trusts sizes and times, as rsync
does.
"""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import Final

from p2psync.errors import FileError, InterruptedFetch
from p2psync.events import SILENT, Advanced, Event, Teller
from p2psync.format.listing import Entry
from p2psync.format.reserved import RESERVED_NAMES
from p2psync.rules.filter import Filter
from p2psync.state import State
from p2psync.state.off_loop import off_loop
from p2psync.state.trees import Tree
from p2psync.tree.report import Report

ADOPT_BYTES_MAX: Final = 16 << 30
"""Bytes of a directory that is read to be adopted: seconds on a fast disk, two minutes on a slow one."""


async def adopt(
    state: State,
    tree: Tree,
    wanted: list[Entry],
    tell: Teller,
    *,
    limit: int | None = ADOPT_BYTES_MAX,
    hidden: frozenset[bytes] = frozenset(),
) -> bool:
    """Index the directory of ``tree`` if it seems to hold what is wanted; whether it was indexed.

    Args:
        wanted: the entries of the root that DEST is to get. With no name in common, nothing is read.
        limit: bytes up to which it is read; None: always, as a mirror must know what it has.
        hidden: paths below it that are left out.
    """
    if not state.trees.is_empty(tree):
        return False
    stopped = threading.Event()
    names = {entry.name for entry in wanted}
    size = await off_loop(partial(_size, tree.path, names, limit, hidden, stopped), stop=stopped.set)
    if not size:
        return False
    tell.phase("reading what is here", size, None)

    def hand_on(event: Event) -> None:
        """Progress goes on to whoever watches, and stops the work when nobody waits for it any more."""
        if stopped.is_set():
            raise InterruptedFetch("stopped while the files that are here were read")
        if isinstance(event, Advanced):
            tell.hand_on(event)

    # What cannot be read is no matter here: it is only not known, and so fetched.
    from p2psync.publish.builder import Builder  # noqa: PLC0415 - not for those whose DEST is empty

    builder = Builder(state, tree.id, Filter(), Report(SILENT), Teller(hand_on), hidden)
    try:
        await off_loop(partial(builder.build, tree.path), stop=stopped.set)
    except FileError:
        return False
    return True


def _size(
    path: bytes, names: set[bytes], limit: int | None, hidden: frozenset[bytes], stopped: threading.Event
) -> int:
    """Bytes of the regular files below ``path``; 0 if over the limit, or if no name at the top is wanted; of
    no matter once ``stopped``.
    """
    total = 0
    waiting = [path]
    left_out = {os.path.join(path, each) for each in hidden}
    top = True
    while waiting and not stopped.is_set():
        try:
            with os.scandir(waiting.pop()) as entries:
                found = list(entries)
        except OSError:
            continue
        if top and names.isdisjoint(entry.name for entry in found):
            return 0
        top = False
        for entry in found:
            if entry.name in RESERVED_NAMES or entry.path in left_out:
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                try:
                    total += entry.stat(follow_symlinks=False).st_size
                except OSError:
                    continue
        if limit is not None and total > limit:
            return 0
    return total

"""What a fetch does not do without being told: fill the directory beneath a disk that is not mounted, and
follow a snapshot that has lost most of what was here. Also what it notes in the index before it changes DEST,
so that both are known the next time, even if it is killed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from p2psync.errors import DeleteLimitError, FileError, show_path
from p2psync.format.head import ArchiveHead
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry
from p2psync.plan.changes import Plan
from p2psync.plan.listings import Listings
from p2psync.plan.shrink import Earlier
from p2psync.state import State
from p2psync.state.made import DIRECTORY
from p2psync.state.trees import Tree
from p2psync.tree.place import Place, mounts_below

LOOKED_FOR: Final = 64
"""Files that are looked for before a directory counts as emptied: more cost time, on a slow disk too."""
BEGUN_MAX: Final = 8
"""Snapshots that are remembered: more pile up only where many are followed and nothing is removed."""
PLACE: Final = "place"
MOUNTS: Final = "mounts"
BEGUN: Final = "begun"
"""Keys in the options of a tree: where DEST was, what was mounted in it, and of which snapshots something may
be in it.
"""


def check_place(state: State, tree: Tree, *, accept: bool) -> None:
    """Refuse to update a mirror whose directory is gone, or another one that has nothing of what was put
    there, or that has such a directory in it: a disk is most likely not mounted. Raises FileError.
    """
    if tree.role != "mirror" or accept:
        return
    known = state.trees.some_files(tree.id, LOOKED_FOR)
    if not known:
        return
    where = show_path(tree.path)
    try:
        place = Place.of(tree.path)
    except FileNotFoundError:
        raise FileError(
            f"the mirror {where} is gone; mount its disk or bring it back, or give --accept-moved to make it "
            "anew"
        ) from None
    except OSError:
        return  # Who opens it says what is wrong.
    before = Place.from_row(tree.options.get(PLACE))
    if before is not None and not before.is_same(place) and not _any_there(tree, known):
        raise FileError(
            f"the mirror {where} is another directory than before, and nothing of the archive is in it; "
            "mount its disk, or give --accept-moved to fetch everything into this one"
        )
    for inner in sorted({*tree.options.get(MOUNTS, [])}.difference(mounts_below(tree.path))):
        known = state.trees.some_files(tree.id, LOOKED_FOR, inner)
        if known and not _any_there(tree, known):
            below = show_path(os.path.join(tree.path, inner))
            raise FileError(
                f"nothing is mounted any more at {below} in the mirror, and nothing of the archive "
                "is there; mount it, or give --accept-moved to fetch what was there onto the disk beneath"
            )


def _any_there(tree: Tree, paths: list[bytes]) -> bool:
    return any(os.path.lexists(os.path.join(tree.path, path)) for path in paths)


def check_loss(plan: Plan, state: State, earlier: list[Entry], head: ArchiveHead, dest: bytes) -> None:
    """Refuse a snapshot that has lost more than half of what DEST has, where it would be deleted. Raises
    DeleteLimitError.
    """
    loss = Earlier(state, earlier).loss(plan)
    if loss.is_suspicious:
        raise DeleteLimitError(
            f"snapshot {head.seq} lacks {loss.lost:,} of the {loss.lost + loss.present:,} files that "
            f"{show_path(dest)} has, as if they had been lost where it was published; nothing was changed "
            "here; give --accept-shrink if they are meant to go"
        )


def begun(tree: Tree) -> list[Ref]:
    """The snapshots of which something may be in DEST, beside the one that it equalled last; oldest first."""
    return [Ref(*row) for row in tree.options.get(BEGUN, [])]


def note_cleared(tree: Tree, head: ArchiveHead) -> None:
    """Of what earlier snapshots had, nothing is in DEST any more that might be removed."""
    tree.options[BEGUN] = [head.snapshot.to_row()]


def note_begun(state: State, tree: Tree, head: ArchiveHead, plan: Plan, listings: Listings) -> None:
    """Note which snapshot is begun, and the directories and links that are going to be made. DEST exists."""
    note_place(tree)
    refs = [*(ref for ref in begun(tree) if ref != head.snapshot), head.snapshot]
    # The first of them is of the time when nothing was kept: it has most of what there is to lose.
    tree.options[BEGUN] = [ref.to_row() for ref in (*refs[:1], *refs[1:][1 - BEGUN_MAX :])]
    with state.transaction():
        state.trees.update(tree)
        state.meta.add_snapshot(head.archive, head.epoch, head.seq, head.snapshot)
        state.made.note(tree.id, _made(plan, listings))


def note_place(tree: Tree) -> None:
    """Note where DEST is, and what is mounted in it."""
    tree.options[PLACE] = list(Place.of(tree.path))
    if tree.role == "mirror":
        tree.options[MOUNTS] = mounts_below(tree.path)


def _made(plan: Plan, listings: Listings) -> Iterator[tuple[bytes, bytes | None]]:
    for work in plan.dirs:
        if not work.exists and work.path:
            yield work.path, DIRECTORY
        if work.symlinks:
            entries = listings.listing(work.listing)
            for position in work.symlinks:
                entry = entries[position]
                yield os.path.join(work.path, entry.name), entry.target

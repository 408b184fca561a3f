"""What a fetch does not do without being told: fill the directory beneath a disk that is not mounted, and
follow a snapshot that has lost most of what was here. Also what it notes in the index before it changes DEST,
so that both are known the next time, even if it is killed.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from typing import Final

from p2psync.errors import DeleteLimitError, FileError, LinksNotKept, show_path
from p2psync.fetch import put
from p2psync.format.head import ArchiveHead
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry
from p2psync.format.marks import has_no_links
from p2psync.format.snapshot import Snapshot
from p2psync.plan.changes import Plan
from p2psync.plan.listings import Listings
from p2psync.plan.shrink import Earlier, Part
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
UNDER_WAY: Final = "under way"
"""Keys in the options of a tree: where DEST was, what was mounted in it, of which snapshots something may be
in it, and how much there was to do when work began that has not ended.
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
            f"the mirror {where} is gone; mount its disk or bring it back, or make it anew: "
            f"{consenting(state, tree, '--accept-moved')}"
        ) from None
    except OSError:
        return  # Who opens it says what is wrong.
    before = Place.from_row(tree.options.get(PLACE))
    if before is not None and not before.is_same(place) and not _any_there(tree, known):
        raise FileError(
            f"the mirror {where} is another directory than before, and nothing of the archive is in it; "
            f"mount its disk, or fetch everything into this one: {consenting(state, tree, '--accept-moved')}"
        )
    for inner in sorted({*tree.options.get(MOUNTS, [])}.difference(mounts_below(tree.path))):
        known = state.trees.some_files(tree.id, LOOKED_FOR, inner)
        if known and not _any_there(tree, known):
            below = show_path(os.path.join(tree.path, inner))
            raise FileError(
                f"nothing is mounted any more at {below} in the mirror, and nothing of the archive "
                "is there; mount it, or fetch what was there onto the disk beneath: "
                f"{consenting(state, tree, '--accept-moved')}"
            )


def consenting(state: State, tree: Tree, option: str) -> str:
    """What is typed to say yes for once; a node, which may have met the obstacle, takes no such option."""
    if tree.role != "mirror" or not tree.source:
        return f"run again with {option}"
    argv = ["p2psync", "mirror", tree.source, os.fsdecode(tree.path), "--once", option]
    # Options that are not given again are dropped for good, --protect among them.
    return f"{shlex.join([*argv, '--state', str(state.path)])} (and whatever options the mirror has)"


def _any_there(tree: Tree, paths: list[bytes], root: bytes | None = None) -> bool:
    return any(os.path.lexists(os.path.join(root or tree.path, path)) for path in paths)


def find_moved(state: State, path: bytes, archive: bytes) -> None:
    """Know the directory at ``path`` (absolute, real) as what it was before it was renamed to that: all that
    the index has of it holds, so it is served, and nothing of it is read again.
    """
    if state.trees.get(path) is not None:
        return
    try:
        here = Place.of(path)
    except OSError:
        return
    for tree in state.trees.by_archive(archive):
        before = Place.from_row(tree.options.get(PLACE))
        if tree.role == "publish" or before is None or os.path.lexists(tree.path) or not before.is_same(here):
            continue
        # An inode's number alone may be that of another directory by now.
        if _any_there(tree, state.trees.some_files(tree.id, LOOKED_FOR), path):
            state.trees.move(tree, path)
            return


def check_loss(state: State, tree: Tree, plan: Plan, head: ArchiveHead, whole: Entry) -> None:
    """Refuse a snapshot that has lost more than half of what DEST has, where it would be deleted. ``whole``:
    the directory that DEST is of the snapshot, of which rules may leave out some.

    Raises DeleteLimitError.
    """
    loss = Earlier(state, _begun(tree)).loss(plan, whole)
    if loss.is_suspicious:
        raise DeleteLimitError(
            f"snapshot {head.seq} lacks {loss.lost:,} of the {loss.lost + loss.present:,} files that "
            f"{show_path(tree.path)} has, as if they had been lost where it was published; nothing was "
            f"changed here; if they are meant to go: {consenting(state, tree, '--accept-shrink')}"
        )


def _begun(tree: Tree) -> list[Part]:
    """Of what something may be in DEST, oldest first."""
    rows = tree.options.get(BEGUN)
    if rows is None and (complete := tree.options.get(put.COMPLETE)):
        rows = [[*complete, tree.options.get(put.PATH, b"")]]  # An earlier version noted no more.
    return [Part(Ref(size, digest), path) for size, digest, path in rows or []]


def _rows(parts: Iterable[Part]) -> list[list[int | bytes]]:
    return [[part.snapshot.size, part.snapshot.digest, part.path] for part in parts]


def note_cleared(tree: Tree, head: ArchiveHead, path: bytes) -> None:
    """Of what earlier snapshots had, nothing is in DEST any more that might be removed."""
    tree.options[BEGUN] = _rows([Part(head.snapshot, path)])


def note_begun(
    state: State, tree: Tree, head: ArchiveHead, path: bytes, plan: Plan, listings: Listings
) -> None:
    """Note what is begun (``path`` of what ``head`` names), and the directories and links that are going to
    be made. DEST exists.
    """
    note_place(tree)
    tree.options[UNDER_WAY] = [path, *to_do(tree, path, plan)]
    part = Part(head.snapshot, path)
    parts = [*(each for each in _begun(tree) if each != part), part]
    # The first of them is of the time when nothing was kept: it has most of what there is to lose.
    tree.options[BEGUN] = _rows([*parts[:1], *parts[1:][1 - BEGUN_MAX :]])
    with state.transaction():
        state.trees.update(tree)
        state.meta.add_snapshot(head.archive, head.epoch, head.seq, head.snapshot)
        state.made.note(tree.id, _made(plan, listings))


def to_do(tree: Tree, path: bytes, plan: Plan) -> tuple[int, int]:
    """Bytes and files that there are to be got for ``path`` of the archive, with those that were got by runs
    that did not come to their end.
    """
    noted, *before = tree.options.get(UNDER_WAY) or (b"", 0, 0)
    size, files = before if noted == path else (0, 0)
    return max(size, plan.size), max(files, plan.files)


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


def check_links(snapshot: Snapshot, *, kept: bool) -> None:
    """Raises LinksNotKept: hard links are to be kept, and the publisher does not say that there are none."""
    if kept and not has_no_links(snapshot.extra):
        raise LinksNotKept(
            "the archive has hard links, or may have some, and each name would become a file of its own; "
            "fetch without -H, or by rsync"
        )

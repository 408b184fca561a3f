"""Paths in the archives that are here: what is at a path in the newest snapshot, links followed within it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from p2psync.content.interface import Found
from p2psync.content.objects import Objects
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry, Kind
from p2psync.format.snapshot import Snapshot
from p2psync.format.walk import LeadsNowhere, NotThere, walk
from p2psync.state import State

RECENT: Final = 4
"""Listings kept at hand on one way: neighbouring links mostly lead through the same directories, and large
listings take long to decode."""


def root_of(state: State, archive: bytes) -> Entry | None:
    """The root of the newest snapshot that is here, of a tree if one has any; None if none is."""
    trees = [tree for tree in state.trees.by_archive(archive) if tree.snapshot is not None]
    refs = [tree.snapshot for tree in sorted(trees, key=lambda tree: (tree.epoch, tree.seq), reverse=True)]
    refs += [row.ref for row in state.meta.snapshots(archive)]
    return next((root for ref in refs if ref is not None and (root := snapshot_root(state, ref))), None)


def snapshot_root(state: State, ref: Ref) -> Entry | None:
    """The root of a snapshot, if that is here."""
    raw = state.meta.get(ref.digest)
    return None if raw is None else Snapshot.decode(raw).root


def find(objects: Objects, root: Entry, path: bytes) -> Found | None:
    """What a path leads to; None where it leads to nothing within the archive, or a listing is not here."""
    recent: OrderedDict[bytes, Sequence[Entry]] = OrderedDict()

    def listing(directory: Entry) -> Sequence[Entry]:
        found = recent.get(directory.digest)
        if found is None:
            found = objects.listing(directory.digest)
            if found is None:
                raise NotThere
            recent[directory.digest] = found
            if len(recent) > RECENT:
                recent.popitem(last=False)
        else:
            recent.move_to_end(directory.digest)
        return found

    def leads_to_directory(link: Entry) -> bool:
        try:
            return walk(root, path + b"/" + link.name, listing, follow_last=True).kind is Kind.DIR
        except (NotThere, LeadsNowhere):
            return False

    try:
        entry = walk(root, path, listing, follow_last=True)
        if entry.kind is not Kind.DIR:
            return Found(entry)
        return Found(entry, listing(entry), leads_to_directory)
    except (NotThere, LeadsNowhere):
        return None

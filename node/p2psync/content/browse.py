"""Paths in the archives that are here: what is at a path in the newest snapshot, links followed within it."""

from __future__ import annotations

from collections.abc import Sequence

from p2psync.content.interface import Found
from p2psync.content.objects import Objects
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry, Kind
from p2psync.format.snapshot import Snapshot
from p2psync.format.walk import LeadsNowhere, NotThere, Walk
from p2psync.state import State


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


class Directory:
    """A directory of an archive, as `interface.Directory` has it."""

    def __init__(self, objects: Objects, root: Entry, path: bytes, digest: bytes) -> None:
        self._objects = objects
        self._root = root
        self._path = path
        self._digest = digest

    def find(self, name: bytes) -> Entry | None:
        return self._objects.find(self._digest, name)

    @property
    def pieces(self) -> int:
        return self._objects.catalogue(self._digest).pieces

    def piece(self, number: int) -> Sequence[Entry]:
        return self._objects.piece(self._digest, number)

    def leads_to_directory(self, link: Entry) -> bool:
        try:
            return _walk(self._objects, self._root, self._path + b"/" + link.name).kind is Kind.DIR
        except (NotThere, LeadsNowhere, LookupError):
            return False


def find(objects: Objects, root: Entry, path: bytes) -> Found | None:
    """What a path leads to; None where it leads to nothing within the archive, or a listing is not here."""
    try:
        entry = _walk(objects, root, path)
        if entry.kind is not Kind.DIR:
            return Found(entry)
        objects.catalogue(entry.digest)
        return Found(entry, Directory(objects, root, path, entry.digest))
    except (NotThere, LeadsNowhere, LookupError):
        return None


def _walk(objects: Objects, root: Entry, path: bytes) -> Entry:
    """Raises NotThere, LeadsNowhere, LookupError: a listing is not here."""
    way = Walk(root, path, follow_last=True)
    while (directory := way.next_directory()) is not None:
        way.enter(objects.find(directory.digest, way.name))
    return way.entry

"""Reading what is to be published: the walk over a tree, and whether what it found may be published at all.
The walk itself is ``builder``'s; what becomes of it, ``publisher``'s.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from p2psync.events import Teller
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry, decode_listing
from p2psync.format.marks import has_no_links
from p2psync.format.snapshot import Snapshot
from p2psync.publish.builder import Builder
from p2psync.publish.claim import PLACE, RULES, TEMPORARY
from p2psync.publish.guards import check_loss, check_place
from p2psync.rules.filter import Filter
from p2psync.state import State, Tree
from p2psync.tree.place import Place, mounts_below
from p2psync.tree.report import Report
from p2psync.tree.scan import count_tree

IS_MOUNT: Final = "is_mount"
"""Among a tree's options: whether its root is a mount point."""
MOUNTS: Final = "mounts"
"""Among a tree's options: the directories in it at which other file systems are mounted."""


@dataclass(frozen=True, slots=True)
class Walked:
    """What was found."""

    root: Entry
    """All objects below it are in the state."""
    report: Report
    builder: Builder
    rules: Filter
    place: Place
    is_mount: bool
    mounts: Sequence[bytes]

    @property
    def read_bytes(self) -> int:
        """Bytes that were read of files."""
        return self.builder.read_bytes

    def accept(self, tree: Tree) -> None:
        """It is to be published: note with the tree, which the caller writes, what the next walk looks at."""
        self.builder.accept()
        tree.options[RULES] = self.rules.texts()
        tree.options[TEMPORARY] = self.rules.temporary
        tree.options[PLACE] = list(self.place)
        tree.options[IS_MOUNT] = self.is_mount
        tree.options[MOUNTS] = [*self.mounts, *self.builder.missing]


def walk(
    state: State,
    tree: Tree,
    archive: bytes,
    last: Entry | None,
    applied: Filter,
    hidden: frozenset[bytes],
    tell: Teller,
    *,
    count_first: bool,
    accept_shrink: bool,
) -> Walked:
    """Read a tree that was published with the root ``last``, or what changed in it. The other arguments are
    as in `publish`, and so is what is raised.
    """
    if last is not None:
        tell.phase("publishing", last.totals.bytes, last.totals.files)
    elif count_first:
        tell.phase("counting")
        tell.phase("publishing", *count_tree(tree.path, applied, hidden, tell))
    else:
        tell.phase("publishing")
    report = Report(tell)
    mounts = mounts_below(tree.path)
    lost = [] if accept_shrink else [path for path in tree.options.get(MOUNTS, ()) if path not in mounts]
    builder = Builder(
        state, tree.id, applied, report, tell, hidden, last=last, unmounted=lost, archive=archive
    )
    root = builder.build(tree.path)
    report.finish()
    here, is_mount = Place.of(tree.path), os.path.ismount(tree.path)
    if last is not None and not accept_shrink:
        before = Place.from_row(tree.options.get(PLACE))
        unmounted = bool(tree.options.get(IS_MOUNT)) and not is_mount
        had, has = _names(state, last), _names(state, root)
        check_place(tree.path, before, here, had, has, unmounted=unmounted)
        check_loss(tree.path, last.totals, root.totals)
    return Walked(root, report, builder, applied, here, is_mount, mounts)


def root_of(state: State, snapshot: Ref | None) -> Entry | None:
    """The root of a snapshot, if that is here."""
    decoded = _snapshot(state, snapshot)
    return None if decoded is None else decoded.root


def is_news(state: State, snapshot: Ref | None, root: Entry, report: Report) -> bool:
    """Whether a tree that was read is another one than that of a snapshot, or what that says of it is not so
    any more.
    """
    before = _snapshot(state, snapshot)
    if before is None or before.root != root:
        return True
    return report.linked > 0 and has_no_links(before.extra)


def _snapshot(state: State, snapshot: Ref | None) -> Snapshot | None:
    return None if snapshot is None else state.meta.read(snapshot, Snapshot.decode)


def _names(state: State, directory: Entry) -> frozenset[bytes]:
    """The names in a directory, if its listing is here."""
    return frozenset(entry.name for entry in state.meta.read(directory.ref, decode_listing) or ())

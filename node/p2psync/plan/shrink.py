"""Whether a snapshot lacks so much of what DEST got from the one before that it looks like a mistake: a disk
that was not mounted when the archive was published, or a wrong directory. Reads only what is here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from p2psync.errors import FormatError
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry, Kind, decode_listing
from p2psync.format.snapshot import Snapshot
from p2psync.format.walk import LeadsNowhere, NotThere, walk
from p2psync.plan.changes import Plan, repeat_key
from p2psync.state import State

LOST_MIN: Final = 100
"""Names that any snapshot may lack: below, a small archive would often be asked about."""
LISTINGS_KEPT: Final = 64
"""Earlier listings that are kept decoded: those above the directory that is looked at."""

Names = dict[bytes, Entry]


class Loss(NamedTuple):
    """Files and links: of what DEST has from earlier snapshots, how many the new one lacks, and how many of
    the new one are in DEST already.
    """

    lost: int
    present: int

    @property
    def is_suspicious(self) -> bool:
        """Whether more than half would go, and more than ``LOST_MIN``."""
        return self.lost > LOST_MIN and self.lost > self.present


class Part(NamedTuple):
    """What was fetched once: a directory of a snapshot."""

    snapshot: Ref
    path: bytes


class Earlier:
    """What was fetched into DEST before, as far as snapshots and listings are here."""

    def __init__(self, state: State, parts: Iterable[Part]) -> None:
        self._state = state
        self._read: dict[Ref, Names] = {}
        self._roots = [root for part in parts if (root := self._root(part)) is not None]

    def _root(self, part: Part) -> Entry | None:
        snapshot = self._state.meta.read(part.snapshot, Snapshot.decode)
        if snapshot is None:
            return None
        try:
            return walk(
                snapshot.root,
                part.path,
                lambda directory: list(self._inside(directory).values()),
                follow_last=True,
            )
        except (NotThere, LeadsNowhere):
            return None

    def loss(self, plan: Plan, whole: Entry) -> Loss:
        """What would be lost by removing what the plan finds extraneous. Content that only got another name
        is not lost, nor what is in ``whole``: the new directory, before rules leave out some of it.
        """
        totals = plan.root.totals
        links = sum(len(work.symlinks) for work in plan.dirs)
        replaced = sum(len(work.replaced) for work in plan.dirs)
        present = max(totals.files + totals.symlinks - plan.files - links + replaced, 0)
        lost = Loss(sum(_names(entry) for entry in self._missing(plan, whole)), present)
        if not lost.is_suspicious:
            return lost
        moved = frozenset(plan.contents)
        return Loss(sum(self._gone(entry, moved) for entry in self._missing(plan, whole)), present)

    def _missing(self, plan: Plan, whole: Entry) -> Iterator[Entry]:
        """What stands in DEST, was in an earlier snapshot, and is not in this one."""
        for work in plan.dirs:
            gone = (*work.extraneous, *work.conflicts)
            known = [names for root in self._roots if (names := self._at(root, work.path))] if gone else []
            there = self._at(whole, work.path) if gone and whole.ref != plan.root.ref else {}
            for name in gone:
                if name in there and name not in work.conflicts:
                    continue
                found = next((names[name] for names in known if name in names), None)
                if found is not None:
                    yield found

    def _at(self, root: Entry, path: bytes) -> Names:
        """What an earlier snapshot had in a directory."""
        entry: Entry | None = root
        for part in path.split(b"/") if path else []:
            entry = self._inside(entry).get(part)
            if entry is None:
                return {}
        return self._inside(entry)

    def _inside(self, entry: Entry | None) -> Names:
        if entry is None or entry.kind is not Kind.DIR:
            return {}
        known = self._read.get(entry.ref)
        if known is None:
            raw = self._state.meta.get(entry.ref.digest)
            try:
                known = {each.name: each for each in decode_listing(raw)} if raw is not None else {}
            except FormatError:
                known = {}  # Damaged here: nothing is known of it.
            if len(self._read) == LISTINGS_KEPT:
                del self._read[next(iter(self._read))]
            self._read[entry.ref] = known
        return known

    def _gone(self, entry: Entry, moved: frozenset[int]) -> int:
        """How many files and links at or below an entry are nowhere in the new snapshot, as far as one can
        tell.
        """
        gone = 0
        waiting = [entry]
        while waiting:
            each = waiting.pop()
            if each.kind is Kind.DIR and (inside := self._inside(each)):
                waiting += inside.values()
            elif each.kind is not Kind.FILE or repeat_key(each.digest) not in moved:
                gone += _names(each)
        return gone


def _names(entry: Entry) -> int:
    """Files and links at or below an entry."""
    return entry.totals.files + entry.totals.symlinks if entry.kind is Kind.DIR else 1

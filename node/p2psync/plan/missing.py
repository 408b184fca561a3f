"""What directories need that are not there at all: everything in their listings, so it is found out once for
each listing and not for each directory. A few small objects can name a directory any number of times.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection
from typing import Final, Protocol

from p2psync.format.ids import Ref
from p2psync.format.listing import Entry, Kind, Totals
from p2psync.plan.changes import NO_NAMES, NO_POSITIONS, DirWork
from p2psync.plan.receiving import EVERYTHING, Receiving

SEEN_MAX: Final = 1 << 14
"""Listings of which it is remembered what they need: some 5 MB. An archive with more of them was not made of
a few small objects.
"""
SEEN_DIRS_MAX: Final = 1 << 15
"""Entries of directories in these listings that are remembered: some 10 MB. All directories with a listing
share them; read again for each, they would take 300 bytes for each of those in it.
"""
NOTED_MAX: Final = 2
"""Directories with one listing whose contents are noted: twice is enough to know that they are repeated."""


class Place(Protocol):
    """A directory of the snapshot, and where it is to be."""

    @property
    def path(self) -> bytes: ...
    @property
    def ref(self) -> Ref: ...
    @property
    def depth(self) -> int: ...


class Missing:
    """What all directories with one listing need that are not there."""

    __slots__ = (
        "dirs",
        "files",
        "leaves",
        "left_bytes",
        "ref",
        "size",
        "symlinks",
        "times",
        "totals",
        "twins",
    )

    def __init__(self, ref: Ref, totals: Totals, entries: list[Entry], left: Collection[int] = ()) -> None:
        """``left``: positions of those that options leave out."""
        self.ref = ref
        self.totals = totals
        self.files = _positions(entries, Kind.FILE, left)
        self.symlinks = _positions(entries, Kind.SYMLINK, left)
        self.size = sum([entries[at].size for at in self.files])
        """Bytes of the files directly in it that are wanted."""
        self.leaves = bool(left)
        self.left_bytes = sum([entries[at].below.bytes for at in left])
        self.twins = len({each.name.lower() for each in entries}) < len(entries)
        self.dirs = [each for at, each in enumerate(entries) if each.kind is Kind.DIR and at not in left]
        """Entries of those in it."""
        self.times = 0
        """How many there were so far."""

    def fill_in(self, work: DirWork) -> None:
        """Note in ``work`` all that it needs."""
        work.listing, work.totals, work.twins = self.ref, self.totals, self.twins
        work.content, work.symlinks = self.files, self.symlinks
        work.metadata = work.replaced = NO_POSITIONS
        work.extraneous = work.conflicts = work.guarded = NO_NAMES
        work.retouch, work.leaves = True, self.leaves
        self.times += 1


class Seen:
    """What was found out, by listing."""

    def __init__(self, receiving: Receiving = EVERYTHING) -> None:
        self._receiving = receiving
        self._seen: dict[tuple[Ref, int], Missing] = {}
        self._dirs = 0

    def _key(self, place: Place) -> tuple[Ref, int]:
        # How deep it lies says which links lead out of the tree.
        return place.ref, place.depth if self._receiving.safe_links else 0

    def _left(self, place: Place, entries: list[Entry]) -> Collection[int]:
        receiving = self._receiving
        if receiving.leaves_nothing:
            return ()
        return {at for at, each in enumerate(entries) if receiving.leaves(each, place.path, None)}

    def known(self, place: Place, totals: Totals) -> Missing | None:
        """What such a directory needs, if it is known so well that its listing need not be read again, and
        adds up to these totals.
        """
        found = self._seen.get(self._key(place))
        return found if found is not None and found.times >= NOTED_MAX and found.totals == totals else None

    def of(self, place: Place, totals: Totals, entries: list[Entry]) -> Missing:
        """What such a directory needs, whose listing was read and adds up to these totals."""
        found = self._seen.get(self._key(place))
        if found is None:
            found = Missing(place.ref, totals, entries, self._left(place, entries))
            if len(self._seen) >= SEEN_MAX or self._dirs >= SEEN_DIRS_MAX:
                self._seen.clear()
                self._dirs = 0
            if len(found.dirs) <= SEEN_DIRS_MAX:
                self._seen[self._key(place)] = found
                self._dirs += len(found.dirs)
        return found


def _positions(entries: list[Entry], kind: Kind, left: Collection[int]) -> array[int]:
    return array("I", [at for at, each in enumerate(entries) if each.kind is kind and at not in left])

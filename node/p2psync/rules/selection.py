"""What of a tree is asked for: a function from the listing of a directory to what of it takes part. Pure.

It looks at names, and at what the archive says of them, never at DEST: so a selection of a snapshot is a tree
itself, with listings of its own (``plan.selected`` makes them).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from p2psync.format.listing import Entry, Kind
from p2psync.format.paths import join
from p2psync.rules.filter import Filter
from p2psync.rules.names import NOTHING_LISTED, Listed, Names, Share

NO_RULES: Final = Filter()


class Absent(NamedTuple):
    """A listed path that the archive does not have."""

    path: bytes
    below_a_file: bool
    """Something that is no directory is on the way: an error to rsync, which then deletes nothing."""


class Selection(NamedTuple):
    """The options of rsync that decide which names are sent."""

    rules: Filter = NO_RULES
    prune: bool = False
    """Leave out directories in which nothing takes part but directories (rsync's --prune-empty-dirs)."""
    names: Names | None = None
    """What alone takes part, with rules or without (rsync's --files-from)."""

    @property
    def is_all(self) -> bool:
        """Whether everything takes part."""
        return self.rules.hides_nothing and not self.prune and self.names is None

    def choose(self, path: bytes, entries: Sequence[Entry]) -> list[Entry]:
        """Of the entries of the directory at ``path``, those that take part. Whoever asks has asked of the
        directories above it.
        """
        scope = self.rules.scope(path)
        if self.names is None:
            return [entry for entry in entries if not scope.hides(entry.name, entry.kind is Kind.DIR)]
        listed, share = self._listed(path)
        all_inside = share is not None and share >= Share.INSIDE
        made: list[Entry] = []
        for entry in entries:
            is_dir = entry.kind is Kind.DIR
            one = listed.inside.get(entry.name)
            # Rules are about what is listed, and not about the way to it.
            on_the_way = is_dir and one is not None and bool(one.inside)
            is_listed = all_inside or (one is not None and one.share > Share.WAY)
            if on_the_way or (is_listed and not scope.hides(entry.name, is_dir)):
                made.append(entry)
        return made

    def _listed(self, path: bytes) -> tuple[Listed, Share | None]:
        """What is listed of a directory, and how much of it takes part, with the rules."""
        if self.names is None:
            return NOTHING_LISTED, Share.ALL
        listed, share = self.names.at(path)
        if path and listed.inside and self.rules.hidden(path, True):
            share = Share.WAY
        return listed, share

    def absent(self, path: bytes, entries: Sequence[Entry]) -> Iterator[Absent]:
        """What is listed of the directory at ``path`` and is not among its entries."""
        listed, _ = self._listed(path)
        there = {entry.name: entry.kind for entry in entries}
        for name, one in listed.inside.items():
            if name not in there:
                yield Absent(join(path, name), below_a_file=False)
            elif one.inside and there[name] is not Kind.DIR:
                yield from (Absent(join(join(path, name), inner), below_a_file=True) for inner in one.inside)

    def is_part(self, path: bytes) -> bool:
        """Whether the directory at ``path`` takes part without what is in it: that is not deleted, then."""
        _, share = self._listed(path)
        return share is None or share < Share.INSIDE

    def is_bare(self, path: bytes) -> bool:
        """Whether nothing that is in the directory at ``path`` takes part, whatever that is."""
        listed, share = self._listed(path)
        return (share is None or share < Share.INSIDE) and not listed.inside

    @property
    def dresses_root(self) -> bool:
        """Whether what fills DEST takes part itself."""
        return self.names is None or self.names.root.share > Share.WAY

    def keeps_empty(self, path: bytes) -> bool:
        """Whether the directory at ``path`` takes part though it is empty now: what fills DEST does, and, as
        in rsync, what rules protect. One that leads to listed names does with one of them.
        """
        is_dest = not path and not self.rules.above
        if self._listed(path)[1] is Share.WAY and not is_dest:
            return False
        return not self.prune or is_dest or self.rules.protected(path, True)

    def has(self, root: Entry) -> bool:
        """Whether what is asked for takes part itself. Rules are about the name that it has from the root of
        the transfer, and what fills DEST has none.
        """
        return not self.rules.above or not self.rules.hidden(b"", root.kind is Kind.DIR)

"""What of a tree is asked for: a function from the listing of a directory to what of it takes part. Pure.

It looks at names, and at what the archive says of them, never at DEST: so a selection of a snapshot is a tree
itself, with listings of its own (``plan.selected`` makes them).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from p2psync.format.listing import Entry, Kind
from p2psync.rules.filter import Filter

NO_RULES: Final = Filter()


class Selection(NamedTuple):
    """The options of rsync that decide which names are sent."""

    rules: Filter = NO_RULES
    prune: bool = False
    """Leave out directories in which nothing takes part but directories (rsync's --prune-empty-dirs)."""

    @property
    def is_all(self) -> bool:
        """Whether everything takes part."""
        return self.rules.hides_nothing and not self.prune

    def choose(self, path: bytes, entries: Sequence[Entry]) -> list[Entry]:
        """Of the entries of the directory at ``path``, those that take part. Whoever asks has asked of the
        directories above it.
        """
        scope = self.rules.scope(path)
        return [entry for entry in entries if not scope.hides(entry.name, entry.kind is Kind.DIR)]

    def keeps_empty(self, path: bytes) -> bool:
        """Whether the directory at ``path`` takes part though it is empty now: what fills DEST does, and, as
        in rsync, what rules protect.
        """
        is_dest = not path and not self.rules.above
        return not self.prune or is_dest or self.rules.protected(path, True)

    def has(self, root: Entry) -> bool:
        """Whether what is asked for takes part itself. Rules are about the name that it has from the root of
        the transfer, and what fills DEST has none.
        """
        return not self.rules.above or not self.rules.hidden(b"", root.kind is Kind.DIR)

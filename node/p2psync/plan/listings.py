"""What the plan needs to know of snapshots: their listings, wherever they come from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from p2psync.format.ids import Ref
from p2psync.format.listing import Entry


class Listings(Protocol):
    """Directory objects by reference (``p2psync.supply.manifest`` gets them from sources)."""

    async def load(self, refs: Iterable[Ref], predecessors: dict[Ref, Ref] | None = None) -> list[Ref]:
        """See to it that they can be read; those that cannot be had are returned."""

    def listing(self, ref: Ref) -> list[Entry]:
        """The entries of a directory object that ``load`` has seen to. May be called from any thread."""

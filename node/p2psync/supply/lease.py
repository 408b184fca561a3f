"""Verified bytes in the arena, and how long they are needed there."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from p2psync.arena import Extent
from p2psync.supply.jobs import Job


class Lease:
    """An extent with bytes that some orders still need."""

    __slots__ = ("_back", "extent", "uses")

    def __init__(self, extent: Extent, back: Callable[[Extent], None]) -> None:
        self.extent = extent
        self.uses = 1
        """Orders that need it, and one for who filled it, until ``done`` is called for it."""
        self._back = back

    def done(self) -> None:
        """One use is over."""
        self.uses -= 1
        if not self.uses:
            self._back(self.extent)


class Piece(NamedTuple):
    """Verified bytes of one chunk: ``length`` bytes at ``position`` of the arena."""

    job: Job
    number: int
    position: int
    length: int

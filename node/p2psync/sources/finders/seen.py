"""The heads that came in one run, for when the snapshot of the newest one is nowhere. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

HEADS_MAX: Final = 64
"""Heads that are kept: strangers could send any number."""


class SeenHeads:
    """Heads as they came, which are perhaps none."""

    def __init__(self) -> None:
        self._seen: dict[bytes, None] = {}
        self._nowhere: set[bytes] = set()

    def note(self, raws: Iterable[bytes]) -> None:
        for raw in raws:
            if len(self._seen) < HEADS_MAX:
                self._seen[raw] = None

    def give_up(self, raw: bytes) -> None:
        """Nobody has the snapshot of this one."""
        self._nowhere.add(raw)

    def usable(self, raws: Iterable[bytes] | None = None) -> list[bytes]:
        """Those of all, or of these, that were not given up."""
        return [raw for raw in (self._seen if raws is None else raws) if raw not in self._nowhere]

"""Holders that have said that they leave: what they said before is not looked into, whoever still tells it.

The records come verified; who reads them is ``discovery``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from p2psync.sources.finders.records import Found
from p2psync.sources.swarm import Swarm
from p2psync_dht import HolderRecord

KNOWN_MAX: Final = 4096
"""Nodes of which the latest word is remembered; strangers could make any number."""


class Departures:
    """Who has left, as far as one fetch has heard."""

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self._latest: dict[bytes, HolderRecord] = {}
        """By node key."""

    def present(self, found: Iterable[Found]) -> list[Found]:
        """Those of nodes whose latest word is not that they leave."""
        chosen = list(found)
        for each in chosen:
            self._note(each.record)
        return [each for each in chosen if not (each.record.withdrawn or self._has_left(each.record))]

    def _note(self, record: HolderRecord) -> None:
        known = self._latest.get(record.node_key)
        if known is not None and known.issued >= record.issued:
            return
        self._latest = self._latest if len(self._latest) < KNOWN_MAX else {}
        self._latest[record.node_key] = record
        if record.withdrawn:
            for member in self._swarm.members:
                if member.node_key == record.node_key:
                    self._swarm.left(member)

    def _has_left(self, record: HolderRecord) -> bool:
        latest = self._latest.get(record.node_key)
        return latest is not None and latest.withdrawn

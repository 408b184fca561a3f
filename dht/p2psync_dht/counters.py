"""What a node counts, and a log that hostile traffic cannot fill."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

_LOG = logging.getLogger("p2psync_dht")
LOG_INTERVAL = 1.0  # seconds between two lines about what comes from the network
TRAFFIC: Final = (
    "bytes_in",
    "bytes_out",
    "datagrams_in",
    "datagrams_out",
    "queries_sent",
    "queries_answered",
    "retransmissions",
    "timeouts",
    "requests_served",
    "stores_accepted",
)
"""Names of the totals in `Counters` that tell what passed over the sockets."""


@dataclass(slots=True)
class Counters:
    """Running totals since the start. Bytes are UDP payload; `drops` and `events` are by reason."""

    bytes_in: int = 0
    bytes_out: int = 0
    datagrams_in: int = 0
    datagrams_out: int = 0
    queries_sent: int = 0
    queries_answered: int = 0
    retransmissions: int = 0
    timeouts: int = 0
    requests_served: int = 0
    stores_accepted: int = 0
    lookups: int = 0  # ended
    lookup_queries: int = 0  # sent by them
    lookup_seconds: float = 0.0  # taken by them, added up
    drops: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)

    def snapshot(self) -> dict[str, int]:
        """All of it as one flat dictionary; reasons become `drop_REASON` and `event_REASON`."""
        flat = {name: getattr(self, name) for name in (*TRAFFIC, "lookups", "lookup_queries")}
        flat |= {f"drop_{reason}": count for reason, count in sorted(self.drops.items())}
        return flat | {f"event_{reason}": count for reason, count in sorted(self.events.items())}


class QuietLog:
    """At most one line in `LOG_INTERVAL`; says how many it left out."""

    __slots__ = ("_last", "_left_out")

    def __init__(self) -> None:
        self._last = -LOG_INTERVAL
        self._left_out = 0

    def note(self, now: float, what: str, *args: object) -> None:
        if now - self._last < LOG_INTERVAL:
            self._left_out += 1
            return
        if self._left_out:
            _LOG.info("%s (and %d more lines)", what % args, self._left_out)
        else:
            _LOG.info(what, *args)
        self._last = now
        self._left_out = 0

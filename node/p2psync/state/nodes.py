"""Nodes that this machine has dealt with itself: which one proved its key at which address, and which one
gave content that was right. What anybody says of holders is `holders`'.

A key cannot be forged, so what is known of one survives its records: who gave something last month is asked
before strangers today.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from p2psync.state.database import MAX_VARIABLES, Database
from p2psync.trust import Standing
from p2psync_dht import Endpoint, HolderRecord
from p2psync_dht.holder_record import places_in

PROVED_FOR: Final = 12 * 3600
"""Seconds for which a proof counts as recent. Holders say anew where they are every 11 hours, and prove it.
"""
DELIVERED_FOR: Final = 90 * 24 * 3600
"""Seconds for which it is remembered that a node gave something: archives are fetched once a month, and
sometimes later.
"""
NODES_MAX: Final = 16_384
"""Nodes that are remembered, at about 100 bytes; strangers could make any number of keys."""


class NodeStore:
    """What is known of nodes by their keys (32 bytes). Times are Unix seconds."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def proved(self, node_key: bytes, place: Endpoint, now: float) -> None:
        """The node has just proved its key at an address; a URL is none."""
        packed = place.encode()
        if isinstance(packed, bytes):
            self._put([(node_key, packed, int(now), 0)])

    def delivered(self, node_keys: Iterable[bytes], now: float) -> None:
        """These nodes have just given content that was right."""
        self._put((key, b"", 0, int(now)) for key in node_keys)

    def _put(self, rows: Iterable[tuple[bytes, bytes, int, int]]) -> None:
        with self._db.transaction() as connection:
            connection.executemany(
                "INSERT INTO nodes (node_key, place, proved, delivered) VALUES (?,?,?,?) "
                "ON CONFLICT (node_key) DO UPDATE SET "
                "place = CASE WHEN excluded.proved THEN excluded.place ELSE place END, "
                "proved = max(proved, excluded.proved), delivered = max(delivered, excluded.delivered)",
                rows,
            )
            count = connection.execute("SELECT count(*) FROM nodes").fetchone()[0]
            if count > NODES_MAX:
                connection.execute(
                    "DELETE FROM nodes WHERE node_key IN "
                    "(SELECT node_key FROM nodes ORDER BY delivered, proved LIMIT ?)",
                    (count - NODES_MAX,),
                )

    def standings(self, records: Iterable[HolderRecord], now: float) -> dict[bytes, Standing]:
        """How these holders stand, by node key."""
        wanted = {record.node_key: record for record in records}
        made = dict.fromkeys(wanted, Standing.TOLD)
        keys = list(wanted)
        for start in range(0, len(keys), MAX_VARIABLES):
            some = keys[start : start + MAX_VARIABLES]
            marks = ",".join("?" * len(some))
            rows = self._db.connection.execute(
                f"SELECT node_key, place, proved, delivered FROM nodes WHERE node_key IN ({marks})",  # noqa: S608
                some,
            )
            for key, place, proved, delivered in rows:
                if delivered > now - DELIVERED_FOR:
                    made[key] = Standing.DELIVERED
                elif proved > now - PROVED_FOR and is_at(wanted[key].raw, place):
                    made[key] = Standing.PROVED
        return made

    def prune(self, now: float) -> int:
        """Forget what counts no longer at `now`; returns how many nodes went."""
        with self._db.transaction() as connection:
            return connection.execute(
                "DELETE FROM nodes WHERE proved <= ? AND delivered <= ?",
                (int(now) - PROVED_FOR, int(now) - DELIVERED_FOR),
            ).rowcount


def is_at(raw: bytes, place: bytes) -> bool:
    """Whether a holder record names an endpoint, and no other of the same address family: whoever proved its
    key at its own address must not have another one passed on with that.
    """
    return [each for each in places_in(raw) if len(each) == len(place)] == [place]

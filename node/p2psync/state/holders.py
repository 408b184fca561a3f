"""Signed holder records: who was last heard to hold an archive, and what this node itself said last. Callers
have verified them, which says who speaks and not that it is true: how far a holder is believed is `nodes`'.
What strangers tell is kept within the shares of their networks, and passed on to nobody.

A record that takes another one back is kept until it expires, like any other: it keeps the one before from
coming back by somebody who has not heard of it.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Mapping
from typing import Final

from p2psync.state.database import Database
from p2psync.state.nodes import PROVED_FOR, NodeStore, is_at
from p2psync.trust import Standing
from p2psync_dht import Endpoint, HolderRecord, RecordError
from p2psync_dht.holder_record import addresses_in
from p2psync_dht.networks import NetworkQuota, fairly, networks_of
from p2psync_dht.places import HOLDERS_PER_NETWORK
from p2psync_dht.records import MAX_CLOCK_SKEW

# A client needs a few dozen sources; this many fill a few pages of answers and bound what strangers can
# make us keep.
MAX_HOLDERS_PER_ARCHIVE: Final = 1000
MAX_TOLD: Final = 256
"""Of these, such as nobody here has dealt with: as many as a reader takes of a key of the DHT."""
MAX_KNOWN: Final = MAX_HOLDERS_PER_ARCHIVE - MAX_TOLD


class HolderStore:
    """Raw records by archive and node key."""

    def __init__(self, database: Database, nodes: NodeStore) -> None:
        self._db = database
        self._nodes = nodes
        self._chance = random.Random()  # noqa: S311 - whom strangers cannot foresee, not what is secret

    def put(self, archive: bytes, raw: bytes, *, node_key: bytes, issued: int, expires: int) -> bool:
        """Keep a record unless a later one of the same node is here; whether it was kept. Times in Unix
        seconds.

        A full archive gives up the record that expires first, which may be this one.
        """
        with self._db.transaction() as connection:
            kept = self._put(archive, raw, node_key, issued, expires)
            count = connection.execute(
                "SELECT count(*) FROM holders WHERE archive = ?", (archive,)
            ).fetchone()[0]
            if count > MAX_HOLDERS_PER_ARCHIVE:
                first = connection.execute(
                    "SELECT node_key FROM holders WHERE archive = ? ORDER BY expires, node_key LIMIT 1",
                    (archive,),
                ).fetchone()[0]
                connection.execute("DELETE FROM holders WHERE archive = ? AND node_key = ?", (archive, first))
                kept = kept and first != node_key
            return kept

    def _put(self, archive: bytes, raw: bytes, node_key: bytes, issued: int, expires: int) -> bool:
        """`put` within a transaction, though the archive be full."""
        done = self._db.connection.execute(
            "INSERT INTO holders (archive, node_key, issued, expires, raw) VALUES (?,?,?,?,?) "
            "ON CONFLICT (archive, node_key) DO UPDATE SET issued = excluded.issued, "
            "expires = excluded.expires, raw = excluded.raw WHERE issued < excluded.issued",
            (archive, node_key, issued, expires, raw),
        )
        return done.rowcount > 0

    def keep(self, archive: bytes, record: HolderRecord) -> bool:
        """`put` of a record that was read."""
        return self.put(
            archive, record.raw, node_key=record.node_key, issued=record.issued, expires=record.expires
        )

    def keep_own(self, archive: bytes, record: HolderRecord, now: float) -> None:
        """Keep what this node says of itself at `now` (Unix seconds): before anybody else has it."""
        place = next((endpoint for endpoint in record.endpoints if endpoint.ip), None)
        with self._db.transaction():
            if place is not None:
                self._nodes.proved(record.node_key, place, now)
            self._nodes.delivered([record.node_key], now)
            self.keep(archive, record)

    def keep_proved(self, archive: bytes, record: HolderRecord, place: Endpoint, now: float) -> None:
        """Keep the record of a node that proved its key at `place` a moment before `now`."""
        with self._db.transaction():
            self._nodes.proved(record.node_key, place, now)
            self._put(archive, record.raw, record.node_key, record.issued, record.expires)
            self._trim(archive, now)

    def hear(self, archive: bytes, records: Iterable[HolderRecord], now: float) -> None:
        """Keep what strangers tell, as far as it stays within the shares of their networks: of these, those
        who were dealt with go last, and else nobody has more right to stay than anybody else.
        """
        with self._db.transaction():
            for record in records:
                self._put(archive, record.raw, record.node_key, record.issued, record.expires)
            self._trim(archive, now)

    def _trim(self, archive: bytes, now: float) -> None:
        """Let go of those that are too many, within a transaction."""
        self._db.connection.execute(
            "DELETE FROM holders WHERE archive = ? AND expires <= ?", (archive, int(now))
        )
        records = self.records(archive, now)
        if len(records) <= HOLDERS_PER_NETWORK.client:
            return
        standings = self._nodes.standings(records, now)
        ordered = in_order(records, standings, self._chance)
        known = [record for record in ordered if standings[record.node_key] != Standing.TOLD]
        quota = NetworkQuota(caps=HOLDERS_PER_NETWORK)
        told = [record for record in ordered[len(known) :] if quota.admit_all(record.ips)]
        kept = {record.node_key for record in (*known[:MAX_KNOWN], *told[:MAX_TOLD])}
        for record in records:
            if record.node_key not in kept:
                self.drop(archive, record.node_key)

    def of_node(self, archive: bytes, node_key: bytes) -> HolderRecord | None:
        """The latest record of one node, expired or not."""
        row = self._db.connection.execute(
            "SELECT raw FROM holders WHERE archive = ? AND node_key = ?", (archive, node_key)
        ).fetchone()
        with contextlib.suppress(RecordError):
            return None if row is None else HolderRecord.decode(bytes(row[0]))
        return None

    def next_issue(self, archive: bytes, node_key: bytes, now: int) -> int:
        """When the next record of a node is issued (Unix seconds): later than its last one, since of two from
        the same second some would keep the first, be it that of a run which has just ended.

        A record that a wrong clock has dated so far ahead that nobody takes it is forgotten.
        """
        last = self.of_node(archive, node_key)
        if last is not None and last.issued > now + MAX_CLOCK_SKEW:
            self.drop(archive, node_key)
            last = None
        return now if last is None else max(now, last.issued + 1)

    def archives_of(self, node_key: bytes) -> list[bytes]:
        """The archives of which a record of this node is here."""
        rows = self._db.connection.execute("SELECT archive FROM holders WHERE node_key = ?", (node_key,))
        return [bytes(row[0]) for row in rows]

    def archives_of_others(self, node_key: bytes) -> set[bytes]:
        """The archives of which a record of any node but this one is here."""
        rows = self._db.connection.execute(
            "SELECT DISTINCT archive FROM holders WHERE node_key != ?", (node_key,)
        )
        return {bytes(row[0]) for row in rows}

    def records(self, archive: bytes, now: float) -> list[HolderRecord]:
        """The records that have not expired at `now` (Unix seconds), read, withdrawals included."""
        made: list[HolderRecord] = []
        for raw in self.for_archive(archive, now):
            with contextlib.suppress(RecordError):
                made.append(HolderRecord.decode(raw))
        return made

    def present(self, archive: bytes, now: float) -> list[HolderRecord]:
        """Those of `records` that say that somebody is there."""
        return [record for record in self.records(archive, now) if not record.withdrawn]

    def for_archive(self, archive: bytes, now: float) -> list[bytes]:
        """The raw records that have not expired at `now`, the latest to expire first."""
        rows = self._db.connection.execute(
            "SELECT raw FROM holders WHERE archive = ? AND expires > ? ORDER BY expires DESC, node_key",
            (archive, int(now)),
        )
        return [bytes(row[0]) for row in rows]

    def vouched(self, archive: bytes, now: float) -> list[bytes]:
        """Those of `for_archive` that may be passed on: their nodes have proved their keys to this machine,
        not long ago, at the addresses that they name, and were not dropped for what they sent.
        """
        rows = self._db.connection.execute(
            "SELECT h.raw, n.place FROM holders h JOIN nodes n ON n.node_key = h.node_key "
            "WHERE h.archive = ? AND h.expires > ? AND n.proved > ? AND NOT EXISTS (SELECT 1 FROM checks c "
            "WHERE c.archive = h.archive AND c.node_key = h.node_key AND c.dropped) "
            "ORDER BY h.expires DESC, h.node_key",
            (archive, int(now), int(now) - PROVED_FOR),
        )
        return [bytes(raw) for raw, place in rows if is_at(bytes(raw), bytes(place))]

    def count(self, archive: bytes, now: float) -> int:
        """How many of `vouched` say that they are there."""
        return sum(not HolderRecord.decode(raw).withdrawn for raw in self.vouched(archive, now))

    def ordered(self, archive: bytes, now: float) -> list[HolderRecord]:
        """Those of `present` in the order in which they are asked."""
        found = self.present(archive, now)
        return in_order(found, self._nodes.standings(found, now), self._chance)

    def drop(self, archive: bytes, node_key: bytes) -> None:
        with self._db.transaction() as connection:
            connection.execute("DELETE FROM holders WHERE archive = ? AND node_key = ?", (archive, node_key))

    def prune(self, now: float) -> int:
        """Remove what has expired at `now`; returns how many."""
        with self._db.transaction() as connection:
            return connection.execute("DELETE FROM holders WHERE expires <= ?", (int(now),)).rowcount


def in_order(
    records: Iterable[HolderRecord], standings: Mapping[bytes, Standing], chance: random.Random
) -> list[HolderRecord]:
    """Holders in the order in which they are asked: those that this machine has dealt with first, and among
    equals no network twice before each other one once, whatever they say of themselves. `standings` by node
    key; what is equal in all is decided by `chance`.
    """
    shuffled = list(records)
    chance.shuffle(shuffled)
    fair = fairly(shuffled, lambda record: [networks_of(ip) for ip in addresses_in(record.raw)])
    return sorted(fair, key=lambda record: standings.get(record.node_key, Standing.TOLD))

"""Signed holder records: who was last heard to hold an archive, and what this node itself said last. Callers
have verified them.

A record that takes another one back is kept until it expires, like any other: it keeps the one before from
coming back by somebody who has not heard of it.
"""

from __future__ import annotations

import contextlib
from typing import Final

from p2psync.state.database import Database
from p2psync_dht import HolderRecord, RecordError
from p2psync_dht.records import MAX_CLOCK_SKEW

# A client needs a few dozen sources; this many fill a few pages of answers and bound what strangers can
# make us keep.
MAX_HOLDERS_PER_ARCHIVE: Final = 1000


class HolderStore:
    """Raw records by archive and node key."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def put(self, archive: bytes, raw: bytes, *, node_key: bytes, issued: int, expires: int) -> bool:
        """Keep a record unless a later one of the same node is here; whether it was kept. Times in Unix
        seconds.

        A full archive gives up the record that expires first, which may be this one.
        """
        with self._db.transaction() as connection:
            done = connection.execute(
                "INSERT INTO holders (archive, node_key, issued, expires, raw) VALUES (?,?,?,?,?) "
                "ON CONFLICT (archive, node_key) DO UPDATE SET issued = excluded.issued, "
                "expires = excluded.expires, raw = excluded.raw WHERE issued < excluded.issued",
                (archive, node_key, issued, expires, raw),
            )
            kept = done.rowcount > 0
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

    def keep(self, archive: bytes, record: HolderRecord) -> bool:
        """`put` of a record that was read."""
        return self.put(
            archive, record.raw, node_key=record.node_key, issued=record.issued, expires=record.expires
        )

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

    def drop(self, archive: bytes, node_key: bytes) -> None:
        with self._db.transaction() as connection:
            connection.execute("DELETE FROM holders WHERE archive = ? AND node_key = ?", (archive, node_key))

    def prune(self, now: float) -> int:
        """Remove what has expired at `now`; returns how many."""
        with self._db.transaction() as connection:
            return connection.execute("DELETE FROM holders WHERE expires <= ?", (int(now),)).rowcount

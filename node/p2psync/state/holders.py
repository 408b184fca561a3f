"""A cache of signed holder records: who was last heard to hold an archive. Callers have verified them."""

from __future__ import annotations

from typing import Final

from p2psync.state.database import Database

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

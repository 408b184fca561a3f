"""What nothing refers to any more: objects and recipes below no kept snapshot, tree, directory or file.

Marking reads, and holds up nobody. Sweeping writes in transactions of a few milliseconds, and each looks
again before it deletes: a snapshot, tree or directory that has come meanwhile keeps what it names. What was
put in, or again, within the grace period stays as it is, so that a fetch or publish in progress does not lose
what it has not yet tied to a snapshot.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgpack

from p2psync.errors import FormatError
from p2psync.format.attributes import decode_attributes
from p2psync.format.limits import SINGLE_CHUNK_MAX
from p2psync.format.listing import Kind, decode_listing
from p2psync.format.snapshot import Snapshot
from p2psync.state.database import MAX_VARIABLES, Database
from p2psync.state.rows import digests
from p2psync.state.trees import CHOSEN, CHOSEN_PLACE

SWEPT_AT_ONCE: Final = MAX_VARIABLES  # objects in one transaction: milliseconds, also of large listings


class Garbage:
    """One collection. Memory is a digest for each object that stays."""

    def __init__(self, database: Database, get: Callable[[bytes], bytes | None]) -> None:
        self._db = database
        self._get = get
        self._marked: set[bytes] = set()

    def collect(self, keep: int, horizon: int) -> int:
        """Remove what was put in before `horizon` (Unix time in s) and is not referred to; how many.

        Of the snapshots of each archive the newest `keep` stay known, and those that a tree equals.
        """
        with self._db.transaction() as connection:
            self._forget_snapshots(connection, keep)
        for digest in self._roots(connection):
            self._mark_snapshot(digest)
        for (options,) in connection.execute("SELECT options FROM trees").fetchall():
            if row := msgpack.unpackb(options).get(CHOSEN):
                self._mark_chosen(row[CHOSEN_PLACE])
        self._marked.update(row[0] for row in connection.execute("SELECT digest FROM dirs"))
        for (records,) in connection.execute("SELECT records FROM pieces"):
            self._marked.update(digests(records, SINGLE_CHUNK_MAX))
        return sum(self._sweep(connection, table, horizon) for table in ("objects", "recipes"))

    @staticmethod
    def _forget_snapshots(connection: sqlite3.Connection, keep: int) -> None:
        connection.execute(
            "DELETE FROM snapshots WHERE (archive, digest) IN ("
            "SELECT archive, digest FROM (SELECT archive, digest, row_number() OVER "
            "(PARTITION BY archive ORDER BY epoch DESC, seq DESC, digest) AS place FROM snapshots) "
            "WHERE place > ?) AND digest NOT IN (SELECT snapshot FROM trees WHERE snapshot IS NOT NULL)",
            (keep,),
        )

    @staticmethod
    def _roots(connection: sqlite3.Connection) -> set[bytes]:
        """The digests of the snapshots that stay."""
        rows = connection.execute(
            "SELECT digest FROM snapshots UNION SELECT snapshot FROM trees WHERE snapshot IS NOT NULL"
        )
        return {row[0] for row in rows}

    def _sweep(self, connection: sqlite3.Connection, table: str, horizon: int) -> int:
        removed = 0
        last = b""
        while True:
            rows = connection.execute(
                f"SELECT digest FROM {table} WHERE digest > ? AND added < ? ORDER BY digest LIMIT ?",  # noqa: S608
                (last, horizon, SWEPT_AT_ONCE),
            ).fetchall()
            if not rows:
                return removed
            last = rows[-1][0]
            removed += self._remove(connection, table, [row[0] for row in rows], horizon)

    def _remove(self, connection: sqlite3.Connection, table: str, some: list[bytes], horizon: int) -> int:
        """Remove those of a few that are not referred to now; how many."""
        while dead := [digest for digest in some if digest not in self._marked]:
            with self._db.transaction():
                come = self._roots(connection) - self._marked
                if not come:
                    marks = ",".join("?" * len(dead))
                    return connection.execute(
                        f"DELETE FROM {table} WHERE digest IN ({marks}) AND added < ? "  # noqa: S608
                        "AND digest NOT IN (SELECT digest FROM dirs WHERE digest IS NOT NULL)",
                        (*dead, horizon),
                    ).rowcount
            for digest in come:
                self._mark_snapshot(digest)
        return 0

    def _mark_snapshot(self, digest: bytes) -> None:
        """Mark a snapshot, all objects below it, and the contents that have recipes."""
        self._marked.add(digest)
        raw = self._get(digest)
        if raw is None:
            return
        try:
            snapshot = Snapshot.decode(raw)
        except FormatError:
            return  # As with a listing that is damaged.
        self._mark(snapshot.root.digest, self._inner_listings)
        if snapshot.attributes is not None:
            self._mark(snapshot.attributes.digest, _inner_attributes)

    def _mark_chosen(self, raw: bytes) -> None:
        """Mark the listings of a part of a snapshot, of which the entry of the root is known."""
        for digest in self._inner_listings(raw):
            self._mark(digest, self._inner_listings)

    def _mark(self, digest: bytes, inner: Callable[[bytes], Iterable[bytes]]) -> None:
        pending = [digest]
        while pending:
            digest = pending.pop()
            if digest in self._marked:
                continue
            self._marked.add(digest)
            raw = self._get(digest)
            if raw is not None:
                pending += inner(raw)

    def _inner_listings(self, raw: bytes) -> Iterator[bytes]:
        try:
            entries = decode_listing(raw)
        except FormatError:
            # Damaged here: it refers to nothing that could be used, and is fetched or made again when it is
            # needed.
            return
        for entry in entries:
            if entry.kind is Kind.DIR:
                yield entry.digest
            elif entry.size > SINGLE_CHUNK_MAX:
                self._marked.add(entry.digest)


def _inner_attributes(raw: bytes) -> list[bytes]:
    return [row.inner.digest for row in decode_attributes(raw) if row.inner is not None]

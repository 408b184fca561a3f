"""The newest head of each archive that was ever accepted here: the memory that refuses a rollback.

`p2psync.trust` decides what is accepted; this store keeps only the greater by order, whoever writes first.
"""

from __future__ import annotations

from typing import Final

from p2psync.errors import FormatError, TrustError
from p2psync.format.head import ArchiveHead, decode_head
from p2psync.state.connection import damaged
from p2psync.state.database import Database

ENDED_HERE: Final = "ended here"
"""The source of a head by which an archive was ended on this state directory."""
ENDED_TOLD: Final = 30 * 24 * 3600
"""Seconds for which a node tells others that an archive was ended here. Whoever looks once a month hears of
it, and so does whoever trusts the head before it, which is fresh for a week. Nodes of the DHT keep it for a
week more, and mirrors for as long as they hold the archive.
"""


class HeadStore:
    """One head per archive."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def newest(self, archive: bytes) -> ArchiveHead | None:
        """The newest accepted head. Raises FileError if the index was damaged."""
        row = self._db.connection.execute("SELECT raw FROM heads WHERE archive = ?", (archive,)).fetchone()
        return None if row is None else self._decoded(row[0])

    def put(self, head: ArchiveHead, source: str = "") -> bool:
        """Keep a head if it is newer than the one that is here; whether it was. `source` says where it came
        from.
        """
        epoch, seq, digest = head.order
        with self._db.transaction() as connection:
            done = connection.execute(
                "INSERT INTO heads (archive, epoch, seq, hash, raw, source) VALUES (?,?,?,?,?,?) "
                "ON CONFLICT (archive) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq, "
                "hash = excluded.hash, raw = excluded.raw, source = excluded.source "
                "WHERE (epoch, seq, hash) < (excluded.epoch, excluded.seq, excluded.hash)",
                (head.archive, epoch, seq, digest, head.raw, source),
            )
            return done.rowcount > 0

    def told_as_ended(self, now: float, archive: bytes | None = None) -> list[ArchiveHead]:
        """The heads by which archives (or this one) were ended here, for as long as others are told of it.
        `now` is in Unix seconds.
        """
        only, values = ("", ()) if archive is None else (" AND archive = ?", (archive,))
        rows = self._db.connection.execute(
            f"SELECT raw FROM heads WHERE source = ?{only}",  # noqa: S608
            (ENDED_HERE, *values),
        )
        heads = (decode_head(row[0]) for row in rows)
        return [head for head in heads if head.ended is not None and now < head.ended + ENDED_TOLD]

    def source(self, archive: bytes) -> str | None:
        """Where the newest head came from."""
        row = self._db.connection.execute("SELECT source FROM heads WHERE archive = ?", (archive,)).fetchone()
        return None if row is None else str(row[0])

    def all(self) -> list[ArchiveHead]:
        return [
            self._decoded(row[0])
            for row in self._db.connection.execute("SELECT raw FROM heads ORDER BY archive")
        ]

    def _decoded(self, raw: bytes) -> ArchiveHead:
        try:
            return decode_head(raw)
        except (FormatError, TrustError) as error:  # It was right when it was put in.
            raise damaged(self._db.path, "a head in it is not what was signed") from error

"""The newest list of recommended mirrors of each archive that was accepted here: the memory that refuses an
older one.
"""

from __future__ import annotations

from p2psync.errors import FormatError, TrustError
from p2psync.format.mirror_list import MirrorList, decode_list
from p2psync.state.connection import damaged
from p2psync.state.database import Database


class ListStore:
    """One list per archive."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def newest(self, archive: bytes) -> MirrorList | None:
        """The newest list. Raises FileError if the index was damaged."""
        raw = self.raw(archive)
        try:
            return None if raw is None else decode_list(*raw)
        except (FormatError, TrustError) as error:  # It was right when it was put in.
            raise damaged(self._db.path, "a list of mirrors in it is not what was signed") from error

    def raw(self, archive: bytes) -> tuple[bytes, bytes] | None:
        """The record that names it, and the list, as they came."""
        row = self._db.connection.execute(
            "SELECT record, body FROM mirror_lists WHERE archive = ?", (archive,)
        ).fetchone()
        return None if row is None else (bytes(row[0]), bytes(row[1]))

    def put(self, made: MirrorList) -> bool:
        """Keep a list if it is newer than the one that is here; whether it was."""
        epoch, seq, digest = made.order
        with self._db.transaction() as connection:
            done = connection.execute(
                "INSERT INTO mirror_lists (archive, epoch, seq, hash, record, body) VALUES (?,?,?,?,?,?) "
                "ON CONFLICT (archive) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq, "
                "hash = excluded.hash, record = excluded.record, body = excluded.body "
                "WHERE (epoch, seq, hash) < (excluded.epoch, excluded.seq, excluded.hash)",
                (made.archive, epoch, seq, digest, made.record.raw, made.body),
            )
            return done.rowcount > 0

    def records(self) -> dict[bytes, bytes]:
        """The record of each archive's list."""
        rows = self._db.connection.execute("SELECT archive, record FROM mirror_lists")
        return {bytes(archive): bytes(record) for archive, record in rows}

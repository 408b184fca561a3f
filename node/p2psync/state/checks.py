"""What checks have found of the holders of archives (`p2psync.checks`), for as long as they are of interest.

A holder is in it once it has proved its key: records alone, which cost nothing, take no place.
"""

from __future__ import annotations

from typing import Final

import msgpack

from p2psync.checks import Past, Suspect, Track
from p2psync.state.connection import decoding
from p2psync.state.database import Database

TRACKS_MAX: Final = 1024
"""Holders that are remembered of one archive: as many as there may be records of it. A track takes 2 kB."""

FORM: Final = 1
"""Of a track as it is kept."""


class CheckStore:
    """Tracks by archive and node key (32 bytes each)."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def of_archive(self, archive: bytes) -> dict[bytes, Track]:
        """All of an archive."""
        rows = self._db.connection.execute(
            "SELECT node_key, track FROM checks WHERE archive = ? ORDER BY node_key", (archive,)
        )
        with decoding(self._db.path):
            found = {bytes(key): _decode(bytes(raw)) for key, raw in rows}
        return {key: track for key, track in found.items() if track is not None}

    def archives(self) -> list[bytes]:
        """The archives of which any holder was checked."""
        rows = self._db.connection.execute("SELECT DISTINCT archive FROM checks")
        return [bytes(row[0]) for row in rows]

    def get(self, archive: bytes, node_key: bytes) -> Track | None:
        row = self._db.connection.execute(
            "SELECT track FROM checks WHERE archive = ? AND node_key = ?", (archive, node_key)
        ).fetchone()
        with decoding(self._db.path):
            return None if row is None else _decode(bytes(row[0]))

    def put(self, archive: bytes, node_key: bytes, track: Track) -> None:
        """Keep what is known of a holder; of too many, whoever has passed nothing for longest goes."""
        with self._db.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO checks (archive, node_key, dropped, passed, gone_at, track) "
                "VALUES (?,?,?,?,?,?)",
                (archive, node_key, track.dropped, track.passed, track.gone_at, _encode(track)),
            )
            count = connection.execute(
                "SELECT count(*) FROM checks WHERE archive = ?", (archive,)
            ).fetchone()[0]
            if count > TRACKS_MAX:
                connection.execute(
                    "DELETE FROM checks WHERE archive = ? AND node_key IN (SELECT node_key FROM checks "
                    "WHERE archive = ? ORDER BY passed, node_key LIMIT ?)",
                    (archive, archive, count - TRACKS_MAX),
                )

    def forget(self, archive: bytes) -> None:
        """Forget all of an archive, which is not published here any more."""
        with self._db.transaction() as connection:
            connection.execute("DELETE FROM checks WHERE archive = ?", (archive,))

    def prune(self, now: float) -> int:
        """Forget holders that have passed nothing for long, at `now` (Unix s); how many."""
        with self._db.transaction() as connection:
            return connection.execute("DELETE FROM checks WHERE gone_at <= ?", (int(now),)).rowcount


def _encode(track: Track) -> bytes:
    packed: bytes = msgpack.packb((FORM, *track))
    return packed


def _decode(raw: bytes) -> Track | None:
    """None: another version wrote it, which knows other things; the holder is checked anew."""
    form, *values = msgpack.unpackb(raw, use_list=False)
    if form != FORM:
        return None
    made = Track(*values)
    return made._replace(
        suspects=tuple(Suspect(*each) for each in made.suspects),
        history=tuple(Past(*past) for past in made.history),
    )

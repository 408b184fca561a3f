"""What may be told to others: which trees are kept to oneself, and which archives have an object of metadata.

Metadata is kept by its digest alone, whoever it is of. Whether somebody who names a digest may have it
follows from the archives that it was read or made for: otherwise anybody could ask what a user has
downloaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from p2psync.state.database import MAX_VARIABLES, Database

WITHHELD: Final = "EXISTS (SELECT 1 FROM unshared u WHERE u.tree = t.id)"
"""In a statement over the trees `t`: whether one is kept to oneself."""
PUBLIC: Final = f"(t.role = 'publish' OR t.role != 'fetch' AND NOT {WITHHELD})"
"""The same: whether a node tells everybody of one. What is published is meant for others."""
ANYBODY: Final = b""
"""Stands for the archive of what was kept before there was a note of it."""


def of_archive(archive: bytes) -> str:
    """In a statement over the trees `t`: whether one is offered by a fetch of this archive."""
    return f"(t.archive = x'{archive.hex()}' AND (t.role = 'publish' OR NOT {WITHHELD}))"


class Offers:
    """What is offered. `tree` is always a tree's id."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def withhold(self, tree: int, archive: bytes, *, withheld: bool = True) -> None:
        """Remember whether what is in a tree of this archive is kept to oneself."""
        if withheld == self._is_noted(tree, archive):
            return
        change = (
            "INSERT OR IGNORE INTO unshared (tree, archive) VALUES (?, ?)"
            if withheld
            else "DELETE FROM unshared WHERE tree = ? AND archive = ?"
        )
        with self._db.transaction() as connection:
            connection.execute(change, (tree, archive))

    def is_withheld(self, archive: bytes, tree: int | None = None) -> bool:
        """Whether a tree of this archive is kept to oneself; of a new one (None): whether any is."""
        if tree is not None:
            return self._is_noted(tree, archive)
        found = self._db.connection.execute("SELECT 1 FROM unshared WHERE archive = ? LIMIT 1", (archive,))
        return found.fetchone() is not None

    def _is_noted(self, tree: int, archive: bytes) -> bool:
        found = self._db.connection.execute(
            "SELECT 1 FROM unshared WHERE tree = ? AND archive = ?", (tree, archive)
        )
        return found.fetchone() is not None

    def public(self) -> frozenset[int]:
        """The trees that a node tells everybody of."""
        return frozenset(
            row[0]
            for row in self._db.connection.execute(f"SELECT t.id FROM trees t WHERE {PUBLIC}")  # noqa: S608
        )

    def unnoted(self, archive: bytes, digests: Iterable[bytes]) -> list[bytes]:
        """Those of the objects of which it is not noted that the archive has them."""
        wanted = list(dict.fromkeys(digests))
        noted: set[bytes] = set()
        for start in range(0, len(wanted), MAX_VARIABLES - 1):
            some = wanted[start : start + MAX_VARIABLES - 1]
            rows = self._db.connection.execute(
                f"SELECT digest FROM object_archives WHERE digest IN ({','.join('?' * len(some))}) "  # noqa: S608
                "AND archive = ?",
                (*some, archive),
            )
            noted.update(row[0] for row in rows)
        return [digest for digest in wanted if digest not in noted]

    def note(self, archive: bytes, digests: Iterable[bytes]) -> None:
        """The archive has these objects, and they are here."""
        with self._db.transaction() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO object_archives (digest, archive) "
                "SELECT digest, ? FROM objects WHERE digest = ?",
                ((archive, digest) for digest in digests),
            )

    def offers(self, digest: bytes, archive: bytes | None = None) -> bool:
        """Whether an object may be given to others: by a fetch of this archive, or (None) by a node."""
        if archive is not None:
            return not self.unnoted(archive, [digest])
        found = self._db.connection.execute(
            "SELECT 1 FROM object_archives a WHERE a.digest = ? AND (a.archive = x'' OR EXISTS "  # noqa: S608
            f"(SELECT 1 FROM trees t WHERE t.archive = a.archive AND {PUBLIC})) LIMIT 1",
            (digest,),
        )
        return found.fetchone() is not None

"""What was made in a tree and has no content: directories and symbolic links.

Of a file its row says who put it there (`p2psync.state.rows.was_put`); of these nothing else does. What is
noted here may be removed again when the archive has it no more, if it is still as it was made. It is noted
before it is made, so that a run that is killed loses nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from p2psync.format.paths import join
from p2psync.state.database import MAX_VARIABLES, Database

DIRECTORY: Final = None
"""In place of a link's target."""


class MadeStore:
    """Directories and links that were made, by tree and path."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def note(self, tree_id: int, made: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Note paths, each with the target of the link or `DIRECTORY`."""
        with self._db.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO made (tree, path, target) VALUES (?, ?, ?)",
                ((tree_id, path, target) for path, target in made),
            )

    def of(self, tree_id: int, directory: bytes, names: Iterable[bytes]) -> Mapping[bytes, bytes | None]:
        """Those of the names in a directory that were made, each with its target or `DIRECTORY`."""
        paths = {join(directory, name): name for name in names}
        wanted = list(paths)
        found: dict[bytes, bytes | None] = {}
        for start in range(0, len(wanted), MAX_VARIABLES):
            some = wanted[start : start + MAX_VARIABLES]
            rows = self._db.connection.execute(
                f"SELECT path, target FROM made WHERE tree = ? AND path IN ({','.join('?' * len(some))})",  # noqa: S608
                (tree_id, *some),
            )
            found.update((paths[path], target) for path, target in rows)
        return found

    def forget(self, tree_id: int, path: bytes) -> None:
        """A path is gone, with all below it."""
        with self._db.transaction() as connection:
            connection.execute(
                "DELETE FROM made WHERE tree = ? AND (path = ? OR path > ? AND path < ?)",
                (tree_id, path, path + b"/", path + b"0"),
            )

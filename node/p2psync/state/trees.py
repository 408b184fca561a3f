"""Trees: directories on disk that hold (part of) an archive.

What is known of the directories and files in them is `p2psync.state.directories`'; where some content lies,
`p2psync.state.contents`'.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Literal

import msgpack

from p2psync.errors import UsageError, show_path
from p2psync.format.ids import Ref
from p2psync.format.paths import join
from p2psync.state.connection import decoding
from p2psync.state.contents import Contents
from p2psync.state.database import Database
from p2psync.state.directories import AT_OR_BELOW, ROWS_AT_ONCE, Directories, at_or_below
from p2psync.state.rows import DirRow, FileRow, FilesIn, Located

__all__ = ["DirRow", "FileRow", "Located", "Role", "Tree", "Trees"]

Role = Literal["publish", "mirror", "fetch"]

CHOSEN: Final = "chosen"
CHOSEN_PLACE: Final = 4
"""Among a tree's options: what was chosen of a snapshot, and where in that row its root's entry stands, in a
listing of its own. Its listings are kept.
"""
SAMPLED: Final = 16
"""Names of one directory in a sample: the others come from other directories."""
_INSERT: Final = (
    "INSERT INTO trees (id, path, archive, role, epoch, seq, source, options) VALUES ("
    "max(coalesce((SELECT max(id) FROM trees), 0), "
    "coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'trees'), 0)) + 1, ?, ?, ?, 0, 0, '', ?)"
)
"""The id is never one of a tree that was forgotten, which somebody may know by it still. `sqlite_sequence` is
SQLite's own table, of AUTOINCREMENT, which the table of trees was made without.
"""
_TREE: Final = "id, path, archive, role, epoch, seq, snapshot_size, snapshot, source, options"


@dataclass
class Tree:
    """One directory on disk. `path` is absolute and real; `snapshot` is what it is known to equal, None
    while it is incomplete. `options` may hold whatever msgpack can.
    """

    id: int
    path: bytes
    archive: bytes | None
    role: Role
    epoch: int = 0
    seq: int = 0
    snapshot: Ref | None = None
    source: str = ""
    options: dict[str, Any] = field(default_factory=dict)


class Trees(Directories):
    """The trees of a state directory, the directories and files in them, and where content lies."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._contents = Contents(database)

    def get(self, path: bytes) -> Tree | None:
        """The tree at `path` (absolute, real)."""
        row = self._db.connection.execute(f"SELECT {_TREE} FROM trees WHERE path = ?", (path,)).fetchone()  # noqa: S608
        return None if row is None else self._trees([row])[0]

    def by_archive(self, archive: bytes) -> list[Tree]:
        rows = self._db.connection.execute(
            f"SELECT {_TREE} FROM trees WHERE archive = ? ORDER BY id",  # noqa: S608
            (archive,),
        )
        return self._trees(rows)

    def all(self) -> list[Tree]:
        return self._trees(self._db.connection.execute(f"SELECT {_TREE} FROM trees ORDER BY id"))  # noqa: S608

    def _trees(self, rows: Iterable[tuple[Any, ...]]) -> list[Tree]:
        with decoding(self._db.path):
            return [_tree(row) for row in rows]

    def ensure(self, path: bytes, role: Role, archive: bytes | None) -> Tree:
        """The tree at `path`, made if there is none; an existing one takes `role`, and `archive` if it has
        none.

        Raises UsageError if the directory belongs to another archive.
        """
        if not path.startswith(b"/"):
            raise ValueError("the path of a tree is absolute")
        with self._db.transaction() as connection:
            found = self.get(path)
            if found is None:
                connection.execute(_INSERT, (path, archive, role, msgpack.packb({})))
                found = self.get(path)
                assert found is not None  # noqa: S101 - written above, in this transaction
                return found
            if archive is not None and found.archive is not None and archive != found.archive:
                raise UsageError(
                    f"{show_path(path)} already belongs to another archive: use another directory, or "
                    "remove that tree first"
                )
            found.role = role
            found.archive = archive if archive is not None else found.archive
            connection.execute(
                "UPDATE trees SET role = ?, archive = ? WHERE id = ?", (found.role, found.archive, found.id)
            )
            return found

    def update(self, tree: Tree) -> None:
        """Write all fields of a tree but its path."""
        ref = tree.snapshot
        with self._db.transaction() as connection:
            connection.execute(
                "UPDATE trees SET archive=?, role=?, epoch=?, seq=?, snapshot_size=?, snapshot=?, "
                "source=?, options=? WHERE id=?",
                (
                    tree.archive,
                    tree.role,
                    tree.epoch,
                    tree.seq,
                    None if ref is None else ref.size,
                    None if ref is None else ref.digest,
                    tree.source,
                    msgpack.packb(tree.options),
                    tree.id,
                ),
            )

    def move(self, tree: Tree, path: bytes) -> None:
        """Note that a tree lies elsewhere now, where there is none yet; all that is known of it holds."""
        with self._db.transaction() as connection:
            connection.execute("UPDATE trees SET path = ? WHERE id = ?", (path, tree.id))
        tree.path = path

    def renew_files(self, tree_id: int, directory: bytes, rows: Iterable[tuple[FileRow, FileRow]]) -> int:
        """Replace rows by newer ones of the same files, where they still are what they were; how many."""
        with self._db.transaction():
            now = self.files_in(tree_id, directory)
            fresh = [new for old, new in rows if now.get(old.name) == old]
            self.put_files(tree_id, directory, fresh)
        return len(fresh)

    def remove(self, tree: Tree) -> None:
        """Forget a tree and all rows of its files; nothing on disk is touched. It takes a second for
        1,000,000 files.
        """
        with self._db.transaction() as connection:
            # Once through the table: by key, as where less is dropped, a million rows take ten times as long.
            connection.execute(
                "DELETE FROM contents WHERE dir IN (SELECT id FROM dirs WHERE tree = ?)", (tree.id,)
            )
            connection.execute("DELETE FROM trees WHERE id = ?", (tree.id,))
            last = "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'trees'"
            if not connection.execute(last, (tree.id,)).rowcount:
                connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('trees', ?)", (tree.id,))

    def knows_nothing(self) -> bool:
        """Whether no content at all is known, of any tree."""
        return self._db.connection.execute("SELECT 1 FROM contents LIMIT 1").fetchone() is None

    def is_empty(self, tree: Tree) -> bool:
        """Whether nothing is known of the files in a tree."""
        row = self._db.connection.execute(
            "SELECT 1 FROM dirs WHERE tree = ? AND EXISTS "
            "(SELECT 1 FROM pieces p WHERE p.id BETWEEN dirs.id << 16 AND dirs.id << 16 | 65535) LIMIT 1",
            (tree.id,),
        ).fetchone()
        return row is None

    def some_files(self, tree_id: int, limit: int, directory: bytes = b"") -> list[bytes]:
        """Paths of up to `limit` files of a tree, at any depth in a directory: a sample of what was there."""
        where = "dirs.tree = ?"
        values: tuple[int | bytes, ...] = (tree_id,)
        if directory:
            where = f"dirs.id IN (SELECT id FROM dirs WHERE {AT_OR_BELOW})"  # noqa: S608
            values = at_or_below(tree_id, directory)
        rows = self._db.connection.execute(
            "SELECT parent, name, names FROM dirs JOIN pieces ON pieces.id = dirs.id << 16 "  # noqa: S608
            f"WHERE {where} LIMIT ?",
            (*values, limit),
        )
        paths = (
            join(join(parent, name), each)
            for parent, name, names in rows
            for each in names[1:-1].split(b"\0", SAMPLED)[:SAMPLED]
        )
        return list(islice(paths, limit))

    def file_directories(self, tree_id: int) -> Iterator[bytes]:
        """The paths of the directories of a tree that have, or had, files. Memory is flat; what is written
        meanwhile may be among them or not.
        """
        last: tuple[bytes, bytes] = b"", b""
        rows = self._db.connection.execute(
            "SELECT parent, name FROM dirs WHERE tree = ? AND parent = x'' AND name = x''", (tree_id,)
        ).fetchall()
        while rows:
            yield from (join(*row) for row in rows)
            rows = self._db.connection.execute(
                "SELECT parent, name FROM dirs WHERE tree = ? AND (parent, name) > (?, ?) "
                "ORDER BY parent, name LIMIT ?",
                (tree_id, *last, ROWS_AT_ONCE),
            ).fetchall()
            last = rows[-1] if rows else last

    def find(
        self, digest: bytes, limit: int = 8, *, public: bool = False, archive: bytes | None = None
    ) -> list[Located]:
        """Up to `limit` places where the content named `digest` was when it was hashed.

        `public` leaves out trees that were merely fetched or are kept to oneself; `archive` leaves out what a
        fetch of that archive does not offer.
        """
        with decoding(self._db.path):
            return self._contents.find(digest, limit, public, archive)

    def find_many(
        self,
        digests: Iterable[bytes],
        *,
        public: bool = False,
        is_there: Callable[[Located], bool] | None = None,
        without: Collection[int] = (),
        archive: bytes | None = None,
    ) -> dict[bytes, Located]:
        """One place for each of the digests that is known anywhere; the others are absent. `public` and
        `archive` as in `find`. Places that `is_there` refuses do not count, nor do those in the trees with
        the ids `without`.
        """
        with decoding(self._db.path):
            return self._contents.find_many(digests, public, is_there, without, archive)

    def near(
        self, digests: Sequence[bytes], *, public: bool = False, archive: bytes | None = None
    ) -> list[FilesIn]:
        """All files of the directories that have many of these; `public` and `archive` as in `find`."""
        with decoding(self._db.path):
            return self._contents.near(digests, public, archive)


def _tree(row: tuple[Any, ...]) -> Tree:
    tree_id, path, archive, role, epoch, seq, size, digest, source, options = row
    snapshot = None if digest is None else Ref(size, digest)
    return Tree(tree_id, path, archive, role, epoch, seq, snapshot, source, msgpack.unpackb(options))

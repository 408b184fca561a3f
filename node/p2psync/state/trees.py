"""Trees: directories on disk that hold (part of) an archive, and what is known of the files in them.

A file's row says what was on disk when its content was hashed: who serves or reuses that content compares
size, mtime, ctime and inode first. A directory's row keeps the listing that was made of it and a stamp of
all that went into that listing; publishing uses it to leave unchanged directories alone. Paths below a tree
are relative, bytes, without leading or trailing slash; b"" is the root.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import msgpack

from p2psync.errors import UsageError
from p2psync.format.ids import Ref
from p2psync.format.limits import INT64_MAX
from p2psync.format.listing import Totals
from p2psync.state.database import MAX_VARIABLES, Database

Role = Literal["publish", "mirror", "fetch"]

_TREE: Final = "id, path, archive, role, epoch, seq, snapshot_size, snapshot, source, options"
_DIR: Final = "stamp, size, digest, files, dirs, symlinks, bytes, ino"
_PUBLIC: Final = {True: " AND t.role != 'fetch'", False: ""}
_FILE: Final = "name, size, mtime_ns, ctime_ns, ino, digest, hashed_ns"
_LOCATED: Final = "t.id, t.path, f.dir, f.name, f.size, f.mtime_ns, f.ctime_ns, f.ino, t.archive"


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


class FileRow(NamedTuple):
    """What was on disk when a file was hashed. `hashed_ns` (Unix time) is when the reading began, 0 if the
    writer of the row wrote the file itself. An empty file has the digest b"".
    """

    name: bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    ino: int
    digest: bytes
    hashed_ns: int = 0


class DirRow(NamedTuple):
    """The listing of a directory, and the stamp of all that it was made from (b"": make it again next
    time).
    """

    stamp: bytes
    listing: Ref
    totals: Totals
    ino: int  # its lower 63 bits are kept: it is a hint where to look, nothing more


class Located(NamedTuple):
    """Where some content lies on disk, if the file there still has these attributes."""

    tree_id: int
    tree_path: bytes
    dir: bytes
    name: bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    ino: int
    archive: bytes | None


def split(path: bytes) -> tuple[bytes, bytes]:
    """(parent directory, name) of a relative path; both are empty for the root."""
    parent, _, name = path.rpartition(b"/")
    return parent, name


def _below(directory: bytes) -> tuple[bytes, bytes]:
    """The half-open range of paths that lie below a directory: '0' is the byte after '/'."""
    return directory + b"/", directory + b"0"


class Trees:
    """The trees of a state directory and the files in them."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, path: bytes) -> Tree | None:
        """The tree at `path` (absolute, real)."""
        row = self._db.connection.execute(f"SELECT {_TREE} FROM trees WHERE path = ?", (path,)).fetchone()  # noqa: S608
        return None if row is None else _tree(row)

    def by_id(self, tree_id: int) -> Tree | None:
        row = self._db.connection.execute(f"SELECT {_TREE} FROM trees WHERE id = ?", (tree_id,)).fetchone()  # noqa: S608
        return None if row is None else _tree(row)

    def by_archive(self, archive: bytes) -> list[Tree]:
        rows = self._db.connection.execute(
            f"SELECT {_TREE} FROM trees WHERE archive = ? ORDER BY id",  # noqa: S608
            (archive,),
        )
        return [_tree(row) for row in rows]

    def all(self) -> list[Tree]:
        return [_tree(row) for row in self._db.connection.execute(f"SELECT {_TREE} FROM trees ORDER BY id")]  # noqa: S608

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
                connection.execute(
                    "INSERT INTO trees (path, archive, role, epoch, seq, source, options) "
                    "VALUES (?,?,?,0,0,'',?)",
                    (path, archive, role, msgpack.packb({})),
                )
                found = self.get(path)
                assert found is not None  # noqa: S101 - written above, in this transaction
                return found
            if archive is not None and found.archive is not None and archive != found.archive:
                shown = path.decode("utf-8", "backslashreplace")
                raise UsageError(
                    f"{shown} already belongs to another archive: use another directory, or remove that "
                    "tree first."
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

    def remove(self, tree: Tree) -> None:
        """Forget a tree and all rows of its files; nothing on disk is touched."""
        with self._db.transaction() as connection:
            connection.execute("DELETE FROM trees WHERE id = ?", (tree.id,))

    def is_empty(self, tree: Tree) -> bool:
        """Whether nothing is known of the files in a tree."""
        row = self._db.connection.execute("SELECT 1 FROM files WHERE tree = ? LIMIT 1", (tree.id,)).fetchone()
        return row is None

    def files_in(self, tree_id: int, directory: bytes) -> dict[bytes, FileRow]:
        """The rows of the files directly in a directory, by name."""
        rows = self._db.connection.execute(
            f"SELECT {_FILE} FROM files WHERE tree = ? AND dir = ?",  # noqa: S608
            (tree_id, directory),
        )
        return {row[0]: FileRow._make(row) if row[4] >= 0 else _unsigned(row) for row in rows}

    def put_files(self, tree_id: int, directory: bytes, rows: Iterable[FileRow]) -> None:
        """Write rows, replacing those of the same names."""
        with self._db.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO files "
                "(name, size, mtime_ns, ctime_ns, ino, digest, hashed_ns, tree, dir) "
                "VALUES (?,?,?,?,?,?,?,?,?)",
                ((*(row if row.ino <= INT64_MAX else _signed(row)), tree_id, directory) for row in rows),
            )

    def drop_files(self, tree_id: int, directory: bytes, names: Iterable[bytes]) -> None:
        with self._db.transaction() as connection:
            connection.executemany(
                "DELETE FROM files WHERE tree = ? AND dir = ? AND name = ?",
                ((tree_id, directory, name) for name in names),
            )

    def drop_dir(self, tree_id: int, directory: bytes) -> None:
        """Drop the rows of a directory and of all that is below; b"" drops the whole tree's."""
        with self._db.transaction() as connection:
            if not directory:
                connection.execute("DELETE FROM files WHERE tree = ?", (tree_id,))
                connection.execute("DELETE FROM dirs WHERE tree = ?", (tree_id,))
                return
            where = (tree_id, directory, tree_id, *_below(directory))
            connection.execute(
                "DELETE FROM files WHERE tree = ? AND dir = ? OR tree = ? AND dir >= ? AND dir < ?", where
            )
            connection.execute(
                "DELETE FROM dirs WHERE tree = ? AND parent = ? OR tree = ? AND parent >= ? AND parent < ?",
                where,
            )
            connection.execute(
                "DELETE FROM dirs WHERE tree = ? AND parent = ? AND name = ?", (tree_id, *split(directory))
            )

    def drop_name(self, tree_id: int, directory: bytes, name: bytes) -> None:
        """Drop the rows of a name that is gone, whatever it was, and of all that is below."""
        with self._db.transaction():
            self.drop_files(tree_id, directory, [name])
            self.drop_dir(tree_id, directory + b"/" + name if directory else name)

    def find(self, digest: bytes, limit: int = 8, *, public: bool = False) -> list[Located]:
        """Up to `limit` places where the content named `digest` was when it was hashed.

        `public` leaves out trees that were merely fetched.
        """
        rows = self._db.connection.execute(
            f"SELECT {_LOCATED} "  # noqa: S608
            f"FROM files f JOIN trees t ON t.id = f.tree WHERE f.digest = ?{_PUBLIC[public]} LIMIT ?",
            (digest, limit),
        )
        return [_located(row) for row in rows]

    def find_many(self, digests: Iterable[bytes], *, public: bool = False) -> dict[bytes, Located]:
        """One place for each of the digests that is known anywhere; the others are absent. `public` as in
        `find`.
        """
        wanted = list(dict.fromkeys(digests))
        found: dict[bytes, Located] = {}
        for start in range(0, len(wanted), MAX_VARIABLES):
            some = wanted[start : start + MAX_VARIABLES]
            marks = ",".join("?" * len(some))
            for row in self._db.connection.execute(
                f"SELECT f.digest, {_LOCATED} "  # noqa: S608
                f"FROM files f JOIN trees t ON t.id = f.tree WHERE f.digest IN ({marks}){_PUBLIC[public]}",
                some,
            ):
                found.setdefault(row[0], _located(row[1:]))
        return found

    def dir_row(self, tree_id: int, directory: bytes) -> DirRow | None:
        row = self._db.connection.execute(
            f"SELECT {_DIR} FROM dirs "  # noqa: S608
            "WHERE tree = ? AND parent = ? AND name = ?",
            (tree_id, *split(directory)),
        ).fetchone()
        return None if row is None else _dir(row)

    def put_dir(self, tree_id: int, directory: bytes, row: DirRow) -> None:
        with self._db.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO dirs "
                "(tree, parent, name, stamp, size, digest, files, dirs, symlinks, bytes, ino) "
                "VALUES (?,?,?,?,?,?,?,?,?,?,?)",
                (
                    tree_id,
                    *split(directory),
                    row.stamp,
                    *row.listing.to_row(),
                    *row.totals,
                    row.ino & INT64_MAX,
                ),
            )

    def dirs_in(self, tree_id: int, directory: bytes) -> dict[bytes, DirRow]:
        """The rows of the directories directly in one, by name."""
        rows = self._db.connection.execute(
            f"SELECT {_DIR}, name FROM dirs "  # noqa: S608
            "WHERE tree = ? AND parent = ? AND name != x''",
            (tree_id, directory),
        )
        return {row[8]: _dir(row) for row in rows}

    def dir_by_inode(self, tree_id: int, ino: int) -> bytes | None:
        """The path under which a directory with this inode has a row: where it was before it was renamed."""
        row = self._db.connection.execute(
            "SELECT parent, name FROM dirs WHERE tree = ? AND ino = ? LIMIT 1",
            (tree_id, ino & INT64_MAX),
        ).fetchone()
        return None if row is None else b"/".join(part for part in row if part)


def _signed(row: FileRow) -> FileRow:
    """Inode numbers have 64 bits without a sign, SQLite's integers have one."""
    return row._replace(ino=row.ino - (1 << 64))


def _unsigned(row: tuple[Any, ...]) -> FileRow:
    made = FileRow._make(row)
    return made._replace(ino=made.ino + (1 << 64))


def _located(row: tuple[Any, ...]) -> Located:
    made = Located._make(row)
    return made if made.ino >= 0 else made._replace(ino=made.ino + (1 << 64))


def _dir(row: tuple[Any, ...]) -> DirRow:
    return DirRow(row[0], Ref(row[1], row[2]), Totals._make(row[3:7]), row[7])


def _tree(row: tuple[Any, ...]) -> Tree:
    tree_id, path, archive, role, epoch, seq, size, digest, source, options = row
    snapshot = None if digest is None else Ref(size, digest)
    return Tree(tree_id, path, archive, role, epoch, seq, snapshot, source, msgpack.unpackb(options))

"""Directories of trees in the index: their rows, and the rows of the files directly in them.

A file's row says what was on disk when its content was hashed: who serves or reuses that content compares
size, mtime, ctime and inode first. A directory's row keeps the listing that was made of it and a stamp of
all that is directly in it; publishing and fetching use it to leave unchanged directories alone. Paths below
a tree are relative, bytes, without leading or trailing slash; b"" is the root.

The files of a directory lie in pieces. Where there are several already, a new one is merged with those before
it that are not more than twice as long, so that a directory of 100,000 names that is written in batches is
rewritten a few times, and never has many pieces. Finding content is `p2psync.state.contents`'.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

import msgpack

from p2psync.format.ids import Ref
from p2psync.format.limits import INT64_MAX
from p2psync.format.listing import Totals
from p2psync.format.paths import join, split
from p2psync.state.connection import decoding
from p2psync.state.database import Database
from p2psync.state.rows import (
    RECORD,
    DirRow,
    FileRow,
    Piece,
    content_key,
    gone,
    is_gone,
    keys,
    merge,
    pack,
    unpack,
)

ROWS_AT_ONCE: Final = 1000  # rows of directories read in one query: about a megabyte
PIECES: Final = 8
"""Pieces of a directory below which none are merged: each row is then rewritten half as often as without."""
_DIR: Final = "stamp, size, digest, files, dirs, symlinks, bytes, ino, inner"
_WHERE: Final = "tree = ? AND parent = ? AND name = ?"
AT_OR_BELOW: Final = f"{_WHERE} OR tree = ? AND parent = ? OR tree = ? AND parent > ? AND parent < ?"


def span(number: int) -> tuple[int, int]:
    """The first and the last id that a piece of this directory can have."""
    return number << 16, number << 16 | 0xFFFF


class Directories:
    """Rows of directories and of the files in them."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # Files.

    def files_in(self, tree_id: int, directory: bytes) -> dict[bytes, FileRow]:
        """The rows of the files directly in a directory, by name."""
        found = self._db.connection.execute(
            "SELECT names, records FROM dirs d "
            "JOIN pieces p ON p.id BETWEEN d.id << 16 AND d.id << 16 | 65535 "
            "WHERE tree = ? AND parent = ? AND name = ? ORDER BY p.id",
            (tree_id, *split(directory)),
        ).fetchall()
        with decoding(self._db.path):
            if len(found) <= 1:
                return {row[0]: row for piece in found for row in unpack(Piece._make(piece))}
            return {name: row for name, row in merge(map(Piece._make, found)).items() if not is_gone(row)}

    def put_files(self, tree_id: int, directory: bytes, rows: Iterable[FileRow]) -> None:
        """Write rows, replacing those of the same names."""
        fresh = {row.name: row for row in rows}
        if fresh:
            with self._db.transaction() as connection:
                self._append(connection, _number(connection, tree_id, directory), fresh)

    def drop_files(self, tree_id: int, directory: bytes, names: Iterable[bytes]) -> None:
        """Drop the rows of these names, where there are any."""
        dropped = {name: gone(name) for name in names}
        with self._db.transaction() as connection:
            known = connection.execute(
                f"SELECT id FROM dirs WHERE {_WHERE}",  # noqa: S608
                (tree_id, *split(directory)),
            ).fetchone()
            if known is not None and dropped:
                self._append(connection, known[0], dropped)

    def _append(self, connection: sqlite3.Connection, number: int, fresh: dict[bytes, FileRow]) -> None:
        """Add a piece to a directory, merged with those at the end that are not much longer."""
        sizes = connection.execute(
            "SELECT length(records) / ? FROM pieces WHERE id BETWEEN ? AND ? ORDER BY id DESC",
            (RECORD.size, *span(number)),
        ).fetchall()
        if not sizes and all(map(is_gone, fresh.values())):
            return
        kept = len(sizes)
        length = len(fresh)
        while len(sizes) >= PIECES and kept and sizes[len(sizes) - kept][0] <= 2 * length:
            length += sizes[len(sizes) - kept][0]
            kept -= 1
        start, end = span(number)
        pieces = [*_pieces(connection, start + kept, end), pack(fresh.values())]
        if kept and _loses_content(pieces):
            kept = 0  # only who sees all rows of a directory knows that a content is nowhere in it any more
            pieces = [*_pieces(connection, start, end), pieces[-1]]
        merged = merge(pieces)
        if not kept:
            merged = {name: row for name, row in merged.items() if not is_gone(row)}
        connection.execute("DELETE FROM pieces WHERE id BETWEEN ? AND ?", (start + kept, end))
        if merged:
            _insert(connection, start + kept, pack(merged.values()))
        after = {content_key(row.digest) for row in merged.values() if not is_gone(row)}
        if kept:
            _note(connection, number, after, set())
        else:
            before = _keys(pieces[:-1])
            _note(connection, number, after - before, before - after)
            if not merged:
                connection.execute("DELETE FROM dirs WHERE id = ? AND digest IS NULL", (number,))

    # Directories.

    def dir_row(self, tree_id: int, directory: bytes) -> DirRow | None:
        row = self._db.connection.execute(
            f"SELECT {_DIR} FROM dirs WHERE {_WHERE} AND digest IS NOT NULL",  # noqa: S608
            (tree_id, *split(directory)),
        ).fetchone()
        with decoding(self._db.path):
            return None if row is None else _dir(row)

    def put_dir(self, tree_id: int, directory: bytes, row: DirRow) -> None:
        """Write the row of a directory; those of the files in it stay."""
        with self._db.transaction() as connection:
            _put_dir(connection, _number(connection, tree_id, directory), row)

    def put_directory(self, tree_id: int, directory: bytes, row: DirRow, files: Iterable[FileRow]) -> None:
        """Write the row of a directory and those of all files in it: other files are no longer known."""
        piece = pack(files)
        with self._db.transaction() as connection:
            number = _number(connection, tree_id, directory)
            _put_dir(connection, number, row)
            old = _pieces(connection, *span(number))
            if (old == [piece]) if piece.records else not old:
                return
            before, after = _keys(old), set(keys(piece.records))
            if old:
                connection.execute("DELETE FROM pieces WHERE id BETWEEN ? AND ?", span(number))
            if piece.records:
                _insert(connection, span(number)[0], piece)
            _note(connection, number, after - before, before - after)

    def dirs_in(self, tree_id: int, directory: bytes) -> dict[bytes, DirRow]:
        """The rows of the directories directly in one, by name."""
        rows = self._db.connection.execute(
            f"SELECT {_DIR}, name FROM dirs "  # noqa: S608
            "WHERE tree = ? AND parent = ? AND name != x'' AND digest IS NOT NULL",
            (tree_id, directory),
        )
        with decoding(self._db.path):
            return {row[9]: _dir(row) for row in rows}

    def directories(self, tree_id: int) -> Iterator[tuple[bytes, DirRow]]:
        """The paths and rows of all directories of a tree, each before those that are in it.

        Memory is flat; what is written meanwhile may be among them or not.
        """
        root = self.dir_row(tree_id, b"")
        if root is not None:
            yield b"", root
        last = (b"", b"")
        while True:
            rows = self._db.connection.execute(
                f"SELECT {_DIR}, parent, name FROM dirs "  # noqa: S608
                "WHERE tree = ? AND (parent, name) > (?, ?) AND digest IS NOT NULL "
                "ORDER BY parent, name LIMIT ?",
                (tree_id, *last, ROWS_AT_ONCE),
            ).fetchall()
            if not rows:
                return
            for row in rows:
                yield b"/".join(part for part in row[9:] if part), _dir(row)
            last = rows[-1][9:]

    def stamps(self, tree_id: int, at_once: int) -> Iterator[list[tuple[bytes, bytes, bytes]]]:
        """The stamps of all directories of a tree, some at a time: the path of the directory that each is
        in, its name and its stamp, ordered by the first two. The root comes first, and has no name. Memory
        is flat.
        """
        least = b"", b""
        while True:
            rows: list[tuple[bytes, bytes, bytes]] = self._db.connection.execute(
                "SELECT parent, name, stamp FROM dirs WHERE tree = ? AND (parent, name) >= (?, ?) "
                "AND digest IS NOT NULL ORDER BY parent, name LIMIT ?",
                (tree_id, *least, at_once),
            ).fetchall()
            if not rows:
                return
            yield rows
            parent, name, _ = rows[-1]
            least = parent, name + b"\0"  # what comes next, if a name could end so

    def knows_below(self, tree_id: int, directory: bytes) -> bool:
        """Whether there is a row of a directory, or of anything below it."""
        found = self._db.connection.execute(
            f"SELECT 1 FROM dirs WHERE {AT_OR_BELOW} LIMIT 1",  # noqa: S608
            at_or_below(tree_id, directory),
        )
        return found.fetchone() is not None

    def dir_by_inode(self, tree_id: int, ino: int) -> bytes | None:
        """The path under which a directory with this inode has a row: where it was before it was renamed."""
        row = self._db.connection.execute(
            "SELECT parent, name FROM dirs WHERE tree = ? AND ino = ? LIMIT 1",
            (tree_id, ino & INT64_MAX),
        ).fetchone()
        return None if row is None else b"/".join(part for part in row if part)

    def drop_dir(self, tree_id: int, directory: bytes) -> None:
        """Drop the rows of a directory and of all that is below; b"" drops the whole tree's."""
        with self._db.transaction() as connection:
            if not directory:
                _forget(connection, "tree = ?", (tree_id,))
                return
            _forget(connection, AT_OR_BELOW, at_or_below(tree_id, directory))

    def drop_name(self, tree_id: int, directory: bytes, name: bytes) -> None:
        """Drop the rows of a name that is gone, whatever it was, and of all that is below."""
        with self._db.transaction():
            self.drop_files(tree_id, directory, [name])
            self.drop_dir(tree_id, join(directory, name))


def at_or_below(tree_id: int, directory: bytes) -> tuple[int | bytes, ...]:
    """The values of `AT_OR_BELOW`. What lies below has a path from "directory/" to "directory0": '0' is the
    byte after '/'.
    """
    return tree_id, *split(directory), tree_id, directory, tree_id, directory + b"/", directory + b"0"


def _number(connection: sqlite3.Connection, tree_id: int, directory: bytes) -> int:
    """The id of a directory's row, made if there is none."""
    where = (tree_id, *split(directory))
    found = connection.execute(f"SELECT id FROM dirs WHERE {_WHERE}", where).fetchone()  # noqa: S608
    if found is not None:
        return int(found[0])
    made = connection.execute(
        "INSERT INTO dirs (tree, parent, name, version, stamp, inner) VALUES (?, ?, ?, 0, x'', x'')", where
    )
    assert made.lastrowid is not None  # noqa: S101 - a row was inserted
    return made.lastrowid


def _put_dir(connection: sqlite3.Connection, number: int, row: DirRow) -> None:
    inner = msgpack.packb([(name, *ref.to_row()) for name, ref in row.inner]) if row.inner else b""
    connection.execute(
        "UPDATE dirs SET stamp = ?, size = ?, digest = ?, files = ?, dirs = ?, symlinks = ?, bytes = ?, "
        "ino = ?, inner = ? WHERE id = ?",
        (row.stamp, *row.listing.to_row(), *row.totals, row.ino & INT64_MAX, inner, number),
    )


def _dir(row: tuple[Any, ...]) -> DirRow:
    inner = (
        tuple((name, Ref(size, digest)) for name, size, digest in msgpack.unpackb(row[8])) if row[8] else ()
    )
    return DirRow(row[0], Ref(row[1], row[2]), Totals._make(row[3:7]), row[7], inner)


def _pieces(connection: sqlite3.Connection, first: int, last: int) -> list[Piece]:
    rows = connection.execute(
        "SELECT names, records FROM pieces WHERE id BETWEEN ? AND ? ORDER BY id", (first, last)
    )
    return [Piece._make(row) for row in rows]


def _insert(connection: sqlite3.Connection, piece_id: int, piece: Piece) -> None:
    connection.execute("INSERT INTO pieces (id, names, records) VALUES (?, ?, ?)", (piece_id, *piece))


def _keys(pieces: Iterable[Piece]) -> set[int]:
    """What `contents` has of a directory with these pieces, names that are gone left out of account."""
    return {key for piece in pieces for key in keys(piece.records)}


def _loses_content(pieces: Iterable[Piece]) -> bool:
    """Whether merging these pieces, oldest first, would leave no row of some content that they name."""
    seen: dict[bytes, FileRow] = {}
    for row in chain.from_iterable(map(unpack, pieces)):
        before = seen.get(row.name)
        if before is not None and not is_gone(before) and (is_gone(row) or row.digest != before.digest):
            return True
        seen[row.name] = row
    return False


def _note(connection: sqlite3.Connection, number: int, added: set[int], lost: set[int]) -> None:
    """Note what content a directory has now and what it has no more, and that its files are others."""
    connection.execute("UPDATE dirs SET version = version + 1 WHERE id = ?", (number,))
    if lost:
        connection.executemany(
            "DELETE FROM contents WHERE key = ? AND dir = ?", ((k, number) for k in sorted(lost))
        )
    connection.executemany(
        "INSERT OR IGNORE INTO contents (key, dir) VALUES (?, ?)", ((key, number) for key in sorted(added))
    )


def _forget(connection: sqlite3.Connection, where: str, values: tuple[object, ...]) -> None:
    """Remove the rows of some directories, their files' and what `contents` has of them."""
    for (number,) in connection.execute(f"SELECT id FROM dirs WHERE {where}", values).fetchall():  # noqa: S608
        found = _keys(_pieces(connection, *span(number)))
        connection.executemany(
            "DELETE FROM contents WHERE key = ? AND dir = ?", ((key, number) for key in sorted(found))
        )
        connection.execute("DELETE FROM dirs WHERE id = ?", (number,))

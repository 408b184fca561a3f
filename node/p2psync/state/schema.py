"""The tables of the index, and how an index of an older version is brought to this one.

`dirs` has one row for each directory of a tree, with a listing or (size and digest NULL) only with files
that were written there. `pieces` has the rows of its files (`p2psync.state.rows`), usually in one piece:
number 0 of the directory, then newer ones that override it; the id is the directory's, then 16 bits for the
number. `contents` leads from the first 8 bytes of a digest to directories where such content may be: whoever
follows it compares the whole digest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, Final

from p2psync.format.paths import split
from p2psync.state.rows import FileRow, keys, pack

SCHEMA_VERSION: Final = 2
KEYS_AT_ONCE: Final = 100_000  # rows of `contents` sorted in memory during an upgrade: about 15 MB

_FILES_AND_DIRS: Final = """
CREATE TABLE dirs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tree INTEGER NOT NULL REFERENCES trees (id) ON DELETE CASCADE,
    parent BLOB NOT NULL,
    name BLOB NOT NULL,
    version INTEGER NOT NULL,
    ino INTEGER,
    stamp BLOB NOT NULL,
    size INTEGER,
    digest BLOB,
    files INTEGER,
    dirs INTEGER,
    symlinks INTEGER,
    bytes INTEGER,
    inner BLOB NOT NULL,
    UNIQUE (tree, parent, name)
);
CREATE INDEX dirs_ino ON dirs (tree, ino);
CREATE TABLE pieces (id INTEGER PRIMARY KEY, names BLOB NOT NULL, records BLOB NOT NULL);
CREATE TRIGGER dirs_pieces AFTER DELETE ON dirs BEGIN
    DELETE FROM pieces WHERE id BETWEEN old.id << 16 AND old.id << 16 | 65535;
END;
CREATE TABLE contents (
    key INTEGER NOT NULL,
    dir INTEGER NOT NULL,
    PRIMARY KEY (key, dir)
) WITHOUT ROWID;
"""

SCHEMA: Final = f"""
CREATE TABLE trees (
    id INTEGER PRIMARY KEY,
    path BLOB NOT NULL UNIQUE,
    archive BLOB,
    role TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    snapshot_size INTEGER,
    snapshot BLOB,
    source TEXT NOT NULL,
    options BLOB NOT NULL
);
CREATE INDEX trees_archive ON trees (archive);
{_FILES_AND_DIRS}
CREATE TABLE objects (
    digest BLOB PRIMARY KEY,
    size INTEGER NOT NULL,
    added INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE TABLE recipes (digest BLOB PRIMARY KEY, added INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE snapshots (
    archive BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    size INTEGER NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (archive, digest)
) WITHOUT ROWID;
CREATE TABLE heads (
    archive BLOB PRIMARY KEY,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    raw BLOB NOT NULL,
    source TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE holders (
    archive BLOB NOT NULL,
    node_key BLOB NOT NULL,
    issued INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    raw BLOB NOT NULL,
    PRIMARY KEY (archive, node_key)
) WITHOUT ROWID;
CREATE INDEX holders_expires ON holders (expires);
"""

MADE: Final = """
CREATE TABLE IF NOT EXISTS made (
    tree INTEGER NOT NULL REFERENCES trees (id) ON DELETE CASCADE,
    path BLOB NOT NULL,
    target BLOB,
    PRIMARY KEY (tree, path)
) WITHOUT ROWID
"""
"""Directories (target NULL) and links that were made in a tree. Versions that do not know it can use the
index as well, so it came without a new number.
"""

NODES: Final = """
CREATE TABLE IF NOT EXISTS nodes (
    node_key BLOB PRIMARY KEY,
    place BLOB NOT NULL,
    proved INTEGER NOT NULL,
    delivered INTEGER NOT NULL
) WITHOUT ROWID
"""
"""Nodes that were dealt with (`p2psync.state.nodes`): the endpoint at which one proved its key, when it last
did, and when it last gave content that was right, in Unix seconds; 0 for never. It came without a new number
as well.
"""

CHECKS: Final = """
CREATE TABLE IF NOT EXISTS checks (
    archive BLOB NOT NULL,
    node_key BLOB NOT NULL,
    dropped INTEGER NOT NULL,
    passed INTEGER NOT NULL,
    gone_at INTEGER NOT NULL,
    track BLOB NOT NULL,
    PRIMARY KEY (archive, node_key)
) WITHOUT ROWID
"""
"""What checks have found of holders (`p2psync.state.checks`): the first three fields of it are for
statements. It came without a new number too.
"""

LISTS: Final = """
CREATE TABLE IF NOT EXISTS mirror_lists (
    archive BLOB PRIMARY KEY,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    record BLOB NOT NULL,
    body BLOB NOT NULL
) WITHOUT ROWID
"""
"""Lists of recommended mirrors (`p2psync.state.lists`). It came without a new number as well."""

OFFERS: Final = """
CREATE TABLE unshared (
    tree INTEGER NOT NULL REFERENCES trees (id) ON DELETE CASCADE,
    archive BLOB NOT NULL,
    PRIMARY KEY (tree, archive)
) WITHOUT ROWID;
CREATE TABLE object_archives (
    digest BLOB NOT NULL,
    archive BLOB NOT NULL,
    PRIMARY KEY (digest, archive)
) WITHOUT ROWID;
INSERT INTO object_archives (digest, archive) SELECT digest, x'' FROM objects;
CREATE TRIGGER objects_archives AFTER DELETE ON objects BEGIN
    DELETE FROM object_archives WHERE digest = old.digest;
END;
"""
"""What is offered to others (`p2psync.state.offers`): trees that are kept to oneself, and the archives that
an object of metadata is of, empty for what was here before. It came without a new number too.
"""


def statements(script: str) -> Iterator[str]:
    """The statements of a script. `executescript` would commit the transaction that they belong to."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


def create(connection: sqlite3.Connection) -> None:
    """Make all tables of an empty index, within the caller's transaction."""
    for statement in statements(SCHEMA):
        connection.execute(statement)


def has_offers(connection: sqlite3.Connection) -> bool:
    """Whether the tables of what is offered are there."""
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'unshared'")
    return found.fetchone() is not None


def add_offers(connection: sqlite3.Connection) -> None:
    """Make the tables of what is offered, within the caller's transaction."""
    for statement in statements(OFFERS):
        connection.execute(statement)


def upgrade_from_1(connection: sqlite3.Connection) -> None:
    """From one row per file to one per directory, within the caller's transaction; memory stays flat.

    Stamps are of another kind now: the next publishing looks at each directory, but reads no file again.
    """
    for statement in ("DROP INDEX files_digest", "DROP INDEX dirs_ino"):
        connection.execute(statement)
    for table in ("files", "dirs"):
        connection.execute(f"ALTER TABLE {table} RENAME TO {table}_1")
    for statement in statements(_FILES_AND_DIRS):
        connection.execute(statement)
    connection.execute(
        "INSERT INTO dirs "
        "(tree, parent, name, version, ino, stamp, size, digest, files, dirs, symlinks, bytes, inner) "
        "SELECT tree, parent, name, 0, ino, x'', size, digest, files, dirs, symlinks, bytes, x'' "
        "FROM dirs_1"
    )
    found = iter(_upgraded(connection))
    while some := sorted(islice(found, KEYS_AT_ONCE)):
        connection.executemany("INSERT OR IGNORE INTO contents (key, dir) VALUES (?, ?)", some)
    for table in ("files", "dirs"):
        connection.execute(f"DROP TABLE {table}_1")


def _upgraded(connection: sqlite3.Connection) -> Iterator[tuple[int, int]]:
    """Write the pieces of all directories; what `contents` is to have of them."""
    old = connection.execute(
        "SELECT tree, dir, name, size, mtime_ns, ctime_ns, ino, digest, hashed_ns "
        "FROM files_1 ORDER BY tree, dir"
    )
    for (tree, path), rows in groupby(old, key=itemgetter(0, 1)):
        parent, name = split(path)
        connection.execute(
            "INSERT OR IGNORE INTO dirs (tree, parent, name, version, stamp, inner) "
            "VALUES (?, ?, ?, 0, x'', x'')",
            (tree, parent, name),
        )
        (number,) = connection.execute(
            "SELECT id FROM dirs WHERE tree = ? AND parent = ? AND name = ?", (tree, parent, name)
        ).fetchone()
        piece = pack(_unsigned(rows))
        connection.execute("INSERT INTO pieces (id, names, records) VALUES (?, ?, ?)", (number << 16, *piece))
        for key in set(keys(piece.records)):
            yield key, number


def _unsigned(rows: Iterable[tuple[Any, ...]]) -> Iterator[FileRow]:
    """Rows as they stood in the table; inode numbers of 64 bits were stored as signed ones."""
    for row in rows:
        made = FileRow._make(row[2:])
        yield made if made.ino >= 0 else made._replace(ino=made.ino + (1 << 64))

"""A connection to the index whose errors are sentences: what is wrong with which file, and what to do.

Whatever SQLite refuses for a reason outside this program (a damaged file, a full or failing disk, no
permission, another process that writes for too long) is a FileError, wherever it arises: at a statement, at
the next row, at a commit. What would be a mistake of the program stays an error of sqlite3.
"""

from __future__ import annotations

import sqlite3
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn, Self

import msgpack

from p2psync.errors import FileError, show_path
from p2psync.state.locks import WRITABLE

_OURS: Final = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.NotSupportedError,
    sqlite3.DataError,
)
"""Mistakes of the program (PEP 249), whatever the file is like."""
_REFUSED: Final = (sqlite3.Error, UnicodeDecodeError)
"""The second where SQLite names what it found in a damaged file."""
_KINDS: Final = (
    (
        ("FULL", "IOERR_SHMSIZE"),
        "has no room",
        "free space on its disk, and run again",
    ),
    (
        ("READONLY", "CANTOPEN", "PERM", "AUTH"),
        "cannot be opened for writing",
        WRITABLE,
    ),
    (("BUSY", "LOCKED", "PROTOCOL"), "is being written by another process", "run again when that is done"),
    (("IOERR",), "cannot be read or written", "check its disk, and run again"),
    (("NOMEM",), "needs more memory than there is", "free some, and run again"),
)
"""By the name of SQLite's result code (sqlite.org/rescode.html), less SQLITE_: what is the matter, what to
do.
"""
_DAMAGED: Final = (
    "is damaged",
    "move it and the files beside it that begin with its name to another place, and run again: keys are not "
    "in it, and what it knows of directories is found again",
)


def index_at(path: Path) -> str:
    """What an index is called in a sentence."""
    return f"the index {show_path(str(path))}"


def explain(error: Exception, file: str) -> FileError:
    """The sentence for what SQLite refused to do with a file, as a sentence calls it."""
    name = str(getattr(error, "sqlite_errorname", "") or "").removeprefix("SQLITE_")
    what, remedy = next(
        ((what, remedy) for names, what, remedy in _KINDS if name.startswith(names)), _DAMAGED
    )
    return FileError(f"{file} {what} ({error}): {remedy}")


def damaged(path: Path, how: str) -> FileError:
    """The sentence for an index at ``path`` in which something is that was not written there."""
    what, remedy = _DAMAGED
    return FileError(f"{index_at(path)} {what} ({how}): {remedy}")


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Raise FileError where a row of the index at ``path`` cannot be what was written there."""
    try:
        yield
    except (ValueError, TypeError, struct.error, msgpack.UnpackException) as error:
        raise damaged(path, "a row cannot be decoded") from error


@contextmanager
def explaining(file: str) -> Iterator[None]:
    """Raise FileError for what SQLite refuses within the block."""
    try:
        yield
    except _OURS:
        raise
    except _REFUSED as error:
        raise explain(error, file) from error


class Cursor(sqlite3.Cursor):
    """Raises FileError for what SQLite refuses."""

    connection: Connection

    def execute(self, sql: str, parameters: Any = ()) -> Self:
        try:
            return super().execute(sql, parameters)
        except _REFUSED as error:
            self._refused(error)

    def executemany(self, sql: str, parameters: Iterable[Any]) -> Self:
        try:
            return super().executemany(sql, parameters)
        except _REFUSED as error:
            self._refused(error)

    def fetchone(self) -> Any:
        try:
            return super().fetchone()
        except _REFUSED as error:
            self._refused(error)

    def fetchall(self) -> list[Any]:
        try:
            return super().fetchall()
        except _REFUSED as error:
            self._refused(error)

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except _REFUSED as error:
            self._refused(error)

    def _refused(self, error: Exception) -> NoReturn:
        if isinstance(error, _OURS):
            raise error
        raise explain(error, self.connection.file) from error


class Connection(sqlite3.Connection):
    """A connection whose file a sentence calls ``file``. Made by `connect`."""

    file: str

    def execute(self, sql: str, parameters: Any = ()) -> Cursor:
        return self.cursor(Cursor).execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any]) -> Cursor:
        return self.cursor(Cursor).executemany(sql, parameters)


def connect(
    path: str | Path, file: str, *, busy_seconds: float = 5.0, pragmas: Sequence[str] = ()
) -> Connection:
    """Open a database in autocommit mode, for one thread at a time; whichever it is may close it.

    ``path``: "" stands for a temporary file. ``file``: what a sentence calls it. Raises FileError.
    """
    with explaining(file):
        made = sqlite3.connect(
            path, timeout=busy_seconds, isolation_level=None, check_same_thread=False, factory=Connection
        )
    made.file = file
    try:
        for pragma in pragmas:
            made.execute(f"PRAGMA {pragma}")
    except FileError:
        made.close()
        raise
    return made


def close_idle(connections: list[Connection]) -> None:
    """Close those that have no more references than one that was just made, and this list's: no thread is
    using them, nor can any get at them. The list is empty afterwards.
    """
    connection = connect("", "a database that nobody uses")
    unused = sys.getrefcount(connection)  # Its own cache of statements has some of them.
    connection.close()
    while connections:
        connection = connections.pop()
        if sys.getrefcount(connection) <= unused:
            connection.close()

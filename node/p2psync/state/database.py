"""The SQLite index of a state directory: connections and transactions.

The tables are `p2psync.state.schema`'s; the stores beside it write the queries.

Write-ahead logging lets readers go on while somebody writes (sqlite.org/wal.html). Each thread has a
connection of its own; a writer begins with BEGIN IMMEDIATE, so it waits for its turn before it has read
anything and can never be told to start again half way.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from p2psync.errors import FileError
from p2psync.state.connection import Connection, close_idle, connect, index_at
from p2psync.state.schema import (
    CHECKS,
    LISTS,
    MADE,
    NODES,
    SCHEMA_VERSION,
    add_offers,
    create,
    has_offers,
    upgrade_from_1,
)

BUSY_SECONDS: Final = 60.0
"""The longest wait for another writer. Transactions take milliseconds, but an upgrade of a large index takes
some seconds, and a disk may be slow: who runs an event loop writes in a thread (``off_loop``).
"""
CACHE_KIB: Final = 8192  # page cache of each connection: a few threads of it stay far below the memory target
# How many variables one statement may carry: below the smallest limit of any SQLite build (999 before 3.32).
MAX_VARIABLES: Final = 500


class Database:
    """One index file, used by any number of threads. Safe beside other processes that do the same."""

    def __init__(self, path: Path) -> None:
        """Open or create the index. The caller sees to it that no two processes create it at once.

        Raises FileError: the file cannot be opened, is no index, or is of a newer version.
        """
        self.path = path
        self._local = threading.local()
        self._guard = threading.Lock()
        self._connections: list[tuple[weakref.ref[threading.Thread], Connection]] = []
        self._closed = False
        self._watch_guard = threading.Lock()
        connection = self.connection
        connection.execute("PRAGMA journal_mode = WAL")
        self._bring_up_to_date(connection)
        connection.execute(MADE)
        connection.execute(NODES)
        connection.execute(CHECKS)
        connection.execute(LISTS)
        if not has_offers(connection):
            with self.transaction(durable=True):
                add_offers(connection)
        self._watch = self._connect()

    @property
    def connection(self) -> Connection:
        """This thread's connection, in autocommit mode outside `transaction`."""
        made: Connection | None = getattr(self._local, "connection", None)
        if made is not None:
            return made
        if self._closed:
            raise FileError(f"the index {self.path} is closed")
        made = self._connect()
        with self._guard:
            alive = []
            for thread, connection in self._connections:
                owner = thread()
                if owner is None or not owner.is_alive():
                    connection.close()
                else:
                    alive.append((thread, connection))
            alive.append((weakref.ref(threading.current_thread()), made))
            self._connections = alive
        self._local.connection = made
        return made

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[Connection]:
        """Commit all that is written within, or nothing. Inside another one of this thread: part of that one.

        With `durable` the commit has reached the disk on return; otherwise a power cut may take back the last
        commits (never half of one).
        """
        connection = self.connection
        if connection.in_transaction:
            yield connection
            return
        if durable:
            connection.execute("PRAGMA synchronous = FULL")
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        finally:
            if durable:
                connection.execute("PRAGMA synchronous = NORMAL")

    def data_version(self) -> int:
        """A number that changes whenever any connection, of this process or another, has committed a
        change.
        """
        with self._watch_guard:
            return int(self._watch.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Close every connection that no thread is using; nobody gets at one from here on.

        A thread may still be reading for somebody who no longer waits for it, and SQLite crashes where a
        connection is closed under a statement that runs. Such a thread ends what it has begun, and what it
        asks for after that is refused; its connection closes when it is collected as garbage.
        """
        self._closed = True
        mine: Connection | None = getattr(self._local, "connection", None)
        with self._guard:
            others = [connection for _, connection in self._connections if connection is not mine]
            self._connections = []
        self._local = threading.local()
        if mine is not None:
            mine.close()
        close_idle(others)
        with self._watch_guard:
            self._watch.close()

    def _connect(self) -> Connection:
        pragmas = "synchronous = NORMAL", "foreign_keys = ON", f"cache_size = -{CACHE_KIB}"
        return connect(self.path, index_at(self.path), busy_seconds=BUSY_SECONDS, pragmas=pragmas)

    def _bring_up_to_date(self, connection: Connection) -> None:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise FileError(
                f"the index {self.path} was written by a newer p2psync (schema {version}, known: "
                f"{SCHEMA_VERSION}): use that one, or another state directory"
            )
        if version == SCHEMA_VERSION:
            return
        with self.transaction(durable=True):
            if version == 0:
                create(connection)
            else:
                upgrade_from_1(connection)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

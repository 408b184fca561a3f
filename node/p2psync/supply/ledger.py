"""What was put in place, on its way into the index: rows of files, and of directories that are complete.

The event loop hands over what the writer reports; one thread writes it, in transactions that are short. A
directory that is new in DEST and complete gets its row and its stamp with the rows of its files, so that
the next run need not look into it; the others get theirs when the run ends, if everything in them is what
the snapshot says. A process that is killed loses only time: the next run compares again what has no row.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from p2psync.format.ids import Ref
from p2psync.plan.changes import DirWork
from p2psync.state import State
from p2psync.state.trees import DirRow, FileRow, Tree
from p2psync.supply.bundles import FILE_TYPE, Bundle, Stamp
from p2psync.supply.jobs import Target
from p2psync.tree.stamp import Row, directory_stamp

_new: Final = tuple.__new__  # what a named tuple's own constructor calls, without a call of its own
ROWS_WAITING_MAX: Final = 20_000
"""Rows that are written in one transaction: each touches most pages of the table of contents, so many at a
time.
"""
SECONDS_WAITING_MAX: Final = 0.5
"""After which rows are written in any case: only then are small files served to others."""
SYMLINK_MODE: Final = 0o120777
DIRECTORY_TYPE: Final = 0o040000


class _Filling:
    """A directory that is new in DEST, while its files come."""

    __slots__ = ("inner", "left", "rows", "stamped", "work")

    def __init__(self, work: DirWork, inner: Sequence[tuple[bytes, int, int, Ref]]) -> None:
        self.work = work
        self.inner = inner
        self.left = len(work.content) + len(work.symlinks)
        self.rows: list[FileRow] = []
        self.stamped: list[Row] = []
        """Files and links as a stamp has them: name, mode with type, size, mtime, ctime, inode."""

    def row(self) -> DirRow:
        """The row of a directory that is complete. For 10,000 files it takes some 5 ms."""
        named = [
            *self.stamped,
            *((name, DIRECTORY_TYPE | mode, 0, mtime, 0, 0) for name, mode, mtime, _ in self.inner),
        ]
        named.sort()
        inner = tuple((name, ref) for name, _, _, ref in self.inner)
        return DirRow(directory_stamp(named), self.work.listing, self.work.totals, 0, inner)


class Ledger:
    """Collects facts of one tree and has them written."""

    def __init__(self, state: State, tree: Tree, thread: ThreadPoolExecutor) -> None:
        """``thread``: an executor of one thread, in which everything is written."""
        self._state = state
        self._tree = tree
        self._thread = thread
        self._rows: dict[bytes, list[FileRow]] = {}
        self._touched: dict[bytes, list[FileRow]] = {}
        self._complete: list[_Filling] = []
        self._gone: list[bytes] = []
        self._afterwards: list[Callable[[], None]] = []
        self._waiting = 0
        self._since = time.monotonic()
        self._filling: dict[bytes, _Filling] = {}
        self._writing: set[asyncio.Future[None]] = set()
        self._failed: BaseException | None = None

    # What the writer reports.

    def begin(self, work: DirWork, inner: Sequence[tuple[bytes, int, int, Ref]]) -> None:
        """Files of a directory begin to come. ``inner``: name, mode, mtime in ns and listing of the
        directories that its listing has in it.
        """
        if work.exists or work.leaves:
            return
        filling = _Filling(work, inner)
        if filling.left:
            self._filling[work.path] = filling
        else:
            self._close(filling)

    def files(self, targets: Sequence[Target], stamps: Sequence[Stamp | None]) -> None:
        """Files were made; None where that failed."""
        directory: bytes | None = None
        rows: list[FileRow] = []
        filling: _Filling | None = None
        for target, stamp in zip(targets, stamps, strict=True):
            if target.directory != directory:
                directory = target.directory
                filling = self._filling.get(directory)
                rows = filling.rows if filling is not None else self._rows.setdefault(directory, [])
            if stamp is None:
                if filling is not None:
                    self._abandon(filling)
                    filling, rows = None, self._rows.setdefault(directory, [])
                continue
            entry = target.entry
            size, mtime_ns, ctime_ns, ino = stamp
            rows.append(_new(FileRow, (entry.name, size, mtime_ns, ctime_ns, ino, entry.digest, 0)))
            if filling is None:
                self._waiting += 1
            else:
                filling.stamped.append((entry.name, FILE_TYPE | entry.mode, size, mtime_ns, ctime_ns, ino))
                filling.left -= 1
                if len(filling.rows) >= ROWS_WAITING_MAX:
                    self._spill(filling)
                    rows = filling.rows
                if not filling.left:
                    self._close(filling)
        self._perhaps_write()

    def bundle(self, bundle: Bundle, stamps: Sequence[Stamp]) -> None:
        """All files of a bundle were made."""
        rows = bundle.rows(stamps)
        filling = self._filling.get(bundle.directory)
        if filling is None:
            self._rows.setdefault(bundle.directory, []).extend(rows)
            self._waiting += len(rows)
        else:
            filling.rows += rows
            filling.stamped += bundle.stamped(stamps)
            filling.left -= len(rows)
            if len(filling.rows) >= ROWS_WAITING_MAX:
                self._spill(filling)
            if not filling.left:
                self._close(filling)
        self._perhaps_write()

    def attributes(self, targets: Sequence[Target], stamps: Sequence[Stamp | None]) -> None:
        """Files got their mode and time; None where that failed. Who put them there stays as it was known."""
        for target, stamp in zip(targets, stamps, strict=True):
            if stamp is not None:
                row = FileRow(target.entry.name, *stamp, target.entry.digest)
                self._touched.setdefault(target.directory, []).append(row)
                self._waiting += 1
        self._perhaps_write()

    def links(self, targets: Sequence[Target], stamps: Sequence[Stamp | None]) -> None:
        """Symbolic links were made."""
        for target, stamp in zip(targets, stamps, strict=True):
            filling = self._filling.get(target.directory)
            if filling is None:
                continue
            if stamp is None:
                self._abandon(filling)
                continue
            filling.stamped.append((target.entry.name, SYMLINK_MODE, *stamp))
            filling.left -= 1
            if not filling.left:
                self._close(filling)
        self._perhaps_write()

    def gone(self, path: bytes) -> None:
        """A directory was replaced, with all that was below it."""
        self._gone.append(path)
        self._waiting += 1

    def afterwards(self, call: Callable[[], None]) -> None:
        """Call this when all that was reported so far is in the index."""
        self._afterwards.append(call)

    def _spill(self, filling: _Filling) -> None:
        """A large directory: its rows are written before it is complete."""
        self._rows.setdefault(filling.work.path, []).extend(filling.rows)
        self._waiting += len(filling.rows)
        filling.rows = []

    def _abandon(self, filling: _Filling) -> None:
        """Something in a new directory could not be made: it is looked at again next time."""
        self._spill(filling)
        self._filling.pop(filling.work.path, None)

    def _close(self, filling: _Filling) -> None:
        """A new directory is complete, but for its own mode and time."""
        work = filling.work
        self._filling.pop(work.path, None)
        spilled = self._rows.pop(work.path, None)
        if spilled is not None:
            filling.rows += spilled
        if len(filling.rows) < len(work.content):
            # Some of a very large directory were written before: its row is made at the end of the run.
            self._rows[work.path] = filling.rows
        else:
            self._complete.append(filling)
            work.stamped = True
        self._waiting += 1 + len(filling.rows)

    # Writing.

    def _perhaps_write(self) -> None:
        if self._waiting >= ROWS_WAITING_MAX or (
            (self._waiting or self._afterwards) and time.monotonic() - self._since > SECONDS_WAITING_MAX
        ):
            self.write()

    def write(self) -> None:
        """Have what is waiting written."""
        rows, self._rows = self._rows, {}
        touched, self._touched = self._touched, {}
        complete, self._complete = self._complete, []
        gone, self._gone = self._gone, []
        afterwards, self._afterwards = self._afterwards, []
        self._waiting = 0
        self._since = time.monotonic()
        if not (rows or touched or complete or gone or afterwards):
            return
        loop = asyncio.get_running_loop()
        writing = loop.run_in_executor(self._thread, self._write, gone, rows, touched, complete)
        self._writing.add(writing)

        def written(done: asyncio.Future[None]) -> None:
            self._writing.discard(done)
            if not done.cancelled() and done.exception() is None:
                for call in afterwards:
                    call()
            elif not done.cancelled():
                self._failed = done.exception()

        writing.add_done_callback(written)

    async def flush(self) -> None:
        """Write everything, and wait until it is in the index. Raises what the index raised."""
        for filling in list(self._filling.values()):
            self._abandon(filling)
        self.write()
        while self._writing:
            await asyncio.wait(list(self._writing))
        if self._failed is not None:
            raise self._failed

    def _write(
        self,
        gone: list[bytes],
        rows: dict[bytes, list[FileRow]],
        touched: dict[bytes, list[FileRow]],
        complete: list[_Filling],
    ) -> None:
        made = [(filling, filling.row()) for filling in complete]
        with self._state.transaction():
            for path in gone:
                self._state.trees.drop_dir(self._tree.id, path)
            for directory, some in rows.items():
                if some:
                    self._state.trees.put_files(self._tree.id, directory, some)
            for directory, some in touched.items():
                before = self._state.trees.files_in(self._tree.id, directory)
                known = [
                    row._replace(hashed_ns=before[row.name].hashed_ns) for row in some if row.name in before
                ]
                self._state.trees.put_files(self._tree.id, directory, known)
            for filling, row in made:
                self._state.trees.put_directory(self._tree.id, filling.work.path, row, filling.rows)

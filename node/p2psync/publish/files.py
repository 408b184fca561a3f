"""The files of a walk: which changed since last time, and hashing those. Where there are many small ones, a
process of its own does a part of them; larger ones are hashed by a few threads while the walk goes on.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Final

from p2psync.events import Teller
from p2psync.format.ids import Ref
from p2psync.format.limits import SINGLE_CHUNK_MAX
from p2psync.format.listing import Entry, Kind
from p2psync.format.paths import join
from p2psync.publish.beside import Batch, Beside
from p2psync.publish.directory import Node, is_unchanged
from p2psync.publish.unread import Unread
from p2psync.publish.writer import Writer
from p2psync.state import FileRow
from p2psync.tree import reading
from p2psync.tree.hasher_main import Outcome
from p2psync.tree.scan import FILE_FLAGS, Found
from p2psync.tree.stamp import is_racy

MAX_WAITING: Final = 32
"""Files that are being hashed or wait for it: each holds a descriptor and its directory."""
BESIDE_FILES: Final = 1_000
BESIDE_BYTES: Final = 32 << 20
"""Files, or bytes, that were hashed by the walk itself before a process is started for more: its start
takes as long as some hundred files.
"""
BATCH_FILES: Final = 32
BATCH_BYTES: Final = 1 << 20
"""Files and bytes that are given to it at once: 1 to 2 ms of work."""


class _Job:
    """A larger file on its way through the pool."""

    __slots__ = ("fd", "future", "known", "node", "row")

    def __init__(
        self, node: Node, row: Found, known: FileRow | None, fd: int, future: Future[reading.Content]
    ) -> None:
        self.node = node
        self.row = row
        self.known = known
        self.fd = fd
        self.future = future


class Files:
    """Adds files to the directories that are walked. `arrive` hears of a directory of which one is done."""

    def __init__(self, writer: Writer, unread: Unread, tell: Teller, arrive: Callable[[Node], None]) -> None:
        self._writer = writer
        self._unread = unread
        self._tell = tell
        self._arrive = arrive
        self._pool = reading.make_pool()
        self._jobs: deque[_Job] = deque()
        self._beside = Beside()
        self._rows: list[Found] = []
        self._known: list[FileRow | None] = []
        self._batch_bytes = 0
        self._before_beside: list[int] | None = [BESIDE_FILES, BESIDE_BYTES]
        self.read_bytes = 0

    def close(self) -> None:
        """Give up what is under way."""
        for job in self._jobs:
            job.future.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._beside.close()
        for job in self._jobs:
            os.close(job.fd)
        self._jobs.clear()

    def collect(self, *, wait: bool) -> None:
        """Take what is done; with `wait`, all that is under way."""
        while True:
            while self._jobs and (wait or len(self._jobs) >= MAX_WAITING or self._jobs[0].future.done()):
                self._take_job(self._jobs.popleft())
            self._take_batches(wait=wait)
            if not wait or not (self._jobs or self._beside.is_awaited):
                return

    def _take_batches(self, *, wait: bool) -> None:
        for batch, outcomes in self._beside.done(wait=wait):
            self._take_batch(batch, outcomes)
            self._arrive(batch.node)

    def add(self, node: Node, row: Found, known: FileRow | None, moved: FileRow | None) -> None:
        """Add a file to its directory, now or when it has been hashed. `known` is its row of the last time,
        `moved` that of the directory's former place.
        """
        if known is not None and is_unchanged(row, known):
            self._add(node, row, known)
            self._tell.advance(known.size, 1, reused=known.size)
            return
        if moved is not None and is_unchanged(row, moved):
            self._add(node, row, moved)
            node.fresh.append(moved)
            self._tell.advance(moved.size, 1, reused=moved.size)
            return
        if row.size <= reading.INLINE_MAX:
            self._rows.append(row)
            self._known.append(known)
            self._batch_bytes += row.size
            if len(self._rows) >= BATCH_FILES or self._batch_bytes >= BATCH_BYTES:
                self.flush(node)
            return
        try:
            fd = os.open(row.name, FILE_FLAGS, dir_fd=node.fd)
        except OSError as error:
            self._failed(node, row, known, error)
            return
        if row.size <= reading.SPLIT_OVER:
            future = self._pool.submit(reading.read_stable, fd, row, reading.hash_file)
            node.waiting += 1
            while len(self._jobs) >= MAX_WAITING:
                self._take_job(self._jobs.popleft())
            self._jobs.append(_Job(node, row, known, fd, future))
            return
        try:
            content = reading.read_stable(fd, row, partial(self._hash_large, join(node.path, row.name)))
            self._tell.advance(0, 1)
            self._take(node, content)
        except (OSError, reading.KeptChanging, reading.TooLarge) as error:
            self._failed(node, row, known, error)
        finally:
            os.close(fd)

    def flush(self, node: Node) -> None:
        """Have those files hashed that were added to `node` and are small, here or beside."""
        if not self._rows:
            return
        batch = Batch(node, self._rows, self._known)
        self._rows, self._known = [], []
        size, self._batch_bytes = self._batch_bytes, 0
        if self._beside.is_running:
            self._take_batches(wait=False)
            if self._beside.has_room and self._beside.send(batch):
                node.waiting += 1
                return
        self._take_batch(batch, batch.hash_here())
        self._note_hashed(len(batch.rows), size)

    def _note_hashed(self, files: int, size: int) -> None:
        """Some files were hashed by the walk itself; after enough of them, a process is started for more."""
        if self._before_beside is not None:
            self._before_beside[0] -= files
            self._before_beside[1] -= size
            if min(self._before_beside) <= 0:
                self._before_beside = None
                with contextlib.suppress(OSError):  # Then the walk hashes everything.
                    self._beside.start()

    def _take_batch(self, batch: Batch, outcomes: list[Outcome]) -> None:
        """Take what is known of its files."""
        node = batch.node
        size = files = 0
        for row, known, outcome in zip(batch.rows, batch.known, outcomes, strict=True):
            if isinstance(outcome, reading.Content):
                size += outcome.found.size
                files += 1
                self._take(node, outcome)
            else:
                self._failed(node, row, known, outcome)
        self._tell.advance(size, files, path=join(node.path, batch.rows[-1].name))

    def _hash_large(self, path: bytes, fd: int, size: int) -> tuple[Ref, bytes | None]:
        if size <= SINGLE_CHUNK_MAX:  # it shrank since it was listed
            return reading.hash_file(fd, size)
        return reading.hash_large(fd, size, self._pool, lambda done: self._tell.advance(done, 0, path=path))

    def _take_job(self, job: _Job) -> None:
        """Take the result of a job, waiting for it if need be."""
        try:
            content = job.future.result()
            self._tell.advance(content.found.size, 1, path=join(job.node.path, job.row.name))
            self._take(job.node, content)
        except (OSError, reading.KeptChanging, reading.TooLarge) as error:
            self._failed(job.node, job.row, job.known, error)
        finally:
            os.close(job.fd)
        self._arrive(job.node)

    def _take(self, node: Node, content: reading.Content) -> None:
        found, ref = content.found, content.ref
        self.read_bytes += content.read_bytes
        name, _, size, mtime_ns, ctime_ns, ino = found
        row = FileRow(name, size, mtime_ns, ctime_ns, ino, ref.digest, content.hashed_ns)
        if is_racy(mtime_ns, ctime_ns, row.hashed_ns):
            node.intact = False
        self._add(node, found, row)
        node.fresh.append(row)
        if content.recipe is not None:
            self._writer.add_recipe(ref.digest, content.recipe)

    @staticmethod
    def _add(node: Node, found: Found, row: FileRow) -> None:
        node.files.append(row)
        node.entries.append(
            Entry(found.name, Kind.FILE, found.permissions, found.mtime_ns, row.size, row.digest)
        )

    def _failed(self, node: Node, row: Found, known: FileRow | None, error: Exception) -> None:
        if isinstance(error, reading.KeptChanging):
            self.read_bytes += error.read_bytes
            self._unread.leave(node, row.name, "kept changing while it was read", row)
        elif isinstance(error, reading.TooLarge):
            self._unread.leave(node, row.name, "is larger than an object may be", row)
        elif isinstance(error, OSError):
            self._unread.failed(node, row, error)
        stands = node.carried.get(row.name)
        if stands is not None and known is not None and stands.digest == known.digest:
            node.files.append(known)  # so it is found here, and served, as soon as it can be read again

"""From a tree on disk to the listing of its root: walks, reads what changed, builds listings bottom-up.

A directory is looked at when all directories in it are done. Its stamp (names and attributes) and the
listings of the directories in it tell whether anything changed since last time; if not, the old listing
stands and nothing of the directory is read, not even the rows of its files. Otherwise each file is compared
with its row, and only files whose size, mtime, ctime or inode changed are read: small ones here, larger ones
by a few threads while the walk goes on. Memory is that of the directories on the way to the current one, and
of the few that wait for a file.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future
from typing import Final

from p2psync.chunking import cut_object
from p2psync.errors import FileError, show_path
from p2psync.events import Teller
from p2psync.format.ids import Ref
from p2psync.format.limits import DEPTH_MAX, PATH_MAX, SINGLE_CHUNK_MAX
from p2psync.format.listing import (
    Entry,
    Kind,
    Totals,
    add_totals,
    dir_entry,
    encode_listing,
    symlink_entry,
)
from p2psync.format.paths import join
from p2psync.publish.directory import Node, is_unchanged
from p2psync.publish.writer import Writer
from p2psync.rules.filter import Filter
from p2psync.state import DirRow, FileRow, State
from p2psync.tree import reading
from p2psync.tree.report import Report
from p2psync.tree.scan import (
    DIRECTORY_FLAGS,
    FILE_FLAGS,
    Found,
    TooManyEntries,
    list_directory,
    note_error,
    open_directory,
    read_link,
)
from p2psync.tree.stamp import NO_STAMP, is_racy

MAX_WAITING: Final = (
    32  # files that are being hashed or wait for it: each holds a descriptor and its directory
)


class _Job:
    """A larger file on its way through the pool."""

    __slots__ = ("fd", "future", "node", "path", "row")

    def __init__(self, node: Node, row: Found, path: bytes, fd: int, future: Future[reading.Content]) -> None:
        self.node = node
        self.row = row
        self.path = path
        self.fd = fd
        self.future = future


class Builder:
    """One walk over one tree. `build` returns the root's entry; then `read_bytes` and the report are
    complete.
    """

    def __init__(
        self,
        state: State,
        tree_id: int,
        rules: Filter,
        report: Report,
        tell: Teller,
        hidden: frozenset[bytes] = frozenset(),
    ) -> None:
        self._trees = state.trees
        self._tree = tree_id
        self._rules = rules
        self._report = report
        self._tell = tell
        self._hidden = hidden
        self._writer = Writer(state, tree_id)
        self._jobs: deque[_Job] = deque()
        self._stack: list[tuple[Node, deque[Found]]] = []
        self._open: set[Node] = set()
        self._root: Entry | None = None
        self.read_bytes = 0

    def build(self, directory: bytes) -> Entry:
        """The entry (name b"") of the directory, with all objects and rows in the state.

        Raises FileError if the directory itself cannot be read. Any other trouble goes to the report.
        """
        try:
            fd = os.open(directory, DIRECTORY_FLAGS)
        except OSError as error:
            raise FileError(f"{show_path(directory)} cannot be read: {error.strerror}") from error
        self._pool = reading.make_pool()
        try:
            self._enter(None, b"", b"", fd)
            while self._stack:
                self._step()
            while self._jobs:
                self._collect(self._jobs.popleft())
            self._writer.flush()
        finally:
            self._close()
        if self._root is None:
            raise FileError(
                f"{show_path(directory)} cannot be listed: {'; '.join(self._report.warnings[-1:])}"
            )
        return self._root

    def _close(self) -> None:
        for job in self._jobs:
            job.future.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for job in self._jobs:
            os.close(job.fd)
        for node in self._open:
            os.close(node.fd)
        self._jobs.clear()
        self._open.clear()

    def _enter(self, parent: Node | None, name: bytes, path: bytes, fd: int) -> None:
        """List a directory and put it on the stack."""
        node = Node(parent, name, path, fd, Found.of(name, os.fstat(fd)))
        self._open.add(node)
        try:
            node.listed = list_directory(fd, path, self._rules, self._report, self._hidden)
        except OSError as error:
            note_error(error, path, self._report)
            self._leave_out(node)
            return
        except TooManyEntries:
            self._report.refused(path, "it has more names than a listing may hold")
            self._leave_out(node)
            return
        inner = deque([Found._make(row) for row in node.listed if row[1] & 0o170000 == 0o040000])
        node.waiting = 1  # itself, until its directories have been entered
        if parent is not None:
            parent.waiting += 1
        self._stack.append((node, inner))

    def _leave_out(self, node: Node) -> None:
        self._open.discard(node)
        os.close(node.fd)
        if node.parent is not None:
            node.parent.intact = False

    def _step(self) -> None:
        """Enter the next directory, or be done with entering those of the top of the stack."""
        node, inner = self._stack[-1]
        while self._jobs and (len(self._jobs) >= MAX_WAITING or self._jobs[0].future.done()):
            self._collect(self._jobs.popleft())
        if not inner:
            self._stack.pop()
            self._arrive(node)
            return
        row = inner.popleft()
        path = join(node.path, row.name)
        if node.depth + 1 >= DEPTH_MAX or len(path) > PATH_MAX:
            self._report.refused(path, "it lies too deep")
            node.intact = False
            return
        fd = open_directory(row.name, node.fd, path, self._report)
        if fd is None:
            node.intact = False
            return
        self._enter(node, row.name, path, fd)

    def _arrive(self, node: Node) -> None:
        """One of the things that `node` waits for is done."""
        while True:
            node.waiting -= 1
            if node.waiting:
                return
            if not node.begun and not self._begin(node):
                return
            parent = node.parent
            self._finish(node)
            if parent is None:
                return
            node = parent

    def _begin(self, node: Node) -> bool:
        """All directories in `node` are done: look at its files. Whether nothing is left to wait for."""
        node.begun = True
        old = (
            self._known_dirs(node.parent).get(node.name)
            if node.parent
            else self._trees.dir_row(self._tree, b"")
        )
        if old is not None:
            node.old_listing = old.listing
            if node.intact and old.inner == node.inner() and old.stamp == node.stamp():
                self._keep(node, old)
                return True
        known = self._trees.files_in(self._tree, node.path)
        moved = self._moved(node) if old is None else {}
        node.gone_dirs = self._known_dirs(node).keys() - node.done.keys()
        node.waiting = 1  # so that no file that is done early finishes the directory
        for row in map(Found._make, node.listed):
            if row.is_dir:
                done = node.done.get(row.name)
                if done is not None:
                    node.entries.append(done)
            elif row.is_file:
                self._file(node, row, known.get(row.name), moved.get(row.name))
            else:
                self._link(node, row)
        node.waiting -= 1
        return node.waiting == 0

    def _known_dirs(self, node: Node) -> dict[bytes, DirRow]:
        """The rows of the directories in `node`: one query for all, as a query for each would cost more
        than a stat.
        """
        if node.known_dirs is None:
            node.known_dirs = self._trees.dirs_in(self._tree, node.path)
        return node.known_dirs

    def _keep(self, node: Node, old: DirRow) -> None:
        """Nothing changed in `node`."""
        below = add_totals(entry.below for entry in node.done.values())
        self._tell.advance(old.totals.bytes - below.bytes, old.totals.files - below.files)
        node.kept = True
        self._hand_up(node, old.listing, old.totals)

    def _link(self, node: Node, row: Found) -> None:
        target = read_link(row.name, node.fd, join(node.path, row.name), self._report)
        if target:
            node.entries.append(symlink_entry(row.name, row.mtime_ns, target))
        else:
            node.intact = False

    def _moved(self, node: Node) -> dict[bytes, FileRow]:
        """The rows of the files in a directory that is new here, from where it was before somebody renamed
        it.
        """
        path = self._trees.dir_by_inode(self._tree, node.found.ino)
        return {} if path is None else self._trees.files_in(self._tree, path)

    def _file(self, node: Node, row: Found, known: FileRow | None, moved: FileRow | None) -> None:
        if known is not None and is_unchanged(row, known):
            self._add_file(node, row, known)
            self._tell.advance(known.size, 1)
            return
        if moved is not None and is_unchanged(row, moved):
            self._add_file(node, row, moved)
            node.fresh.append(moved)
            self._tell.advance(moved.size, 1)
            return
        path = join(node.path, row.name)
        try:
            fd = os.open(row.name, FILE_FLAGS, dir_fd=node.fd)
        except OSError as error:
            note_error(error, path, self._report)
            node.intact = False
            return
        if reading.INLINE_MAX < row.size <= reading.SPLIT_OVER:
            future = self._pool.submit(reading.read_stable, fd, row, reading.hash_file)
            node.waiting += 1
            while len(self._jobs) >= MAX_WAITING:
                self._collect(self._jobs.popleft())
            self._jobs.append(_Job(node, row, path, fd, future))
            return
        try:
            if row.size <= reading.INLINE_MAX:
                content = reading.read_stable(fd, row, reading.hash_file)
                self._tell.advance(content.found.size, 1)
            else:
                content = reading.read_stable(fd, row, self._hash_large)
                self._tell.advance(0, 1)
            self._take(node, content)
        except (OSError, reading.KeptChanging, reading.TooLarge) as error:
            self._failed(node, row, path, error)
        finally:
            os.close(fd)

    def _hash_large(self, fd: int, size: int) -> tuple[Ref, bytes | None]:
        if size <= SINGLE_CHUNK_MAX:  # it shrank since it was listed
            return reading.hash_file(fd, size)
        return reading.hash_large(fd, size, self._pool, lambda done: self._tell.advance(done, 0))

    def _collect(self, job: _Job) -> None:
        """Take the result of a job, waiting for it if need be."""
        try:
            content = job.future.result()
            self._tell.advance(content.found.size, 1)
            self._take(job.node, content)
        except (OSError, reading.KeptChanging, reading.TooLarge) as error:
            self._failed(job.node, job.row, job.path, error)
        finally:
            os.close(job.fd)
        self._arrive(job.node)

    def _take(self, node: Node, content: reading.Content) -> None:
        found, ref = content.found, content.ref
        self.read_bytes += content.read_bytes
        row = FileRow(
            found.name,
            found.size,
            found.mtime_ns,
            found.ctime_ns,
            found.ino,
            ref.digest,
            content.hashed_ns,
        )
        if is_racy(row.mtime_ns, row.ctime_ns, row.hashed_ns):
            node.intact = False
        self._add_file(node, found, row)
        node.fresh.append(row)
        if content.recipe is not None:
            self._writer.add_recipe(ref.digest, content.recipe)

    @staticmethod
    def _add_file(node: Node, found: Found, row: FileRow) -> None:
        node.files.append(row)
        node.entries.append(
            Entry(found.name, Kind.FILE, found.permissions, found.mtime_ns, row.size, row.digest)
        )

    def _failed(self, node: Node, row: Found, path: bytes, error: Exception) -> None:
        if isinstance(error, reading.KeptChanging):
            self.read_bytes += error.read_bytes
            self._report.changing(path)
        elif isinstance(error, reading.TooLarge):
            self._report.refused(path, "it is larger than an object may be")
        elif isinstance(error, OSError):
            note_error(error, path, self._report)
        node.intact = False

    def _finish(self, node: Node) -> None:
        """All entries of `node` are there: make its listing, unless it was kept."""
        if not node.kept:
            raw = encode_listing(node.entries)
            listing, recipe = cut_object(raw)
            if listing != node.old_listing:
                self._writer.add_object(listing, raw)
                if not listing.is_single:
                    self._writer.add_recipe(listing.digest, recipe.encode())
            totals = add_totals(entry.below for entry in node.entries)
            stamp = node.stamp() if node.intact else NO_STAMP
            gone = [join(node.path, name) for name in node.gone_dirs]
            self._writer.add_directory(
                node.path, DirRow(stamp, listing, totals, node.found.ino, node.inner()), node.files, gone
            )
            self._hand_up(node, listing, totals)
        self._open.discard(node)
        os.close(node.fd)

    def _hand_up(self, node: Node, listing: Ref, totals: Totals) -> None:
        found = node.found
        entry = dir_entry(node.name, found.permissions, found.mtime_ns, listing, totals)
        if node.parent is None:
            self._root = entry
        else:
            node.parent.done[node.name] = entry

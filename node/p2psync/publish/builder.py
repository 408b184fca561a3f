"""From a tree on disk to the listing of its root: walks, reads what changed, builds listings bottom-up.

A directory is looked at when all directories in it are done. Its stamp (names and attributes) and the
listings of the directories in it tell whether anything changed since last time; if not, the old listing
stands and nothing of the directory is read, not even the rows of its files. Otherwise each file is compared
with its row, and only files whose size, mtime, ctime or inode changed are read (`files`). What cannot be read
is `unread`'s. Memory is that of the directories on the way to the current one, and of the few that wait for a
file.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection
from functools import partial

from p2psync.errors import FileError, show_path
from p2psync.events import Teller
from p2psync.format.ids import Ref
from p2psync.format.limits import DEPTH_MAX, PATH_MAX
from p2psync.format.listing import Entry, Totals, add_totals, dir_entry, symlink_entry
from p2psync.format.marks import coarsened, incomplete
from p2psync.format.paths import join
from p2psync.publish.directory import Node
from p2psync.publish.earlier import Earlier
from p2psync.publish.files import Files
from p2psync.publish.unread import Unread
from p2psync.publish.writer import Writer
from p2psync.rules.filter import Filter
from p2psync.state import DirRow, FileRow, State
from p2psync.state.offers import ANYBODY
from p2psync.tree.report import Report
from p2psync.tree.scan import (
    DIRECTORY_FLAGS,
    Found,
    TooManyEntries,
    list_directory,
    pack_directory,
    why_not_read,
)
from p2psync.tree.stamp import NO_STAMP


class _RootFailed(Exception):
    """The published directory itself cannot be listed; why, as words after its name."""


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
        last: Entry | None = None,
        unmounted: Collection[bytes] = (),
        archive: bytes = ANYBODY,
    ) -> None:
        """`archive` is the one that is published. `last` is the root of the last snapshot: what cannot be
        read now stays as it is there. `unmounted` are directories at which something was mounted then and
        is not now; `missing` will be those of which nothing is there.
        """
        self._trees = state.trees
        self._tree = tree_id
        self._rules = rules
        self._report = report
        self._tell = tell
        self._hidden = hidden
        self._writer = Writer(state, tree_id, archive)
        self._earlier = Earlier(last, state.meta.get, self._writer.add_listing, rules, hidden)
        self._unread = Unread(self._earlier, self._writer, report, tell)
        self._files = Files(self._writer, self._unread, tell, self._arrive)
        self._unmounted = frozenset(unmounted)
        self.missing: list[bytes] = []
        self._stack: list[tuple[Node, deque[Found]]] = []
        self._open: set[Node] = set()
        self._root: Entry | None = None

    @property
    def read_bytes(self) -> int:
        """Bytes read of files."""
        return self._files.read_bytes

    def build(self, directory: bytes) -> Entry:
        """The entry (name b"") of the directory, with all objects and rows in the state.

        Raises FileError: the directory itself cannot be read, or this process can open nothing more. Any
        other trouble goes to the report.
        """
        try:
            self._enter(None, b"", b"", os.open(directory, DIRECTORY_FLAGS))
            while self._stack:
                self._step()
            self._files.collect(wait=True)
            self._writer.flush()
        except _RootFailed as failed:
            raise FileError(f"{show_path(directory)} {failed}") from failed
        except OSError as error:
            raise FileError(f"{show_path(directory)} {why_not_read(error, directory)}") from error
        except MemoryError as error:
            raise FileError(
                f"memory ran out while {show_path(directory)} was read: free some, and publish again"
            ) from error
        finally:
            self._close()
        assert self._root is not None  # noqa: S101 - its turn came last
        return self._root

    def accept(self) -> None:
        """The snapshot is to be published: what is not in the tree any more is forgotten."""
        self._writer.drop_gone()

    def _close(self) -> None:
        self._files.close()
        for node in self._open:
            os.close(node.fd)
        self._open.clear()

    def _enter(self, parent: Node | None, name: bytes, path: bytes, fd: int) -> None:
        """List a directory and put it on the stack."""
        node = Node(parent, name, path, fd, Found.of(name, os.fstat(fd)))
        self._open.add(node)
        try:
            packed = pack_directory(fd, path, self._rules, self._hidden)
            if packed is not None:
                node.found_packed(packed)
                self._report.linked += packed.linked
            else:
                node.listed = list_directory(
                    fd, path, self._rules, self._report, self._hidden, partial(self._unread.leave, node)
                )
        except OSError as error:
            self._leave_out(node, why_not_read(error, path))
            return
        except TooManyEntries:
            self._leave_out(node, "has more names than a listing may hold")
            return
        if path in self._unmounted and self._lost_all(node):
            self.missing.append(path)
            self._leave_out(node, "is no mount point any more, and all that was there is gone")
            return
        inner = deque(map(Found._make, node.directories()))
        node.waiting = 1  # itself, until its directories have been entered
        if parent is not None:
            parent.waiting += 1
        self._stack.append((node, inner))

    def _lost_all(self, node: Node) -> bool:
        """Whether a directory had something in the last snapshot, and has nothing of it now."""
        had = self._earlier.names(node.path)
        return bool(had) and had.isdisjoint(row[0] for row in node.listed)

    def _leave_out(self, node: Node, reason: str) -> None:
        self._open.discard(node)
        os.close(node.fd)
        if node.parent is None:
            raise _RootFailed(reason)
        self._unread.leave(node.parent, node.name, reason, node.found)

    def _step(self) -> None:
        """Enter the next directory, or be done with entering those of the top of the stack."""
        node, inner = self._stack[-1]
        self._files.collect(wait=False)
        if not inner:
            self._stack.pop()
            self._arrive(node)
            return
        row = inner.popleft()
        path = join(node.path, row.name)
        if node.depth + 1 >= DEPTH_MAX or len(path) > PATH_MAX:
            self._unread.leave(node, row.name, "lies too deep")
            return
        try:
            fd = os.open(row.name, DIRECTORY_FLAGS, dir_fd=node.fd)
        except OSError as error:
            self._unread.failed(node, row, error)
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
        node.gone_dirs = self._known_dirs(node).keys() - node.done.keys() - node.carried.keys()
        node.waiting = 1  # so that no file that is done early finishes the directory
        for row in map(Found._make, node.listed):
            if row.is_dir:
                done = node.done.get(row.name)
                if done is not None:
                    node.entries.append(done)
            elif row.is_file:
                self._files.add(node, row, known.get(row.name), moved.get(row.name))
            else:
                self._link(node, row)
        self._files.flush(node)
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
        size = old.totals.bytes - below.bytes
        self._tell.advance(size, old.totals.files - below.files, reused=size)
        node.kept = True
        self._hand_up(node, old.listing, old.totals)

    def _link(self, node: Node, row: Found) -> None:
        try:
            target = os.readlink(row.name, dir_fd=node.fd)
        except OSError as error:
            self._unread.failed(node, row, error)
        else:
            node.entries.append(symlink_entry(row.name, row.mtime_ns, target))

    def _moved(self, node: Node) -> dict[bytes, FileRow]:
        """The rows of the files in a directory that is new here, from where it was before somebody renamed
        it.
        """
        path = self._trees.dir_by_inode(self._tree, node.found.ino)
        return {} if path is None else self._trees.files_in(self._tree, path)

    def _finish(self, node: Node) -> None:
        """All entries of `node` are there: make its listing, unless it was kept."""
        if not node.kept:
            node.entries += node.carried.values()
            listing = self._writer.add_listing(coarsened(node.entries), node.old_listing)
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
        if node.unread:
            entry = incomplete(entry, node.unread)
            if node.parent is not None:
                node.parent.intact = False  # the mark may be another one next time
        if node.parent is None:
            self._root = entry
        else:
            node.parent.done[node.name] = entry

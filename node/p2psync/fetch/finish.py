"""The end of a fetch: what goes is removed, directories get their modes and times, and what is as it should
be is noted with a stamp, so that the next run need not look into it.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import Any, Final, TypeVar

from p2psync.format.listing import Entry, Kind
from p2psync.format.paths import join
from p2psync.format.reserved import TEMPORARY_PREFIX
from p2psync.plan.changes import Deletion, DirWork, Plan
from p2psync.plan.directory import stamp_row
from p2psync.plan.files import same_attributes
from p2psync.plan.folding import folded, told
from p2psync.plan.listings import Listings
from p2psync.state import State
from p2psync.state.off_loop import off_loop
from p2psync.state.trees import DirRow, FileRow, Tree
from p2psync.tree import orders
from p2psync.tree.beneath import Beneath
from p2psync.tree.stamp import Row, directory_stamp
from p2psync.tree.trouble import explain
from p2psync.tree.worker import Writer

AT_ONCE: Final = 1000
"""Directories or names in one order or transaction."""

T = TypeVar("T")


class Finish:
    """Ends one snapshot's work."""

    def __init__(
        self, state: State, tree: Tree, writer: Writer, index: ThreadPoolExecutor, beneath: Beneath
    ) -> None:
        """``index``: an executor of one thread, in which the index is written. ``beneath``: DEST, which
        nobody else reads meanwhile.
        """
        self._state = state
        self._tree = tree
        self._writer = writer
        self._index = index
        self._beneath = beneath
        self._tokens = count(1)
        self._answers: dict[int, asyncio.Future[orders.Done]] = {}
        self._folded: list[str] = []
        """Names that the file system took for others of the snapshot."""
        self.removed = 0
        """Names that were removed."""

    async def run(
        self, plan: Plan, listings: Listings, *, removes: bool, complete: bool, delayed: bool = False
    ) -> list[str]:
        """What could not be done, each with its path and reason. ``removes``: what the plan says is removed.
        ``complete``: all of the snapshot is in place, or, ``delayed``, waits to be put there.

        Raises FileError: the disk refuses. What was done is kept.
        """
        self._writer.on_fact = self._take
        failed = await self._land(plan, listings) if delayed else []
        if removes:
            failed += await self._remove(plan.deletions)
        tidied = await self._order(orders.Tidy(next(self._tokens), everything=complete))
        failed += [
            f"the folder of unfinished files: {text}" for text in tidied.results if isinstance(text, str)
        ]
        failed += await self._dress(plan, complete=complete)
        if complete and not failed:
            await self._note(plan, listings)
        return failed + self._folded

    async def _order(
        self, order: orders.Land | orders.Remove | orders.DressDirectories | orders.Tidy
    ) -> orders.Done:
        answer: asyncio.Future[orders.Done] = asyncio.get_running_loop().create_future()
        self._answers[order.token] = answer
        self._writer.send(order)
        return await answer

    def _take(self, fact: orders.Fact) -> None:
        if isinstance(fact, orders.Broken):
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(explain(fact))
        elif isinstance(fact, orders.Done) and (waiting := self._answers.pop(fact.token, None)) is not None:
            waiting.set_result(fact)

    async def _in_thread(self, work: Callable[..., None], *arguments: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(self._index, work, *arguments)

    # What has waited.

    async def _land(self, plan: Plan, listings: Listings) -> list[str]:
        """Put everything into its place that has come."""
        failed: list[str] = []
        for work in plan.dirs:
            positions = (*work.content, *work.symlinks)
            if not positions:
                continue
            entries = await off_loop(partial(listings.listing, work.listing))
            for some in _some(positions):
                wanted = [entries[at] for at in some]
                rows = [orders.Landing(e.name, e.mode, e.mtime_ns, e.digest, e.target) for e in wanted]
                done = await self._order(orders.Land(next(self._tokens), work.path, rows))
                there: list[FileRow] = []
                for entry, result in zip(wanted, done.results, strict=True):
                    if isinstance(result, str):
                        if result:
                            failed.append(f"{os.fsdecode(join(work.path, entry.name))!r}: {result}")
                    elif entry.kind is Kind.FILE:
                        there.append(FileRow(entry.name, *result, entry.digest))
                await self._in_thread(self._landed, work.path, there)
        return failed

    def _landed(self, directory: bytes, rows: Sequence[FileRow]) -> None:
        """Files have other stamps now than they had while they waited."""
        with self._state.transaction():
            known = self._state.trees.files_in(self._tree.id, directory)
            self._state.trees.put_files(self._tree.id, directory, [row for row in rows if row.name in known])

    # What goes.

    async def _remove(self, deletions: Sequence[Deletion]) -> list[str]:
        failed: list[str] = []
        for deletion in deletions:
            for names in _some(deletion.names):
                done = await self._order(orders.Remove(next(self._tokens), deletion.path, names))
                gone: list[bytes] = []
                for (name, _), result in zip(names, done.results, strict=True):
                    if isinstance(result, str):
                        failed.append(f"{os.fsdecode(join(deletion.path, name))!r}: {result}")
                    else:
                        # What a run that was killed left was never there for anybody.
                        self.removed += 0 if name.startswith(TEMPORARY_PREFIX) else result[0]
                        gone.append(name)
                await self._in_thread(self._forget, deletion.path, gone)
        return failed

    def _forget(self, path: bytes, names: Iterable[bytes]) -> None:
        with self._state.transaction():
            for name in names:
                self._state.made.forget(self._tree.id, join(path, name))
                self._state.trees.drop_name(self._tree.id, path, name)

    # Modes and times.

    async def _dress(self, plan: Plan, *, complete: bool) -> list[str]:
        """Inner directories first, as making something in one changes its time."""
        works = plan.dirs[::-1]
        if plan.dress_root and not any(work.path == b"" for work in works):
            works.append(DirWork(b"", plan.root.ref, plan.root.mode, plan.root.mtime_ns, exists=True))
        if not complete:
            # A directory is made when its turn comes, and a snapshot that was replaced may be left before.
            works = [work for work in works if self._there(work.path)]
        failed: list[str] = []
        for part in _some(works):
            some = [orders.Dress(work.path, work.mode, work.mtime_ns, work.ino) for work in part]
            done = await self._order(orders.DressDirectories(next(self._tokens), some))
            for (path, *_), result in zip(some, done.results, strict=True):
                if isinstance(result, str):
                    failed.append(f"{os.fsdecode(path or b'.')!r}: mode and time not set: {result}")
        return failed

    def _there(self, directory: bytes) -> bool:
        try:
            self._beneath.dir(directory)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            pass  # The writer meets it too, and says what it is.
        return True

    # What is as it should be.

    async def _note(self, plan: Plan, listings: Listings) -> None:
        works = [work for work in plan.dirs if not work.stamped or work.twins]
        for some in _some(works):
            await self._in_thread(self._stamp, some, listings)

    def _stamp(self, works: Sequence[DirWork], listings: Listings) -> None:
        rows = [(work.path, row) for work in works if (row := self._row(work, listings)) is not None]
        with self._state.transaction():
            for path, row in rows:
                self._state.trees.put_dir(self._tree.id, path, row)

    def _row(self, work: DirWork, listings: Listings) -> DirRow | None:
        """The row of a directory, if everything in it is what the index knows and the listing says."""
        entries = {entry.name: entry for entry in listings.listing(work.listing)}
        known = self._state.trees.files_in(self._tree.id, work.path)
        named: list[Row] = []
        try:
            directory = self._beneath.dir(work.path)
            there = self._beneath.scan(work.path)
            if missing := entries.keys() - there.keys():
                others = folded(self._beneath, work.path, sorted(missing), there)
                self._folded += [
                    told(work.path, name, other) for name, other in others.items() if other in entries
                ]
                return None
            for name, found in there.items():
                entry = entries.pop(name, None)
                if entry is None or not self._is_right(work.path, entry, found):
                    return None
                row = known.get(name)
                if entry.kind is Kind.FILE and (
                    row is None
                    or row.digest != entry.digest
                    or row[1:5] != (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
                ):
                    return None
                named.append(stamp_row(name, found))
            ino = os.fstat(directory).st_ino
        except OSError:
            return None  # Gone, or changed, since; the next run looks at it.
        inner = tuple(
            (each.name, each.ref) for each in listings.listing(work.listing) if each.kind is Kind.DIR
        )
        return DirRow(directory_stamp(sorted(named)), work.listing, work.totals, ino, inner)

    def _is_right(self, path: bytes, entry: Entry, found: os.stat_result) -> bool:
        if entry.kind is Kind.SYMLINK:
            return (
                stat.S_ISLNK(found.st_mode)
                and found.st_mtime_ns == entry.mtime_ns
                and self._beneath.read_link(path, entry.name) == entry.target
            )
        kind = stat.S_ISDIR if entry.kind is Kind.DIR else stat.S_ISREG
        return kind(found.st_mode) and same_attributes(found, entry)


def _some(items: Sequence[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), AT_ONCE):
        yield list(items[start : start + AT_ONCE])

"""Compare DEST with a snapshot: what is the same is never looked at again, what differs becomes the plan.

A directory that the index has a stamp of, for the very listing that is wanted, is the same if its stamp is:
then neither its listing nor the rows of its files are read. Somebody may have looked at some of them before
(``Ahead``). Any other directory is compared name by name with its listing.

There, a file counts as the same if its size and modification time (in ns) are those of the entry (rsync's
quick check), unless the index knows its content from when it was hashed here: then that decides, and a file
that was touched since is hashed again. ``checksum`` hashes every file.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, ParamSpec, Protocol, TypeVar

from p2psync.errors import FormatError
from p2psync.events import Teller
from p2psync.format.ids import Ref
from p2psync.format.limits import DEPTH_MAX, PATH_MAX
from p2psync.format.listing import Entry, check_listing_size
from p2psync.format.marks import is_carried
from p2psync.format.paths import join
from p2psync.plan.changes import Plan
from p2psync.plan.directory import DirectoryComparison, Item
from p2psync.plan.listings import Listings
from p2psync.plan.receiving import EVERYTHING, Receiving
from p2psync.state import State
from p2psync.state.off_loop import off_loop
from p2psync.state.trees import DirRow, Tree
from p2psync.tree.beneath import Beneath
from p2psync.tree.checker import is_as_it_was

P = ParamSpec("P")
T = TypeVar("T")

DIRS_AT_ONCE: Final = 256
"""Directories whose listings are got in one go, and that are compared without returning to the event loop."""
CHECKS_AT_ONCE: Final = 256
"""Directories in one turn of the thread that checks them: some 50 ms between two steps of the display."""
ITEMS_AT_ONCE: Final = 8192
"""Directories that are looked up in the index before any of them is checked."""
DIRS_MAX: Final = 1 << 20
"""Directories in what is fetched at once: one that needs work takes some 300 bytes of the plan, and a few
small objects can name a directory any number of times.
"""


class Ahead(Protocol):
    """Who has looked at directories before, and may be going on, in the order of their paths."""

    def known(self, path: bytes) -> bool | None:
        """Whether all that is directly in a directory is as the index says; None if it was not looked at."""


class Comparison:
    """One comparison of the directory behind ``beneath`` with a snapshot."""

    def __init__(
        self,
        state: State,
        listings: Listings,
        tree: Tree,
        beneath: Beneath | None,
        tell: Teller,
        *,
        checksum: bool = False,
        verify_unknown: bool = False,
        trusts_stamps: bool = True,
        ahead: Ahead | None = None,
        receiving: Receiving = EVERYTHING,
    ) -> None:
        """``beneath`` is None where DEST does not exist yet.

        ``verify_unknown`` hashes files that the index does not know instead of trusting their times: a
        mirror must not announce what it has not seen. Unless it ``trusts_stamps``, every directory is
        compared name by name. ``receiving``: what is left as it is.
        """
        self._state = state
        self._listings = listings
        self._tree = tree
        self._tell = tell
        self._trusts_stamps = trusts_stamps and not checksum and beneath is not None
        self._ahead = ahead
        self._directory = DirectoryComparison(
            state,
            listings,
            tree,
            beneath,
            checksum=checksum,
            verify_unknown=verify_unknown,
            receiving=receiving,
        )
        self._beneath = beneath

    async def run(self, root: Entry, previous: Entry | None) -> Plan:
        """Compare all below ``root``; ``previous`` is the root that DEST had before, if that is known."""
        if root.totals.dirs > DIRS_MAX:
            raise FormatError(
                f"the archive has {root.totals.dirs} directories, which is more than can be fetched at once "
                f"({DIRS_MAX}); fetch a part of it, with /PATH behind its URL"
            )
        plan = Plan(root)
        older = {} if previous is None else {b"": previous.ref}
        exists = self._beneath is not None
        row = self._row_of_root(root)
        waiting = [Item(b"", root.ref, root, exists, 0, row=row, is_gone=not exists)]
        while waiting:
            batch = waiting[-ITEMS_AT_ONCE:]
            del waiting[-ITEMS_AT_ONCE:]
            known = [item for item in batch if self._is_known(item)]
            changed = [item for item in batch if not self._is_known(item)]
            waiting += await self._check(known, changed)
            changed.sort(key=lambda item: item.path)
            inner: list[Item] = []
            for start in range(0, len(changed), DIRS_AT_ONCE):
                inner += await self._compare(changed[start : start + DIRS_AT_ONCE], plan, older)
            waiting.extend(reversed(inner))
        plan.dirs.sort(key=lambda work: work.path.replace(b"/", b"\0"))
        plan.kept_bytes = root.totals.bytes - plan.size - plan.unread_bytes - plan.left_bytes
        return plan

    def _row_of_root(self, root: Entry) -> DirRow | None:
        if not self._trusts_stamps or not self._directory.same_root(root):
            return None
        return self._state.trees.dir_row(self._tree.id, b"")

    def _is_known(self, item: Item) -> bool:
        row = item.row
        return self._trusts_stamps and row is not None and bool(row.stamp) and row.listing == item.ref

    # Directories that the index has a stamp of.

    async def _check(self, items: list[Item], changed: list[Item]) -> list[Item]:
        """Check stamps: directories that differ are added to ``changed``; returns the directories inside the
        others.
        """
        inner: list[Item] = []
        # From the end: who looks ahead comes from the beginning.
        for end in range(len(items), 0, -CHECKS_AT_ONCE):
            some = items[max(end - CHECKS_AT_ONCE, 0) : end]
            different, inside, files = await self._beside(self._look, some)
            changed += different
            inner[:0] = inside
            self._tell.advance(0, files)
        return inner

    def _look(self, items: list[Item]) -> tuple[list[Item], list[Item], int]:
        """Which directories differ, which are inside the others, and how many files are directly in those."""
        same: list[Item] = []
        different: list[Item] = []
        for item in reversed(items):
            if self._directory.stopped:
                break
            (same if self._is_as_it_was(item) else different).append(item)
        return different, *self._inside(same[::-1])

    def _is_as_it_was(self, item: Item) -> bool:
        assert item.row is not None and self._beneath is not None  # noqa: S101 - it is known by its row
        known = None if self._ahead is None else self._ahead.known(item.path)
        return is_as_it_was(self._beneath, item.path, item.row.stamp) if known is None else known

    def _inside(self, items: list[Item]) -> tuple[list[Item], int]:
        """The directories inside ``items``, the same as before, and how many files are in none of them."""
        made: list[Item] = []
        files = 0
        for item in items:
            assert item.row is not None  # noqa: S101 - it was checked by its row
            row = item.row
            rows = self._state.trees.dirs_in(self._tree.id, item.path) if row.inner else {}
            files += row.totals.files - sum(each.totals.files for each in rows.values())
            for name, ref in row.inner:
                path = join(item.path, name)
                _bounded(path, item.depth + 1)
                made.append(
                    Item(
                        path,
                        ref,
                        None,
                        True,
                        item.depth + 1,
                        (item.path, item.ref),
                        rows.get(name),
                        item.carried or (item.entry is not None and is_carried(item.entry)),
                    )
                )
        return made, max(files, 0)

    # Directories that are compared name by name.

    async def _compare(self, batch: list[Item], plan: Plan, older: dict[bytes, Ref]) -> list[Item]:
        await self._read_listings(batch, older, plan)
        inner, files = await self._beside(self._directory.compare, batch, plan, older, self._trusts_stamps)
        self._tell.advance(0, files)
        return inner

    async def _beside(self, work: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """Do some work in a thread, beside the event loop. Who cancels this may close DEST afterwards: the
        thread has ended then.
        """

        def stop() -> None:
            self._directory.stopped = True

        return await off_loop(partial(work, *arguments, **keywords), stop=stop)

    async def _read_listings(self, batch: list[Item], older: dict[bytes, Ref], plan: Plan) -> None:
        for item in batch:
            if item.entry is not None:
                check_listing_size(item.entry)
        predecessors = {item.ref: older[item.path] for item in batch if item.path in older}
        missing = set(await self._listings.load((item.ref for item in batch), predecessors))
        for item in [item for item in batch if item.ref in missing]:
            plan.unread.append(item.path)
            if item.entry is not None:
                plan.unread_bytes += item.entry.totals.bytes
            batch.remove(item)


def _bounded(path: bytes, depth: int) -> None:
    """Refuse what lies deeper, or has a longer path, than any archive may have. Raises FormatError."""
    if depth > DEPTH_MAX or len(path) > PATH_MAX:
        raise FormatError(
            f"the archive nests directories deeper than {DEPTH_MAX}, or has paths over {PATH_MAX} bytes"
        )

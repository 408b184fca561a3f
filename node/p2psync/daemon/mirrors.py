"""Keeping mirrors up to date: each at its interval, and at once when a newer head is heard of."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from p2psync.errors import DeleteLimitError, P2psyncError, UsageError, show_path
from p2psync.events import SILENT, Teller, warnings_to
from p2psync.fetch.destination import refuse_published, share_as_asked
from p2psync.fetch.engine import Host, run_fetch
from p2psync.fetch.guards import find_moved
from p2psync.fetch.hooks import NONE, Hooks, Updated, with_hooks
from p2psync.fetch.options import FetchOptions, FetchSummary
from p2psync.fetch.placed import placed
from p2psync.fetch.recorded import from_record, to_record
from p2psync.format.url import archive_text
from p2psync.network.holders import holder_addresses
from p2psync.state import State
from p2psync.state.trees import Tree

DEFAULT_INTERVAL: Final = 3600.0
LOOK: Final = 60.0
"""Seconds after which it is looked again what is due: a command that updated a mirror may have ended."""
HOLD: Final = 30.0
"""Seconds that a mirror which was let go of is left alone: who asked for that works there, or forgets it."""
FIRST_RETRY: Final = 10.0
"""Seconds until an update that failed is tried again, or up to half as long again; doubles up to the
interval.
"""
INTERVAL_SPREAD: Final = 0.05
"""The part by which an interval may be shorter: mirrors that took a snapshot together would look for the next
one together.
"""
SPREAD_EACH: Final = 0.02
SPREAD_MAX: Final = 5.0
"""Seconds within which mirrors begin with a new snapshot that they have heard of, for each holder that is
known, and at most: a thousand are not to come to the origin in the same second.
"""


AT_ONCE: Final = 3
"""Updates under way at once, each with an arena of 32 MiB: a large archive that comes for days keeps no
small one from its news.
"""
MOMENT: Final = 0.1
"""Seconds for which those that were begun are waited for: most find that nothing is new."""
RUNNING_LOOK: Final = 0.5
"""Seconds until it is looked again, while some go on, whether others can be begun."""


class Mirrors:
    """Updates the mirrors of a state directory, a few at a time, or one after the other where they have a
    limit in common.
    """

    def __init__(
        self,
        state: State,
        host: Host,
        *,
        bwlimit: int | None,
        warn: Callable[[str], None],
        detail: Callable[[str], None],
        tell: Teller = SILENT,
        rng: random.Random | None = None,
        hooks: Hooks = NONE,
    ) -> None:
        """``tell`` hears how updates go, and when the next ones are due. ``hooks`` are run around each."""
        self._hooks = hooks
        self._random = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._state = state
        self._tell = tell
        self._host = host
        self._bwlimit = bwlimit
        self._warn = warn
        self._detail = detail
        self._due: dict[int, float] = {}
        self._begin_at: dict[int, float] = {}
        """When a newer snapshot is taken that was heard of, by tree."""
        self._failures: dict[int, int] = {}
        self._refused: dict[int, tuple[int, int]] = {}
        self._at_once = AT_ONCE if bwlimit is None else 1
        self._updates: dict[bytes, asyncio.Task[None]] = {}
        """By path, those that were begun here."""
        self._running: dict[bytes, asyncio.Task[FetchSummary]] = {}
        self._let_go: dict[bytes, float] = {}
        self.main: bytes | None = None
        """The directory that this process was started to mirror, if it was: each start makes it a mirror."""
        self.updated: dict[int, float] = {}
        """When each mirror was last found or made up to date, in Unix seconds; by tree."""
        self._since: dict[int, float] = {}
        """Since when each has been up to date without a break, in Unix seconds."""

    async def round(self) -> float:
        """Begin to update what is due; seconds until something is due again, if nothing changes before.
        Whatever is under way ends when this is cancelled.
        """
        try:
            return await self._round()
        except asyncio.CancelledError:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop all updates."""
        for task in self._updates.values():
            task.cancel()
        if self._updates:
            await asyncio.wait(self._updates.values())
        self._updates.clear()

    async def _round(self) -> float:
        now = time.monotonic()
        trees = [tree for tree in self._state.trees.all() if tree.role == "mirror" and tree.source]
        self._let_go = {path: until for path, until in self._let_go.items() if until > now}
        for tree in trees:
            if tree.path in self._let_go or tree.path in self._updates:
                continue
            if self._due.get(tree.id, 0.0) <= now or self._begins(tree, now):
                if len(self._updates) >= self._at_once:
                    await self._settle()
                if len(self._updates) >= self._at_once:
                    break
                self._updates[tree.path] = asyncio.create_task(self._update(tree))
        await self._settle(asyncio.ALL_COMPLETED)
        if self._updates:
            return RUNNING_LOOK
        self.rest()
        waiting = [self._due[tree.id] for tree in trees if tree.id in self._due]
        left = max(min(waiting, default=now + DEFAULT_INTERVAL) - time.monotonic(), 0.5)
        soon = min(self._begin_at.values(), default=float("inf")) - time.monotonic()
        return min(left, max(soon, 0.0), LOOK)

    async def _settle(self, until: str = asyncio.FIRST_COMPLETED) -> None:
        """Wait for updates for a moment. Raises what one has failed with that nobody has told the user."""
        if self._updates:
            await asyncio.wait(self._updates.values(), timeout=MOMENT, return_when=until)
        ended = [self._updates.pop(path) for path, task in list(self._updates.items()) if task.done()]
        for task in ended:
            task.result()

    def _begins(self, tree: Tree, now: float) -> bool:
        """Whether it is time to take a newer snapshot that is known of."""
        if tree.archive is None or not self._behind(tree):
            self._begin_at.pop(tree.id, None)
            return False
        if tree.id not in self._begin_at:
            others = self._state.holders.count(tree.archive, time.time())
            spread = min(SPREAD_EACH * others, SPREAD_MAX)
            self._begin_at[tree.id] = now + self._random.uniform(0.0, spread)
        return self._begin_at[tree.id] <= now

    def _behind(self, tree: Tree) -> bool:
        """Whether a newer head than the tree's is known, and the last attempt at it did not just fail."""
        if tree.archive is None or self._failures.get(tree.id):
            return False
        at = max((tree.epoch, tree.seq), self._refused.get(tree.id, (0, 0)))
        if self._due.get(tree.id) == float("inf"):
            return False
        head = self._state.heads.newest(tree.archive)
        return head is not None and (head.epoch, head.seq) > at

    async def _update(self, tree: Tree) -> None:
        if self._state.trees.get(tree.path) is None:  # Forgotten while others were updated.
            return
        self._begin_at.pop(tree.id, None)
        interval = interval_of(tree)
        try:
            options = options_of(tree, self._bwlimit)
            # While a command or another update fetches, the display is that fetch's.
            shown = self._commanded or len(self._updates) > 1
            tell = Teller(warnings_to(self._warn)) if shown else self._tell
            fetching = partial(run_fetch, options, self._state, tell, self._host)
            summary = await self.updating(tree, fetching)
        except DeleteLimitError as error:
            self.note_refused(tree, error)
            self._wait(tree, interval)
        except P2psyncError as error:
            self._failed(tree, interval, error)
        else:
            if summary is None:
                return
            if not summary.complete:
                self._failed(tree, interval, None)
                return
            self.note_updated(tree, changed=bool(summary.changed or summary.deleted))
            self._wait(tree, interval)
            self._detail(
                f"mirror {os.fsdecode(tree.path)} of {archive_text(summary.archive)} "
                f"is at snapshot {summary.seq}"
            )

    def _wait(self, tree: Tree, interval: float) -> None:
        spread = self._random.uniform(1 - INTERVAL_SPREAD, 1.0)
        self._due[tree.id] = time.monotonic() + interval * spread

    @property
    def _commanded(self) -> bool:
        """Whether a command updates a mirror."""
        return float("inf") in self._due.values()

    def rest(self) -> None:
        """Tell that nothing is to be done until something is due again."""
        if self._commanded:
            return
        trees = [tree for tree in self._state.trees.all() if tree.role == "mirror" and tree.source]
        since = [self._since[tree.id] for tree in trees if tree.id in self._since]
        due = [self._due[tree.id] for tree in trees if tree.id in self._due]
        next_check = round(time.time() + min(due) - time.monotonic()) if due else None
        if not trees:
            self._tell.rest("serving")
        elif self.held_back():
            self._tell.rest("held back at an older snapshot", None, next_check)
        elif len(since) == len(trees):
            self._tell.rest("up to date", max(since), next_check)
        else:
            self._tell.rest("not up to date", None, next_check)

    async def updating(self, tree: Tree, work: Callable[[], Awaitable[FetchSummary]]) -> FetchSummary | None:
        """Do the work of an update, and what is to be run before and after it; None where the mirror was
        let go of meanwhile.
        """
        mirror = Updated(tree.archive or b"", tree.path, tree.seq)
        hooked = with_hooks(self._hooks, mirror, work, self._warn, self._detail)
        task = self._running[tree.path] = asyncio.ensure_future(hooked)
        try:
            return await task
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if this is not None and this.cancelling():
                raise
            return None
        finally:
            del self._running[tree.path]

    async def release(self, path: bytes) -> bool:
        """Stop the update of the mirror at ``path``, if one is under way, and begin none for ``HOLD``
        seconds; whether one was.
        """
        self._detail(f"let go of {show_path(path)}: a command works there, or forgets it")
        self._let_go[path] = time.monotonic() + HOLD
        tree = self._state.trees.get(path)
        if tree is not None:
            for kept in (self._due, self._begin_at, self._failures, self._refused, self.updated, self._since):
                kept.pop(tree.id, None)
        task = self._running.get(path)
        if task is None:
            return False
        task.cancel()
        await asyncio.wait([task])
        return True

    def note_updated(self, tree: Tree, *, changed: bool = True) -> None:
        """A mirror is up to date; ``changed``: it was not before."""
        self._failures.pop(tree.id, None)
        self._refused.pop(tree.id, None)
        now = self.updated[tree.id] = time.time()
        if changed or tree.id not in self._since:
            self._since[tree.id] = now

    def note_refused(self, tree: Tree, error: DeleteLimitError) -> None:
        """A mirror stays as it is, since the newest snapshot has lost too much of it; told once for each."""
        head = self._state.heads.newest(tree.archive) if tree.archive is not None else None
        newest = (head.epoch, head.seq) if head is not None else (tree.epoch, tree.seq)
        self._failures.pop(tree.id, None)
        if self._refused.get(tree.id) != newest:
            self._refused[tree.id] = newest
            self._warn(f"mirror {show_path(tree.path)} was not updated: {error}")

    def held_back(self) -> list[Tree]:
        """Mirrors that stay at an older snapshot, since the newest has lost too much of them."""
        trees = [tree for tree in self._state.trees.all() if tree.id in self._refused]
        return [tree for tree in trees if (tree.epoch, tree.seq) < self._refused[tree.id]]

    def failures(self, tree: Tree) -> int:
        """Updates of a mirror that failed in a row."""
        return self._failures.get(tree.id, 0)

    def _failed(self, tree: Tree, interval: float, error: P2psyncError | None) -> None:
        self._since.pop(tree.id, None)
        count = self._failures[tree.id] = self._failures.get(tree.id, 0) + 1
        pause = min(FIRST_RETRY * 2 ** (count - 1) * self._random.uniform(1.0, 1.5), interval)
        self._due[tree.id] = time.monotonic() + pause
        reason = "some of it could not be had" if error is None else str(error)
        self._warn(
            f"mirror {os.fsdecode(tree.path)} was not updated: {reason}; next try in {pause:.0f} seconds"
        )

    @contextlib.contextmanager
    def being_updated(self, tree: Tree) -> Iterator[None]:
        """A command updates the mirror for the length of the block; afterwards its interval begins."""
        self._due[tree.id] = float("inf")
        try:
            yield
        finally:
            if tree.path not in self._let_go:
                self._wait(tree, interval_of(tree))


def options_of(tree: Tree, bwlimit: int | None) -> FetchOptions:
    """How to update a mirror: as it was made, within the node's ``bwlimit`` in bytes a second.

    Raises UsageError: its record cannot be followed.
    """
    options = from_record(tree.path, tree.source, tree.options)
    limits = [limit for limit in (bwlimit, options.bwlimit) if limit is not None]
    return replace(options, bwlimit=min(limits, default=None))


def interval_of(tree: Tree) -> float:
    """Seconds between updates of a mirror."""
    with contextlib.suppress(UsageError):  # Its update says what is wrong.
        return options_of(tree, None).mirror_interval
    return DEFAULT_INTERVAL


def peers_of(tree: Tree) -> tuple[str, ...]:
    """HOST:PORT of the nodes that a mirror was given by hand; none of other trees."""
    with contextlib.suppress(UsageError):  # Its update says what is wrong.
        if tree.role == "mirror" and tree.source:
            return options_of(tree, None).peers
    return ()


def neighbours(state: State) -> list[str]:
    """HOST:PORT of nodes that may know the way into the DHT: who was given by hand for mirrors, and the known
    holders of what is here.
    """
    trees = [tree for tree in state.trees.all() if tree.role != "fetch"]
    found = [peer for tree in trees for peer in peers_of(tree)]
    for archive in dict.fromkeys(tree.archive for tree in trees if tree.archive is not None):
        found += holder_addresses(state, archive)
    return list(dict.fromkeys(found))


def register(state: State, options: FetchOptions) -> Tree:
    """Note that a directory is a mirror; every node on this state directory keeps it up to date from now on.

    Raises UsageError: the directory holds something else.
    """
    path = placed(options.dest, options.url, single=False)
    refuse_published(state, path)
    state.within(path)
    find_moved(state, path, options.url.archive)
    new = state.trees.get(path) is None
    with state.transaction():  # No node may see it before it is known whether it is for others.
        tree = state.trees.ensure(path, "mirror", options.url.archive)
        share_as_asked(state, tree, options.url.archive, options.share, new=new)
    tree.source = str(options.url.inner)
    tree.options |= to_record(options)
    state.trees.update(tree)
    return tree


async def pause(seconds: float, changed: asyncio.Event) -> None:
    """Wait for a change of the state, at most ``seconds``."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await changed.wait()
    changed.clear()

"""Trying candidates: many at the same time, each for a moment, and outside of the places that sources have.
The slow and the silent among them hold up nobody who answers.

Whom to try is ``candidates``', what is asked is the caller's. Those who passed wait here until there is a
place.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final

from p2psync.sources.finders.candidates import Candidate, Candidates
from p2psync.sources.finders.records import Found

AT_ONCE: Final = 128
"""Candidates that are tried at the same time, each with a connection: a thousand of whom half are silent
take 8 seconds, and an honest one among them is found after 2. A process may have 1,024 descriptors on most
systems.
"""
SPARE: Final = 24
"""Holders that passed and wait for a place, beyond which nobody is tried: as many as sources are in use."""
LOOK: Final = 0.25
"""Seconds between looks at whether a source has to give up its place to one that waits."""


class Tryouts:
    """Tries candidates for as long as there is use for more sources."""

    def __init__(
        self,
        candidates: Candidates,
        prove: Callable[[Candidate], Awaitable[Found | None]],
        place: Callable[[str, Found], bool],
    ) -> None:
        """``prove`` asks a candidate who it is and gives the record that is its own; None if it has none.
        ``place`` takes a holder in as a source; False if there is no place for it now.
        """
        self.candidates = candidates
        self._prove = prove
        self._place = place
        self._trying: set[asyncio.Task[None]] = set()
        self._waiting: dict[str, Found] = {}
        """By address, in the order in which they passed."""
        self._news = asyncio.Event()
        self._settled = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    def go_on(self) -> None:
        """There are candidates that were not there before."""
        self._settled.clear()
        self._news.set()
        if self._running is None and not self._closed:
            self._running = asyncio.create_task(self._run())

    async def settled(self) -> None:
        """Wait until all candidates that are of use now were tried, or are left alone for a while."""
        if self._running is not None:
            await self._settled.wait()

    @property
    def under_way(self) -> bool:
        """Whether somebody may pass soon, or waits for a place."""
        return bool(self._waiting) or (self._running is not None and not self._settled.is_set())

    def is_trying(self, candidate: Candidate) -> bool:
        """Whether it was asked and has not answered."""
        return any(task.get_name() == candidate.name for task in self._trying)

    async def close(self) -> None:
        """Try nobody any more."""
        self._closed = True
        tasks = [*self._trying, *([] if self._running is None else [self._running])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self) -> None:
        while True:
            self._news.clear()
            self._give_places()
            now = time.monotonic()
            while len(self._trying) < AT_ONCE and len(self._waiting) < SPARE:
                candidate = self.candidates.next(now)
                if candidate is None:
                    break
                task = asyncio.create_task(self._try(candidate), name=candidate.name)
                self._trying.add(task)
                task.add_done_callback(self._tried)
            if not self._trying:
                self._settled.set()
            wake_at = self.candidates.wake_at()
            wait = None if wake_at is None else max(wake_at - now, 0.0)
            if self._waiting:
                wait = LOOK
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._news.wait()

    def _tried(self, task: asyncio.Task[None]) -> None:
        self._trying.discard(task)
        self._news.set()

    async def _try(self, candidate: Candidate) -> None:
        found = await self._prove(candidate)
        if found is None:
            self.candidates.failed(candidate, time.monotonic())
            return
        self.candidates.succeeded(candidate, found.record.node_key)
        self.passed(candidate.name, found)

    def passed(self, name: str, found: Found) -> None:
        """A holder is what it says; it becomes a source, now or when there is a place."""
        self._waiting[name] = found
        self._give_places()

    def _give_places(self) -> None:
        for name, found in list(self._waiting.items()):
            if not self._place(name, found):
                return
            del self._waiting[name]

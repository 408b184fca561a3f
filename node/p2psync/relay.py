"""Between engines and programs: events from any thread come to the event loop, and the many become a few.

An engine tells of every piece; a program hears of a `Progress` a few times a second instead, and of all else
as it happens. The other way, a cancelled program stops work that runs in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final, TypeVar

from p2psync.errors import InterruptedFetch
from p2psync.events import SILENT, Event, FileDone, Phase, SourceState, Teller, Warned
from p2psync.progress import Progress, ProgressMeter
from p2psync.state.off_loop import off_loop

T = TypeVar("T")
PROGRESS_EVERY: Final = 0.25
"""Seconds between two `Progress` events: as fast as a person reads figures."""
ClientEvent = Phase | Progress | SourceState | Warned | FileDone
"""What a program hears."""


class _Relay:
    """Takes events in any thread and hands them to `on_event` in the loop's."""

    def __init__(self, on_event: Callable[[ClientEvent], None]) -> None:
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._meter = ProgressMeter()
        self._waiting: deque[ClientEvent] = deque()
        self._come = asyncio.Event()

    def hear(self, event: Event) -> None:
        self._meter.hear(event)
        if isinstance(event, Phase | SourceState | Warned | FileDone):
            first = not self._waiting
            self._waiting.append(event)
            if first:
                self._loop.call_soon_threadsafe(self._come.set)

    def deliver(self) -> None:
        self._come.clear()
        while self._waiting:
            self._on_event(self._waiting.popleft())

    def progress(self) -> None:
        now = self._meter.progress()
        if now.phase:
            self._on_event(now)

    async def run(self) -> None:
        """Deliver until cancelled."""
        due = self._loop.time() + PROGRESS_EVERY
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._come.wait()
            self.deliver()
            if self._loop.time() >= due:
                self.progress()
                due = self._loop.time() + PROGRESS_EVERY


@contextlib.asynccontextmanager
async def relayed(
    on_event: Callable[[ClientEvent], None] | Teller | None, *, files: bool = False
) -> AsyncIterator[Teller]:
    """A teller for the work within the block, whose events come to `on_event` in this loop.

    What `on_event` raises cancels the block and is raised. A `Teller` is used as it is.
    """
    if on_event is None or isinstance(on_event, Teller):
        yield on_event or SILENT
        return
    relay = _Relay(on_event)
    try:
        async with asyncio.TaskGroup() as group:
            delivering = group.create_task(relay.run())
            try:
                yield Teller(relay.hear, files=files)
            finally:
                if not delivering.done():  # Else `on_event` has raised, and is not called again.
                    delivering.cancel()
                    relay.deliver()
            relay.progress()
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def in_thread(work: Callable[[Teller], T], tell: Teller) -> T:
    """Do blocking work in a thread. Cancelled, it ends where it next tells something, and is waited for."""
    stopped = threading.Event()

    def hear(event: Event) -> None:
        if stopped.is_set():
            raise InterruptedFetch("stopped; what was done is kept")
        tell.hand_on(event)

    return await off_loop(partial(work, Teller(hear, files=tell.wants_files)), stop=stopped.set)

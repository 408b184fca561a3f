"""One question that several sources could answer: asked of one, and while that one is late, of another too.
The first right answer counts, and the others are given up.

So a source that is silent, or sends a few bytes a second, costs a second and not a fetch. What late means
follows from what comes: a slow line, on which all are slow, is no reason to send everything over it twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Generic, TypeVar

from p2psync.sources.swarm import Member, Swarm

T = TypeVar("T")

HEDGE_AFTER: Final = 1.0
"""Seconds that a source which has delivered before has to itself: thrice the round trip to the other side
of the world.
"""
HEDGE_UNKNOWN_AFTER: Final = 0.3
"""Seconds that one has which has delivered nothing yet: most of those that answer do so within."""
LEFT_MAX: Final = 2.0
"""Seconds that the rest of an answer may take at the rate at which it comes."""
FASTER: Final = 4.0
"""How many times as fast a source was that is asked instead: one that is little faster would not be done
first.
"""
SMALL: Final = 64 << 10
"""Bytes of a question that is asked of many."""
COPIES_SMALL: Final = 8
COPIES_MAX: Final = 3
"""Sources that are asked the same at one time: of larger answers few, since all share one line."""
LOOK: Final = 0.1
"""Seconds between looks at what has come."""


class _Asked:
    """One source that is asked."""

    def __init__(self, member: Member, now: float) -> None:
        self.member = member
        self.since = now
        self._metadata = member.metadata
        self._before = self.received

    @property
    def received(self) -> int:
        return 0 if self._metadata is None else self._metadata.received

    def rate(self, now: float) -> float:
        """Bytes a second so far."""
        return (self.received - self._before) / max(now - self.since, 0.001)

    def is_late(self, now: float, size: int) -> bool:
        """Whether it is not to be expected to bring ``size`` bytes soon."""
        patience = HEDGE_AFTER if self.member.delivered else HEDGE_UNKNOWN_AFTER
        left = size - (self.received - self._before)
        return now - self.since >= patience and left > LEFT_MAX * self.rate(now)


class Hedge(Generic[T]):
    """Asks one question of the sources in ``swarm``."""

    def __init__(
        self,
        swarm: Swarm,
        able: Callable[[], Sequence[Member]],
        ask: Callable[[Member], Coroutine[Any, Any, T]],
        size: int,
    ) -> None:
        """``able`` gives who may be asked now, the best first. ``ask`` asks one and gives what came and was
        right, something empty if nothing was; what it raises is raised. ``size``: about how many bytes are to
        come.
        """
        self._swarm = swarm
        self._able = able
        self._ask = ask
        self._size = size
        self._most = COPIES_SMALL if size <= SMALL else COPIES_MAX
        self._running: dict[asyncio.Task[T], _Asked] = {}
        self._tried: set[str] = set()

    async def first(self) -> T | None:
        """The first answer that has something; None if nobody who can be asked now had anything."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                now = loop.time()
                if all(asked.is_late(now, self._size) for asked in self._running.values()):
                    self._ask_another(now)
                if not self._running:
                    return None
                done, _ = await asyncio.wait(self._running, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    came = self._running.pop(task)
                    if answer := task.result():
                        self._note_late(came.since)
                        return answer
        finally:
            for task in self._running:
                task.cancel()
            if self._running:
                await asyncio.wait(self._running)

    def _ask_another(self, now: float) -> None:
        best = max((asked.rate(now) for asked in self._running.values()), default=0.0)
        # One that was never measured may be anything; it is found out once.
        others = (m for m in self._able() if m.name not in self._tried)
        other = next((m for m in others if not m.rate or m.rate >= FASTER * best), None)
        if other is None:
            return
        if len(self._running) >= self._most:
            self._give_up(min(self._running, key=lambda task: self._running[task].rate(now)))
        self._tried.add(other.name)
        self._swarm.asked(other)
        task = asyncio.ensure_future(self._ask(other))
        self._running[task] = _Asked(other, now)

    def _give_up(self, task: asyncio.Task[T]) -> None:
        """Ask one no longer, so that another can be."""
        member = self._running.pop(task).member
        task.cancel()
        self._swarm.was_late(member)
        self._swarm.failed(member, f"{member.name}: took too long to answer")

    def _note_late(self, since: float) -> None:
        """Somebody who was asked at ``since`` has answered before those who were asked earlier."""
        for asked in self._running.values():
            if asked.since < since:
                self._swarm.was_late(asked.member)

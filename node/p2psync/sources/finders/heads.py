"""Asking many for the head of one archive at once: the newest one counts, and nobody waits long for the
rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from p2psync.errors import FormatError, NetworkError
from p2psync.sources.finders.in_dht import InDht
from p2psync.sources.swarm import Member, Swarm

HEAD_TIMEOUT: Final = 8.0
"""Seconds that all who are asked for the head get together."""
HEAD_GRACE: Final = 1.0
"""Seconds that the others get once somebody has answered: the newest head counts, not the first."""
HEADS_ASKED: Final = 8
"""Sources that are asked for the head at most."""


class HeadQuestions:
    """Asks sources of ``swarm`` and the DHT; what comes is neither decoded nor verified."""

    def __init__(self, archive: bytes, dht: InDht, swarm: Swarm, warn: Callable[[str], None]) -> None:
        self._archive = archive
        self._dht = dht
        self._swarm = swarm
        self._warn = warn

    async def ask(self, members: Iterable[Member], *, dht: bool) -> list[bytes]:
        """The heads that ``members``, and the DHT where it is reachable, know; as they were signed."""
        able = [member for member in members if member.metadata is not None]
        questions: list[Coroutine[Any, Any, bytes | None]] = [
            self._head_of(member) for member in able[:HEADS_ASKED]
        ]
        if dht and self._dht.reachable:
            questions.append(self._dht.head())
        return await _gather(questions)

    async def _head_of(self, member: Member) -> bytes | None:
        assert member.metadata is not None  # noqa: S101 - only such are asked
        try:
            raw = await member.metadata.head(self._archive)
            member.answered = True
            return raw
        except NetworkError as error:
            self._swarm.failed(member, str(error))
        except FormatError as error:
            self._warn(str(error))
        return None


async def _gather(questions: Iterable[Coroutine[Any, Any, bytes | None]]) -> list[bytes]:
    """Answers that are in within the time-out, or a little after the first one."""
    tasks = [asyncio.ensure_future(question) for question in questions]
    try:
        pending: set[asyncio.Future[bytes | None]] = set(tasks)
        deadline = time.monotonic() + HEAD_TIMEOUT
        while pending and (left := deadline - time.monotonic()) > 0:
            done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if any(task.result() is not None for task in done):
                deadline = min(deadline, time.monotonic() + HEAD_GRACE)
    finally:
        for task in tasks:
            task.cancel()
    finished = [task for task in tasks if task.done() and not task.cancelled()]
    return [raw for task in finished if (raw := task.result()) is not None]

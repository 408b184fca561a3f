"""Asking many for the head of one archive at once: the newest one counts, and nobody waits long for the
rest.

The DHT is not enough: who has the ids around a key decides what is found there. So holders are asked as well,
some of them, chosen by chance, which who surrounds the key of the head has no say in.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, NamedTuple

from p2psync.errors import FormatError, NetworkError
from p2psync.sources.finders.in_dht import InDht
from p2psync.sources.source import wish_of
from p2psync.sources.swarm import Member, Swarm

HEAD_TIMEOUT: Final = 8.0
"""Seconds that all who are asked for the head get together."""
HEAD_GRACE: Final = 1.0
"""Seconds that the others get once somebody has answered: the newest head counts, not the first."""
DHT_GRACE: Final = 3.0
"""Seconds that the DHT gets where nobody but holders that were met has answered: as long as a lookup takes
that has to find its way round a crowd, and twice that.
"""
HEADS_ASKED: Final = 8
"""Sources that are asked for the head at most, and holders that were merely met. Of eight by chance, one is
honest in five cases of six even where four holders of five lie.
"""
HOLDERS_GRACE: Final = 0.5
"""Seconds that holders get once the DHT and the sources that were given have answered: three round trips
across an ocean, for a connection, the proof of who is there, and the head.
"""
HOLDERS_ENOUGH: Final = 3
"""Holders whose answers are enough not to wait for those of others."""


class Heads(NamedTuple):
    """Heads as they came: neither decoded nor verified."""

    asked: list[bytes]
    """From those who were asked by name, and from the DHT."""
    met: list[bytes]
    """From holders that somebody has told of; not each of them needs to be up to date."""


class HeadQuestions:
    """Asks sources of ``swarm`` and the DHT; what comes is neither decoded nor verified."""

    def __init__(self, archive: bytes, dht: InDht, swarm: Swarm, warn: Callable[[str], None]) -> None:
        self._archive = archive
        self._dht = dht
        self._swarm = swarm
        self._warn = warn
        self._round: _Round | None = None

    async def ask(
        self, members: Iterable[Member], *, dht: bool, meeting: asyncio.Future[None] | None = None
    ) -> Heads:
        """The heads that ``members``, and the DHT where it is reachable, know; as they were signed.

        ``meeting``: a search for holders that is under way. Whom it finds is handed to `met` and asked too.
        """
        able = [member for member in members if member.heads is not None]
        questions: list[Coroutine[Any, Any, bytes | None]] = [
            self._head_of(member) for member in able[:HEADS_ASKED]
        ]
        if dht and self._dht.reachable:
            questions.append(self._dht.head())
        this = self._round = _Round(questions, meeting)
        try:
            return await this.heads()
        finally:
            self._round = None

    async def earlier(self, members: Iterable[Member]) -> list[bytes]:
        """Heads before the newest one whose snapshots ``members`` may still have."""
        able = [member for member in members if member.heads is not None]
        try:
            async with asyncio.timeout(HEAD_TIMEOUT):
                came = await asyncio.gather(*map(self._earlier_of, able[:HEADS_ASKED]))
        except TimeoutError:
            return []
        return [raw for some in came for raw in some]

    async def _earlier_of(self, member: Member) -> list[bytes]:
        assert member.heads is not None  # noqa: S101 - only such are asked
        try:
            return await member.heads.earlier(self._archive)
        except NetworkError as error:
            self._swarm.failed(member, str(error), wish_of(error))
        except FormatError as error:
            self._warn(str(error))
        return []

    def met(self, member: Member) -> None:
        """A holder has become a source: it is asked for the head, if the head is being asked for."""
        if self._round is not None and member.heads is not None:
            self._round.add(self._head_of(member))

    async def _head_of(self, member: Member) -> bytes | None:
        assert member.heads is not None  # noqa: S101 - only such are asked
        try:
            raw = await member.heads.head(self._archive)
            member.answered |= member.metadata is not None  # A web server may have files alone.
            return raw
        except NetworkError as error:
            self._swarm.failed(member, str(error), wish_of(error))
        except FormatError as error:
            self._warn(str(error))
        return None


class _Round:
    """Questions under way, to which others may come while ``meeting`` is."""

    def __init__(
        self, questions: Iterable[Coroutine[Any, Any, bytes | None]], meeting: asyncio.Future[None] | None
    ) -> None:
        self._moved = asyncio.Event()
        self._asked = [self._begin(question) for question in questions]
        self._met: list[asyncio.Task[bytes | None]] = []
        self._meeting = meeting
        if meeting is not None:
            meeting.add_done_callback(self._note)

    def add(self, question: Coroutine[Any, Any, bytes | None]) -> None:
        """Ask a holder that was met, unless enough are asked."""
        if len(self._met) >= HEADS_ASKED:
            question.close()
        else:
            self._met.append(self._begin(question))

    async def heads(self) -> Heads:
        """Answers that are in within the time-out, or a little after the first one."""
        deadline = time.monotonic() + HEAD_TIMEOUT
        try:
            while not self._is_over() and (left := deadline - time.monotonic()) > 0:
                left = min(left, self._grace())
                deadline = time.monotonic() + left
                self._moved.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._moved.wait()
        finally:
            for task in [*self._asked, *self._met]:
                task.cancel()
            if self._meeting is not None:
                self._meeting.remove_done_callback(self._note)
        return Heads(_answers(self._asked), _answers(self._met))

    def _begin(self, question: Coroutine[Any, Any, bytes | None]) -> asyncio.Task[bytes | None]:
        task = asyncio.ensure_future(question)
        task.add_done_callback(self._note)
        return task

    def _note(self, _done: object) -> None:
        self._moved.set()

    def _is_over(self) -> bool:
        """Whether all that is waited for has come."""
        if not all(task.done() for task in self._asked):
            return False
        meets = self._meeting is not None and not self._meeting.done()
        asks = any(not task.done() for task in self._met)
        return not (meets or asks) or len(_answers(self._met)) >= HOLDERS_ENOUGH

    def _grace(self) -> float:
        """Seconds that are left from now on for those who have not answered."""
        if _answers(self._asked):
            return HOLDERS_GRACE if all(task.done() for task in self._asked) else HEAD_GRACE
        return DHT_GRACE if _answers(self._met) else HEAD_TIMEOUT


def _answers(tasks: Iterable[asyncio.Task[bytes | None]]) -> list[bytes]:
    finished = [task for task in tasks if task.done() and not task.cancelled()]
    return [raw for task in finished if (raw := task.result()) is not None]

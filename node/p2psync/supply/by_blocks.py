"""Content put together from older versions and the few bytes that are new, with the help of one source.

A source says of which small blocks the chunks consist; what of these is in the old content is not asked for,
and the rest comes compressed. Every chunk is verified before it counts, and whatever does not come about here
is had like any other missing chunk. Two round trips, and work at both ends: where the link is so fast that
all of it would have come sooner, that is seen at once, and left off.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Generic, NamedTuple, TypeVar

from p2psync.errors import FormatError, NetworkError
from p2psync.sources.compress import Compress
from p2psync.sources.interfaces import Delta
from p2psync.sources.source import Made, NotOffered, Span, wish_of
from p2psync.sources.swarm import Member, Swarm
from p2psync.sources.wire import BATCH_BYTES_MAX, BATCH_ROWS_MAX, Block
from p2psync.state.off_loop import off_loop
from p2psync.supply.older import Match, Want, is_right

PATIENCE: Final = 5.0
RATE_MIN: Final = 16 << 10
"""Seconds that a source has for an answer, and bytes a second beyond that; then all is had the usual way."""

JUDGED: Final = 1 << 20
"""Bytes that are put together before it is judged whether that is worth while: less says little."""
USELESS: Final = 16
"""Where old content gives less than one part in so many, the plain way is the better one: others are asked
too, and what came is here if it ends half-way.
"""

K = TypeVar("K")
T = TypeVar("T")


class Together(NamedTuple, Generic[K]):
    """What was put together."""

    chunks: list[tuple[Want[K], int]]
    """Verified, each with where it begins in the room."""
    given: int
    """Bytes of them that old content gave."""
    wrong: int = 0
    """Chunks that had all that they were to be made of, and are others."""
    useless: frozenset[bytes] = frozenset()
    """Objects, by their digests, of which old content has next to nothing: they are not asked for."""

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(want.size for want, _ in self.chunks)


class _Answer(NamedTuple, Generic[T]):
    rows: list[T | None]
    waited: float
    """Seconds, without those for which the source worked."""
    worked: float
    """Those."""
    received: int
    """Bytes."""


class _Known(NamedTuple, Generic[K]):
    """A missing chunk whose blocks are known."""

    want: Want[K]
    blocks: list[list[Block]]
    """Of each of its spans."""
    literals: list[Span]
    """What old content does not have of it."""


class ByBlocks:
    """Of one fetch."""

    def __init__(self, swarm: Swarm, compress: Compress) -> None:
        self._swarm = swarm
        self._always = compress is Compress.MAX
        self.on = compress is not Compress.OFF
        """Whether it is worth while, as far as is known."""
        self._without: set[str] = set()
        """Names of sources that have nothing to say to older versions, or nothing right."""
        self._size = self._received = 0
        self._waited = self._worked = 0.0

    async def make(
        self, old: Sequence[bytes], wants: Sequence[Want[K]], room: memoryview, *, whole: bool = False
    ) -> Together[K]:
        """Put together in ``room`` as many of the chunks, from the first on, as can be. ``whole``: also what
        has next to nothing of old content, for whom no other way compresses.
        """
        chunks = _fitting(wants, len(room))
        spans = [span for want in chunks for span in want.spans]
        for member in self._able(chunks):
            told = await self._ask(member, spans, lambda delta: delta.blocks(spans))
            if told is not None:
                return await self._make_from(member, old, chunks, told, room, whole=whole)
        return Together([], 0)

    async def _make_from(
        self,
        member: Member,
        old: Sequence[bytes],
        chunks: Sequence[Want[K]],
        told: _Answer[list[Block]],
        room: memoryview,
        *,
        whole: bool,
    ) -> Together[K]:
        began = time.monotonic()
        match, known = await off_loop(partial(_compare, old, chunks, told.rows))
        worked = time.monotonic() - began + told.worked
        useless = frozenset[bytes]() if whole else _useless(known)
        known = [each for each in known if each.want.spans[0].digest not in useless]
        literals = [span for each in known for span in each.literals]
        waited, received = told.waited, told.received
        rows: list[memoryview | None] = []
        if literals:
            came = await self._ask(member, literals, lambda delta: delta.packed(literals))
            if came is None:
                return Together([], 0, useless=useless)
            rows = came.rows
            waited += came.waited
            worked += came.worked
            received += came.received
        began = time.monotonic()
        made = await off_loop(partial(_put, match, known, rows, room))
        worked += time.monotonic() - began
        if made.wrong > 1:  # One may be two blocks that have the same hash.
            self._without.add(member.name)
        self._swarm.succeeded(member, made.size - made.given, waited + worked)
        self._judge(made.size, received, waited, worked)
        return made._replace(useless=useless)

    def _judge(self, size: int, received: int, waited: float, worked: float) -> None:
        """Whether it goes on: ``size`` bytes were put together with ``received`` ones, in so many seconds."""
        self._size += size
        self._received += received
        self._waited += waited
        self._worked += worked
        if self._always or self._size < JUDGED:
            return
        # What the link takes for all is at most what it took for these few bytes, delays included.
        if self._size * self._waited / max(self._received, 1) < self._waited + self._worked:
            self.on = False

    def _able(self, chunks: Sequence[Want[K]]) -> list[Member]:
        """Who can be asked now, the best first."""
        digests = {span.digest for want in chunks for span in want.spans}
        return [
            member
            for member in self._swarm.ready()
            if member.source.delta is not None
            and member.name not in self._without
            and not any(self._swarm.lacks(member, digest) for digest in digests)
        ]

    async def _ask(
        self, member: Member, spans: Sequence[Span], ask: Callable[[Delta], Awaitable[Made[T]]]
    ) -> _Answer[T] | None:
        """What one source says; None where it says nothing of use."""
        source = member.source
        if source.delta is None or not spans:
            return None
        before, began = source.metadata.received if source.metadata else 0, time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE + sum(span.length for span in spans) / RATE_MIN):
                made = await ask(source.delta)
        except (NotOffered, FormatError, TimeoutError):
            # Perhaps somebody between changes what it does not know: the plain way is open still.
            self._without.add(member.name)
            return None
        except NetworkError as error:
            self._swarm.failed(member, str(error), wish_of(error))
            return None
        after = source.metadata.received if source.metadata else 0
        waited = max(0.0, time.monotonic() - began - made.seconds)
        return _Answer(made.rows, waited, made.seconds, after - before)


def _fitting(chunks: Sequence[Want[K]], room: int) -> list[Want[K]]:
    """As many, from the first on, as one request and ``room`` bytes have place for."""
    made: list[Want[K]] = []
    rows = size = 0
    for want in chunks:
        rows += len(want.spans)
        size += want.size
        if rows > BATCH_ROWS_MAX or size > min(room, BATCH_BYTES_MAX):
            break
        made.append(want)
    return made


def _compare(
    old: Sequence[bytes], chunks: Sequence[Want[K]], rows: Sequence[list[Block] | None]
) -> tuple[Match, list[_Known[K]]]:
    """What old content has, and what is to be asked for of each chunk; within what one request may ask."""
    match = Match(old)
    known: list[_Known[K]] = []
    position = count = 0
    for want in chunks:
        told = rows[position : position + len(want.spans)]
        position += len(want.spans)
        blocks = [each for each in told if each is not None]
        if len(blocks) < len(want.spans):
            continue
        parts = zip(want.spans, blocks, strict=True)
        literals = [part for span, each in parts for part in match.literals(span, each)]
        count += len(literals)
        if count > BATCH_ROWS_MAX:
            break
        known.append(_Known(want, blocks, literals))
    return match, known


def _useless(known: Sequence[_Known[K]]) -> frozenset[bytes]:
    """Objects of which old content has less than one part in ``USELESS``."""
    sizes: Counter[bytes] = Counter()
    literals: Counter[bytes] = Counter()
    for want, _, parts in known:
        digest = want.spans[0].digest
        sizes[digest] += want.size
        literals[digest] += sum(span.length for span in parts)
    return frozenset(digest for digest, size in sizes.items() if USELESS * (size - literals[digest]) < size)


def _put(
    match: Match, known: Sequence[_Known[K]], rows: Sequence[memoryview | None], room: memoryview
) -> Together[K]:
    """Put chunks together in ``room``, one behind the other; those that are right count."""
    made: list[tuple[Want[K], int]] = []
    position = given = wrong = at = 0
    for want, blocks, literals in known:
        mine = rows[at : at + len(literals)]
        at += len(literals)
        came = [row for row in mine if row is not None]
        if len(came) < len(literals):
            continue
        left = iter(came)
        end, old = position, 0
        for span, each in zip(want.spans, blocks, strict=True):
            old += match.put(each, left, room[end : end + span.length])
            end += span.length
        if is_right(want, room[position:end]):
            made.append((want, position))
            position = end
            given += old
        else:
            wrong += 1
    return Together(made, given, wrong)

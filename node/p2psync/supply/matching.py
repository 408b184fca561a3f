"""Putting missing chunks together from older versions of their files and the few bytes that are new.

A source says of which small blocks the chunks consist; what of these is in the old file is not asked for,
and the rest comes compressed. Every chunk is verified before it counts, and whatever does not come about here
is had like any other missing chunk. Two round trips for some hundred files, and work at both ends: where the
link is so fast that all of it would have come sooner, that is seen at once, and left off.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, Generic, NamedTuple, TypeVar

from p2psync.errors import FormatError, NetworkError
from p2psync.sources.interfaces import Delta
from p2psync.sources.source import Made, NotOffered, Span, wish_of
from p2psync.sources.swarm import Member, Swarm
from p2psync.sources.wire import BATCH_BYTES_MAX, BATCH_ROWS_MAX, Block
from p2psync.state.off_loop import to_its_end
from p2psync.supply.compress import Compress
from p2psync.supply.jobs import Job
from p2psync.supply.lease import Lease, Piece
from p2psync.supply.local import LocalChunks
from p2psync.supply.older import OLD_MAX, Gap, Match, Want, gaps, is_right, wants

FILE_MIN: Final = 1 << 10
"""Bytes of a file from which on it is worth a look at its old version."""
GROUP_BYTES: Final = 4 << 20
"""Missing bytes that are put together at once: two round trips cost little beside them, and they are held."""
GROUP_GAPS: Final = 1024
USELESS: Final = 16
"""A file of whose first chunks old content gives less than one part in so many is taken as it is."""
PATIENCE: Final = 5.0
RATE_MIN: Final = 16 << 10
"""Seconds that a source has for an answer, and bytes a second beyond that; then all is had the usual way."""

T = TypeVar("T")


class Matched(NamedTuple):
    """What one turn has put together."""

    pieces: list[Piece]
    given: int
    """Bytes of them that old content gave."""
    wrong: int = 0
    """Chunks that had all that they were to be made of, and are others."""


class _Answer(NamedTuple, Generic[T]):
    rows: list[T | None]
    waited: float
    """Seconds, without those for which the source worked."""
    worked: float
    """Those."""
    received: int
    """Bytes."""


class _Known(NamedTuple):
    """A missing chunk whose blocks are known."""

    want: Want
    blocks: list[list[Block]]
    """Of each of its spans."""
    literals: list[Span]
    """What old content does not have of it."""


class Matching:
    """Of one download. Lives in the event loop; what takes long is done by ``disk``, an executor of one
    thread.
    """

    def __init__(
        self,
        swarm: Swarm,
        local: LocalChunks,
        disk: ThreadPoolExecutor,
        arena: memoryview,
        compress: Compress,
    ) -> None:
        self._swarm = swarm
        self._local = local
        self._disk = disk
        self._arena = arena
        self._always = compress is Compress.MAX
        self.on = compress is not Compress.OFF
        """Whether it is worth while, as far as is known."""
        self._without: set[str] = set()
        """Names of sources that have nothing to say to older versions, or nothing right."""
        self._useless: set[Job] = set()

    def takes(self, size: int) -> bool:
        """Whether a file of ``size`` bytes that replaces an older one is looked at."""
        return self.on and size >= FILE_MIN

    async def groups(self, jobs: Sequence[Job]) -> AsyncIterator[list[Gap]]:
        """What is missing of some jobs, beside the older content that stands there, in parts that are put
        together at once.
        """
        left = self._gaps(jobs)
        while self.on and (group := await self._work(partial(_some, left))):
            yield group

    def _gaps(self, jobs: Sequence[Job]) -> Iterator[Gap]:
        for job in jobs:
            target = next((target for target in job.targets if target.replaces), None)
            if target is None or not job.left or not self.takes(job.size):
                continue
            for gap in gaps(self._local, job, target.path, GROUP_BYTES):
                yield gap
                if job in self._useless:
                    break

    async def fill(self, group: Sequence[Gap], lease: Lease) -> Matched:
        """Put together in ``lease`` as much of the missing chunks as can be."""
        chunks = _fitting([want for gap in group for want in wants(gap)], lease.extent.size)
        spans = [span for want in chunks for span in want.spans]
        for member in self._able(chunks):
            told = await self._ask(member, spans, lambda delta: delta.blocks(spans))
            if told is not None:
                return await self._fill_from(member, group, chunks, told, lease)
        return Matched([], 0)

    async def _fill_from(
        self,
        member: Member,
        group: Sequence[Gap],
        chunks: Sequence[Want],
        told: _Answer[list[Block]],
        lease: Lease,
    ) -> Matched:
        began = time.monotonic()
        match, known = await self._work(partial(_compare, group, chunks, told.rows))
        worked = time.monotonic() - began + told.worked
        literals = [span for each in known for span in each.literals]
        waited, received = told.waited, told.received
        rows: list[memoryview | None] = []
        if literals:
            came = await self._ask(member, literals, lambda delta: delta.packed(literals))
            if came is None:
                return Matched([], 0)
            rows = came.rows
            waited += came.waited
            worked += came.worked
            received += came.received
        began = time.monotonic()
        made = await self._work(partial(_put, match, known, rows, self._arena, lease.extent.offset))
        worked += time.monotonic() - began
        if made.wrong > 1:  # One may be two blocks that have the same hash.
            self._without.add(member.name)
        size = sum(piece.length for piece in made.pieces)
        if USELESS * made.given < size:
            self._useless.update(gap.job for gap in group if 2 * gap.size > GROUP_BYTES)
        self._swarm.succeeded(member, size - made.given, waited + worked)
        # What the link takes is at most what it took for these few bytes, delays included.
        plain = size * waited / max(received, 1)
        if not self._always and plain < waited + worked:
            self.on = False
        return made

    def _able(self, chunks: Sequence[Want]) -> list[Member]:
        """Who can be asked now, the best first."""
        digests = {want.job.digest for want in chunks}
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

    async def _work(self, work: Callable[[], T]) -> T:
        working = asyncio.get_running_loop().run_in_executor(self._disk, work)
        return await to_its_end(working, stop=self._local.stop)


def _some(left: Iterator[Gap]) -> list[Gap]:
    """The next of them, as many as are put together at once."""
    group: list[Gap] = []
    size = old = 0
    for gap in left:
        group.append(gap)
        size += gap.size
        old += len(gap.old)
        if size >= GROUP_BYTES or old >= OLD_MAX or len(group) >= GROUP_GAPS:
            break
    return group


def _fitting(chunks: Sequence[Want], room: int) -> list[Want]:
    """As many, from the first on, as one request and ``room`` bytes have place for."""
    made: list[Want] = []
    rows = size = 0
    for want in chunks:
        rows += len(want.spans)
        size += want.size
        if rows > BATCH_ROWS_MAX or size > min(room, BATCH_BYTES_MAX):
            break
        made.append(want)
    return made


def _compare(
    group: Sequence[Gap], chunks: Sequence[Want], rows: Sequence[list[Block] | None]
) -> tuple[Match, list[_Known]]:
    """What old content has, and what is to be asked for of each chunk; within what one request may ask."""
    match = Match([gap.old for gap in group])
    known: list[_Known] = []
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


def _put(
    match: Match, known: Sequence[_Known], rows: Sequence[memoryview | None], arena: memoryview, position: int
) -> Matched:
    """Put chunks together from ``position`` of the arena on; those that are right count."""
    pieces: list[Piece] = []
    given = wrong = at = 0
    for want, blocks, literals in known:
        mine = rows[at : at + len(literals)]
        at += len(literals)
        came = [row for row in mine if row is not None]
        if len(came) < len(literals):
            continue
        left = iter(came)
        end, old = position, 0
        for span, each in zip(want.spans, blocks, strict=True):
            old += match.put(each, left, arena[end : end + span.length])
            end += span.length
        if is_right(want, arena[position:end]):
            pieces.append(Piece(want.job, want.number, position, end - position))
            position = end
            given += old
        else:
            wrong += 1
    return Matched(pieces, given, wrong)

"""What an older version of a file has where chunks of the new one are missing, and what of these chunks it
can give: pure, but for the reading of the old file.

Between two chunks that both versions have, the bytes of the one stand where the bytes of the other do. Both
are cut into small blocks at the same kinds of places (``chunking.BlockCutter``), and blocks with the same
hash are taken for the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from p2psync.chunking import BlockCutter
from p2psync.format.ids import chunk_id
from p2psync.sources.source import Span
from p2psync.sources.wire import BATCH_ROW_MAX, Block
from p2psync.supply.jobs import Job, Part
from p2psync.supply.local import LocalChunks

OLD_MAX: Final = 8 << 20
"""Bytes of old content that are looked at together."""
SLACK: Final = 1 << 20
"""Bytes by which old content may have moved within a gap that is longer than is looked at."""

K = TypeVar("K")


class Gap(NamedTuple):
    """Missing chunks ``first`` to ``last`` (exclusive) of a job, and the old bytes that stand there."""

    job: Job
    first: int
    last: int
    old: bytes

    @property
    def size(self) -> int:
        """Bytes that are missing."""
        begin, end = self.job.bounds(self.first, self.last)
        return end - begin


class Chunk(NamedTuple):
    """A chunk of a job."""

    job: Job
    number: int


class Want(NamedTuple, Generic[K]):
    """What is to be put together."""

    key: K
    """Whatever tells the caller what it is."""
    digest: bytes
    """Its hash."""
    spans: list[Span]
    """The pieces by which it is asked for."""

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(span.length for span in self.spans)


def gaps(
    local: LocalChunks, job: Job, path: bytes, size: int, old_max: int = OLD_MAX, slack: int = SLACK
) -> Iterator[Gap]:
    """The missing chunks of a job that replaces the file at ``path``, at most ``size`` bytes (but one chunk)
    in each gap, with ``old_max`` bytes of the old file at most, which may have moved by ``slack``. Blocks.
    """
    fd = local.open_old(path)
    if fd is None:
        return
    try:
        length = os.fstat(fd).st_size
        for part in job.parts():
            begin, end = 0, length
            if part.first:
                at = local.where(path, job.recipe.chunk(part.first - 1)[0])
                begin = 0 if at is None else at + job.recipe.chunk(part.first - 1)[1]
            if part.last < job.chunks:
                at = local.where(path, job.recipe.chunk(part.last)[0])
                end = length if at is None else at
            start = part.offset
            rest: Part | None = part
            while rest is not None:
                some, rest = rest.split(size)
                low, high = begin, end
                if end - begin > old_max:
                    low = max(begin, begin + some.offset - start - slack)
                    high = min(end, low + some.size + 2 * slack)
                if low < high:
                    yield Gap(job, some.first, some.last, os.pread(fd, min(high - low, old_max), low))
    except OSError:
        return
    finally:
        os.close(fd)


def wants(gap: Gap) -> Iterator[Want[Chunk]]:
    """What is asked for."""
    for index in range(gap.first, gap.last):
        if gap.job.has(index):
            continue
        begin, end = gap.job.bounds(index, index + 1)
        digest, _ = gap.job.recipe.chunk(index)
        yield Want(Chunk(gap.job, index), digest, spans_of(gap.job.digest, begin, end))


def spans_of(digest: bytes, begin: int, end: int) -> list[Span]:
    """A part of an object, as rows of a batch can have it."""
    starts = range(begin, end, BATCH_ROW_MAX)
    return [Span(digest, start, min(BATCH_ROW_MAX, end - start)) for start in starts]


class Match:
    """What old content has of some chunks, by their blocks."""

    def __init__(self, old: Sequence[bytes]) -> None:
        cutter = BlockCutter()
        self._known: dict[bytes, memoryview] = {}
        for each in old:
            view = memoryview(each)
            position = 0
            for digest, length in cutter.cut(view):
                self._known[digest] = view[position : position + length]
                position += length

    def literals(self, span: Span, blocks: Sequence[Block]) -> list[Span]:
        """The parts of a span that old content does not have; neighbours are one."""
        made: list[Span] = []
        position = span.offset
        for digest, length in blocks:
            known = self._known.get(digest)
            if known is None or len(known) != length:
                if made and made[-1].offset + made[-1].length == position:
                    made[-1] = made[-1]._replace(length=made[-1].length + length)
                else:
                    made.append(Span(span.digest, position, length))
            position += length
        return made

    def put(self, blocks: Sequence[Block], literals: Iterator[memoryview], place: memoryview) -> int:
        """Put a span together in ``place``, which is as long; ``literals``: those that `literals` has named,
        in order. Returns how many bytes old content gave.
        """
        literal = memoryview(b"")
        position = given = 0
        for digest, length in blocks:
            known = self._known.get(digest)
            if known is None or len(known) != length:
                literal = literal or next(literals)
                known, literal = literal[:length], literal[length:]
            else:
                given += length
            place[position : position + length] = known
            position += length
        return given


def is_right(want: Want[K], place: memoryview) -> bool:
    """Whether what was put together is what was wanted."""
    return chunk_id(place) == want.digest

"""Missing chunks of files of which an older version is here: in parts that are put together at once
(``by_blocks``), some hundred small files or some MiB of a large one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Final, NamedTuple, TypeVar

from p2psync.state.off_loop import to_its_end
from p2psync.supply.by_blocks import ByBlocks
from p2psync.supply.jobs import Job
from p2psync.supply.lease import Lease, Piece
from p2psync.supply.local import LocalChunks
from p2psync.supply.older import OLD_MAX, Gap, gaps, wants

FILE_MIN: Final = 1 << 10
"""Bytes of a file from which on it is worth a look at its old version."""
GROUP_BYTES: Final = 4 << 20
"""Missing bytes that are put together at once, at most: two round trips cost little beside them, and they are
held. Half of it is enough to begin.
"""
GROUP_GAPS: Final = 1024
PROBED_MIN: Final = 1 << 20
PROBE_BYTES: Final = 128 << 10
"""Bytes of a file from which on its beginning is tried alone first, and how much that is: cutting large files
into blocks is work for both ends, and in vain where all is new.
"""

T = TypeVar("T")


class Matched(NamedTuple):
    """What one turn has put together."""

    pieces: list[Piece]
    given: int
    """Bytes of them that old content gave."""


class Matching:
    """Of one download. Lives in the event loop; old files are read by ``disk``, an executor of one thread."""

    def __init__(
        self, by_blocks: ByBlocks, local: LocalChunks, disk: ThreadPoolExecutor, arena: memoryview
    ) -> None:
        self._by_blocks = by_blocks
        self._local = local
        self._disk = disk
        self._arena = arena
        self._useless: set[bytes] = set()
        """Digests of files of which their older versions have next to nothing."""

    @property
    def on(self) -> bool:
        """Whether it is worth while, as far as is known."""
        return self._by_blocks.on

    def takes(self, path: bytes, size: int, replaces: bool) -> bool:
        """Whether there is something for a file of ``size`` bytes that comes to ``path`` to be compared with;
        ``replaces``: an older one stands there.
        """
        return self.on and size >= FILE_MIN and (replaces or self._local.namesake(path) is not None)

    async def groups(self, jobs: Sequence[Job]) -> AsyncIterator[list[Gap]]:
        """What is missing of some jobs, beside the older content that stands there, in parts that are put
        together at once.
        """
        for probing in (True, False):
            left = self._gaps(jobs, probing=probing)
            while self.on and (group := await self._work(partial(_some, left))):
                yield group

    def _gaps(self, jobs: Sequence[Job], *, probing: bool) -> Iterator[Gap]:
        """``probing``: the beginnings alone of large files that have no chunk in common with their older
        versions, which may be others altogether.
        """
        for job in jobs:
            old = self._older(job)
            if old is None or not job.left or job.size < FILE_MIN:
                continue
            if probing and (job.size < PROBED_MIN or job.left < job.chunks):
                continue
            found = (
                gaps(self._local, job, old, PROBE_BYTES, 4 * PROBE_BYTES, PROBE_BYTES)
                if probing
                else gaps(self._local, job, old, GROUP_BYTES // 2)
            )
            for gap in found:
                if job.digest in self._useless:
                    break
                yield gap
                if probing:
                    break

    def _older(self, job: Job) -> bytes | None:
        """The path of an old file that may be an older version."""
        replaced = (target.path for target in job.targets if target.replaces)
        namesakes = (self._local.namesake(target.path) for target in job.targets)
        return next(chain(replaced, filter(None, namesakes)), None)

    async def fill(self, group: Sequence[Gap], lease: Lease) -> Matched:
        """Put together in ``lease`` as much of the missing chunks as can be."""
        begin, size = lease.extent
        wanted = [want for gap in group for want in wants(gap)]
        made = await self._by_blocks.make(
            [gap.old for gap in group], wanted, self._arena[begin : begin + size]
        )
        self._useless |= made.useless
        pieces = [
            Piece(want.key.job, want.key.number, begin + position, want.size)
            for want, position in made.chunks
        ]
        return Matched(pieces, made.given)

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
        if size >= GROUP_BYTES // 2 or old >= OLD_MAX or len(group) >= GROUP_GAPS:
            break
    return group

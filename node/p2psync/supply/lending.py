"""Chunks that different files have in common: of those that are fetched soon after each other, the first file
that has a chunk lends it to the others, so that it comes once. Versions of one image or dump lie side by side
in an archive, so looking back some way finds most of it. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from p2psync.supply.jobs import Job

KEPT_CHUNKS: Final = 1 << 17
"""Chunks of earlier objects that are looked at: of 2 GiB in the finest cut, of 16 images of 8 GiB and more;
some 5 MiB of recipes.
"""
LENDING_MIN: Final = 256 << 10
"""Bytes of the smallest object that lends or borrows. Below, chunks in common are a few ten kilobytes, and
looking for them takes a twelfth of the interpreter's time in a fetch of 20,000 small files.
"""


class Lenders:
    """Who can lend what to whom. Used from one thread at a time."""

    def __init__(self) -> None:
        self._recent: deque[Job] = deque()
        self._chunks = 0
        self._lent: dict[Job, dict[bytes, int]] = {}

    def find(self, jobs: Sequence[Job]) -> dict[Job, set[Job]]:
        """For each of the next jobs, of several chunks each, those before it that have a chunk of it."""
        everyone = [*self._recent, *jobs]
        found = self._compare(everyone, len(self._recent))
        self._recent.extend(jobs)
        self._chunks += sum(job.chunks for job in jobs)
        while self._chunks > KEPT_CHUNKS:
            self._chunks -= self._recent.popleft().chunks
        return found

    def _compare(self, jobs: Sequence[Job], first: int) -> dict[Job, set[Job]]:
        """By 32 bits of the ids what may be the same, nearly always nothing; then by all of them."""
        seen: set[int] = set()
        again: set[int] = set()
        for job in jobs:
            words = set(job.recipe.words())
            again |= seen & words
            seen |= words
        found: dict[Job, set[Job]] = {}
        owners: dict[bytes, tuple[Job, int]] = {}
        for number, job in enumerate(jobs) if again else ():
            for index, word in enumerate(job.recipe.words()):
                if word in again:
                    digest = job.recipe.chunk(index)[0]
                    owner, at = owners.setdefault(digest, (job, index))
                    if number >= first and owner is not job:
                        found.setdefault(job, set()).add(owner)
                        self._lent.setdefault(owner, {})[digest] = owner.recipe.offsets[at]
        return found

    def lent(self, job: Job) -> dict[bytes, int]:
        """What a job is to lend, digest and offset, each told once."""
        return self._lent.pop(job, {})

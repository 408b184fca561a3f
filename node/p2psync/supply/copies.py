"""Chunks that their object has several times, such as the zeros of a disk image, and where they are still
to be written. Pure.

They come once, and may stand for much more than ever came. So they are written in some places at a time: the
writer is not kept for long, and whoever stops a fetch does not wait for all of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from p2psync.supply.jobs import Job
from p2psync.supply.lease import Lease, Piece

COPIES_BYTES: Final = 32 << 20
"""Bytes that are written from one chunk in one go: some ten milliseconds."""


class Copies:
    """What is still to be copied, by job."""

    def __init__(self) -> None:
        self._waiting: dict[Job, deque[tuple[Piece, int, Lease]]] = {}
        """Pieces, each with how many of its copies were begun."""

    def __contains__(self, job: Job) -> bool:
        return job in self._waiting

    def add(self, job: Job, pieces: Iterable[Piece], lease: Lease) -> None:
        """Pieces of ``job`` that lie in ``lease``, which is needed until their copies have been begun."""
        for piece in pieces:
            lease.uses += 1
            self._waiting.setdefault(job, deque()).append((piece, 0, lease))

    def next(self, job: Job) -> tuple[Piece, Sequence[int], Lease] | None:
        """A piece and the chunks to write it to, next; None where nothing is left, and the job is forgotten.

        The lease has a use more for whoever takes them.
        """
        waiting = self._waiting[job]
        while waiting:
            piece, done, lease = waiting.popleft()
            some = job.copies(piece.number)[done : done + max(COPIES_BYTES // piece.length, 1)]
            if some:
                lease.uses += 1
                waiting.appendleft((piece, done + len(some), lease))
                return piece, some, lease
            lease.done()
        del self._waiting[job]
        return None

    def drop(self, job: Job) -> None:
        """Nothing more is copied for ``job``."""
        for _, _, lease in self._waiting[job]:
            lease.done()
        self._waiting[job].clear()

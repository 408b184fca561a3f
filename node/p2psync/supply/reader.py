"""Bytes that are on this machine already, read into the arena and verified like any others.

Blocks; run in one thread at a time, beside the event loop. Where old content lies is ``local``'s to know.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Final, NamedTuple

from p2psync.format.ids import chunk_id
from p2psync.format.reserved import PARTIAL
from p2psync.supply.jobs import Job
from p2psync.supply.lease import Piece
from p2psync.supply.local import LocalChunks
from p2psync.tree.beneath import Beneath

CHUNKS_AT_ONCE: Final = 8192
"""Chunks that are looked for without a break: some ten milliseconds where nothing is found."""


class Wanted(NamedTuple):
    """A chunk of a job that may be here."""

    job: Job
    number: int


class Filled(NamedTuple):
    """What one turn of reading found."""

    pieces: list[Piece]
    looked_at: int
    """Of the chunks that were asked for, how many were looked for; the extent was full before the next
    one.
    """


class LocalReader:
    """Reads chunks of old content. Used from one thread at a time."""

    def __init__(self, local: LocalChunks, beneath: Beneath) -> None:
        self._local = local
        self._beneath = beneath
        self._job: Job | None = None
        self._fd: int | None = None

    def close(self) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._job, self._fd = None, None

    def leftovers(self, job: Job) -> list[int]:
        """Chunks that the unfinished file of ``job`` holds since an earlier run: each is read and
        verified.
        """
        if not job.kept:
            return []
        try:
            fd = self._beneath.open_file(PARTIAL, job.digest.hex().encode())
        except OSError:
            return []
        try:
            there = os.fstat(fd)
            if (there.st_size, there.st_ino) != (job.size, job.ino):
                return []  # Another one than the writer has: its chunks are not in that.
            offsets = job.recipe.offsets
            found: list[int] = []
            for index, (digest, length) in enumerate(job.recipe):
                if self._local.stopped:
                    break
                if is_hole(fd, offsets[index], length):
                    continue
                data = os.pread(fd, length, offsets[index])
                if len(data) == length and chunk_id(data) == digest:
                    found.append(index)
            return found
        except OSError:
            return []
        finally:
            os.close(fd)

    def read(self, wanted: Sequence[Wanted], view: memoryview, begin: int) -> Filled:
        """Read as many of the chunks as are here and fit into ``view``, which begins at ``begin`` in the
        arena.
        """
        pieces: list[Piece] = []
        position = 0
        looked_at = 0
        for job, index in wanted[:CHUNKS_AT_ONCE]:
            if self._local.stopped:
                break
            digest, length = job.recipe.chunk(index)
            if position + length > len(view):
                break
            looked_at += 1
            place = view[position : position + length]
            if self._whole(job, job.bounds(index, index + 1)[0], place, digest) or self._local.read(
                digest, place
            ):
                pieces.append(Piece(job, index, begin + position, length))
                position += length
        return Filled(pieces, looked_at)

    def _whole(self, job: Job, offset: int, place: memoryview, digest: bytes) -> bool:
        """Whether a file that should be the same object gave the chunk."""
        if job is not self._job:
            self._leave()
            self._job, self._fd = job, self._local.whole(job.ref)
        if self._fd is None:
            return False
        try:
            return os.preadv(self._fd, [place], offset) == len(place) and chunk_id(place) == digest
        except OSError:
            return False


def is_hole(fd: int, offset: int, length: int) -> bool:
    """Whether the file system knows that nothing was ever written there (lseek(2), SEEK_DATA)."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA) >= offset + length
    except OSError as error:
        return error.errno == errno.ENXIO

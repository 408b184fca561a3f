"""Reading and hashing files: content -> reference and recipe, from a file that others may be writing to.

Never by mmap: a file that somebody truncates would kill the process (SIGBUS). Bytes are read into buffers
that each thread reuses. The attributes are compared before and after; a file that changed meanwhile is read
again, and one that does nothing but grow is taken as it was at one moment.

A large file is cut by several threads at once. Cut points depend only on the bytes from the last cut point
on, so a thread that begins in the middle of a file falls into step with the true sequence as soon as the
two meet in one cut point; the few chunks before that are made again by the thread that joins the ranges.
The result is that of one pass.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Final, NamedTuple

from p2psync.chunking import Chunker, average_for
from p2psync.format.ids import EMPTY, Ref, chunk_id
from p2psync.format.limits import CHUNK_MAX, OBJECT_BYTES_MAX, SINGLE_CHUNK_MAX
from p2psync.format.recipe import FASTCDC_2020, Recipe
from p2psync.tree.scan import Found

WORKERS: Final = min(2, os.cpu_count() or 1)  # cutting and hashing outruns most disks with two
# Bytes cut at a time, beside one chunk of overlap. Small, so that what was read is still in the processor's
# cache when it is cut and hashed: with 8 MiB a file of 1 GiB takes three times as long.
BLOCK: Final = 2 << 20
# Files up to this size are hashed by the walk itself, or by a process: handing one to a thread costs more
# than it saves, since two threads that make many short system calls wait for each other (20,000 files of 25
# KB: 0.83 s inline, 1.2 s with threads).
INLINE_MAX: Final = 1 << 20
SPLIT_OVER: Final = 32 << 20  # larger files are cut by several threads
RANGE: Final = 32 << 20  # bytes of each part of such a file
REREADS: Final = 2  # how often a file that changes while it is read is begun again

_ROW: Final = struct.Struct(">32sI")


class Content(NamedTuple):
    """What was read: the file's attributes then, the reference, the encoded recipe where there are several
    chunks, when the reading began (Unix ns), and how many bytes were read, all attempts together.
    """

    found: Found
    ref: Ref
    recipe: bytes | None
    hashed_ns: int
    read_bytes: int


class Truncated(Exception):
    """The file ended before its size."""


class KeptChanging(Exception):
    """The file changed during each attempt to read it, or is no regular file any more."""

    def __init__(self, read_bytes: int) -> None:
        super().__init__()
        self.read_bytes = read_bytes


class TooLarge(Exception):
    """The file is larger than any object may be."""


class _Local(threading.local):
    """What each thread reuses: a buffer and the chunkers of the size classes that it met."""

    def __init__(self) -> None:
        self.chunkers: dict[int, Chunker] = {}
        self._buffer: memoryview | None = None

    @property
    def buffer(self) -> memoryview:
        if self._buffer is None:
            self._buffer = memoryview(bytearray(BLOCK + CHUNK_MAX))
        return self._buffer

    def chunker(self, size: int) -> Chunker:
        average = average_for(size)
        if average not in self.chunkers:
            self.chunkers[average] = Chunker(size)
        return self.chunkers[average]


_local: Final = _Local()


def read_stable(fd: int, listed: Found, content: Callable[[int, int], tuple[Ref, bytes | None]]) -> Content:
    """Read a file with `content(fd, size)` until its attributes are the same before and after.

    `listed` is what the walk saw of it. Of a file that grows all the time, as logs do, counts what it was
    at one moment: its attributes when the last reading began, and what it held up to the size that it had
    then. If that is read a second time with the same result, it was all there when the first of the two
    readings ended. Raises KeptChanging, TooLarge, OSError.
    """
    read_bytes = 0
    before = listed
    last: Content | None = None
    for _ in range(1 + REREADS):
        if not before.is_file:
            raise KeptChanging(read_bytes)
        if before.size > OBJECT_BYTES_MAX:
            raise TooLarge
        began = time.time_ns()
        read_bytes += before.size
        made = _read_whole(fd, before.size, content)
        after = Found.of(listed.name, os.fstat(fd))
        last = None if made is None else Content(before, *made, began, read_bytes)
        if last is not None and after == before:
            return last
        before = after
    if last is None or before.size < last.found.size:
        raise KeptChanging(read_bytes)
    read_bytes += last.found.size
    again = _read_whole(fd, last.found.size, content)
    if again is None or again[0] != last.ref:
        raise KeptChanging(read_bytes)
    return last._replace(read_bytes=read_bytes)


def _read_whole(
    fd: int, size: int, content: Callable[[int, int], tuple[Ref, bytes | None]]
) -> tuple[Ref, bytes | None] | None:
    """What `content` makes of a file; None if it ends before this size."""
    try:
        return content(fd, size)
    except Truncated:
        return None


def hash_file(fd: int, size: int) -> tuple[Ref, bytes | None]:
    """Reference and recipe of a file's content, read in this thread. Raises Truncated, OSError."""
    if size <= SINGLE_CHUNK_MAX:
        return _hash_small(fd, size), None
    return _finish(cut_range(fd, 0, size, size))


def cut_as(fd: int, size: int, wanted: int) -> Recipe:
    """How a file of ``size`` bytes would be cut if it had ``wanted`` bytes (more than one chunk has), read
    in this thread. Raises Truncated, OSError.
    """
    return Recipe(FASTCDC_2020, cut_range(fd, 0, size, size, _local.chunker(wanted)))


def hash_large(
    fd: int, size: int, pool: Executor, progress: Callable[[int], None] | None = None
) -> tuple[Ref, bytes | None]:
    """As `hash_file`, with the work spread over a pool of threads; `progress` hears of the bytes done."""
    starts = deque(range(0, size, RANGE))
    running: deque[tuple[int, Future[bytes]]] = deque()
    rows = bytearray()
    position = 0  # all before this is cut as in one pass
    try:
        while starts or running:
            while starts and len(running) <= WORKERS:
                start = starts.popleft()
                running.append((start, pool.submit(cut_range, fd, start, min(start + RANGE, size), size)))
            start, future = running.popleft()
            part = future.result()
            position = _join(rows, position, start, part, fd, size)
            if progress is not None:
                progress(min(start + RANGE, size) - start)
    finally:
        for _, future in running:
            future.cancel()
        for _, future in running:
            if not future.cancelled():
                future.exception()  # they read from `fd`, which the caller closes
    return _finish(bytes(rows))


def cut_range(fd: int, start: int, end: int, size: int, chunker: Chunker | None = None) -> bytes:
    """Rows (id, length) of the chunks of a file from a cut point at `start` on, to the first that ends at
    or after `end`. `size` is that of the whole file; `chunker` is one for that size where none is given.
    Raises Truncated, OSError.
    """
    buffer = _local.buffer
    chunker = chunker or _local.chunker(size)
    rows: list[bytes] = []
    position = start  # of the next chunk in the file
    held = 0  # bytes from there on that are in the buffer already
    while position < end:
        wanted = min(BLOCK, end - position) + chunker.max_chunk
        wanted = min(wanted, size - position)
        _fill(fd, buffer[held:wanted], position + held)
        last = position + wanted == size
        at = 0
        # A chunk is cut right if the longest possible one fits, or nothing follows the buffer.
        for length in chunker.cut(buffer[:wanted]):
            if position + at >= end or (not last and wanted - at < chunker.max_chunk):
                break
            rows.append(_ROW.pack(chunk_id(buffer[at : at + length]), length))
            at += length
        held = wanted - at
        position += at
        if position < end:
            buffer[:held] = buffer[at:wanted]  # they may overlap: memoryview moves, as memmove(3)
    return b"".join(rows)


def _join(rows: bytearray, position: int, start: int, part: bytes, fd: int, size: int) -> int:
    """Append to `rows`, which cover the file up to `position`, what `part` (from `start` on) adds; the new
    position.
    """
    cut = start
    at = 0
    while position != cut:
        if position < cut:
            # Out of step: the part never cut here. Make the next chunk of the true sequence.
            row = cut_range(fd, position, position + 1, size)
            rows += row
            position += int(_ROW.unpack(row)[1])
        elif at < len(part):
            cut += int(_ROW.unpack_from(part, at)[1])
            at += _ROW.size
        else:
            return position
    rows += part[at:]
    return position + sum(int(length) for _, length in _ROW.iter_unpack(part[at:]))


def _finish(rows: bytes) -> tuple[Ref, bytes | None]:
    recipe = Recipe(FASTCDC_2020, rows)
    return recipe.ref(), recipe.encode()


def _hash_small(fd: int, size: int) -> Ref:
    if not size:
        return EMPTY
    data = os.pread(fd, size, 0)
    while len(data) < size:
        more = os.pread(fd, size - len(data), len(data))
        if not more:
            raise Truncated
        data += more
    return Ref(size, chunk_id(data))


def _fill(fd: int, view: memoryview, offset: int) -> None:
    while view.nbytes:
        count = os.preadv(fd, [view], offset)
        if not count:
            raise Truncated
        view = view[count:]
        offset += count


def read_exactly(fd: int, offset: int, length: int) -> memoryview:
    """Up to CHUNK_MAX bytes of a file, in this thread's buffer: valid until its next call. Raises
    Truncated, OSError.
    """
    view = _local.buffer[:length]
    _fill(fd, view, offset)
    return view


def make_pool() -> ThreadPoolExecutor:
    """Threads for `hash_large` and for files that are hashed beside the walk."""
    return ThreadPoolExecutor(WORKERS, thread_name_prefix="ingest")

"""Where content is cut into chunks: a pure function of the content and its size.

FastCDC 2020 (Xia et al., "The Design of Fast Content-Defined Chunking", IEEE TPDS 2020) with normalisation 2,
minimum avg/4 and maximum 4·avg. The average grows with the size of the object, so that a recipe stays near
8,000 chunks. The library is behind this adapter; golden cut points in the tests hold it to its behaviour.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from blake3 import blake3

from p2psync.format.ids import EMPTY, Ref, chunk_id
from p2psync.format.limits import SINGLE_CHUNK_MAX
from p2psync.format.recipe import Recipe

AVERAGE_MIN: Final = 16 << 10
AVERAGE_MAX: Final = 1 << 20
CHUNKS_WANTED: Final = 8192
"""The average chunk is the size divided by this, rounded up to a power of two, within the two bounds
above.
"""

BLOCK_AVERAGE: Final = 512
BLOCK_MIN: Final = BLOCK_AVERAGE // 4
"""Bytes of a block, but for the last one."""
BLOCK_MAX: Final = 4 * BLOCK_AVERAGE
BLOCK_HASH_SIZE: Final = 6
"""Bytes: of a hundred thousand old blocks and ten thousand new ones, two that differ look the same once in
280,000 times.
"""


def average_for(size: int) -> int:
    """The average chunk size, in bytes, for an object of ``size`` bytes."""
    wanted = -(-size // CHUNKS_WANTED)
    return min(max(1 << (wanted - 1).bit_length() if wanted > 1 else 1, AVERAGE_MIN), AVERAGE_MAX)


def cut_alike(size: int, other: int) -> bool:
    """Whether what objects of these sizes (in bytes) have in common is cut into the same chunks."""
    if min(size, other) <= SINGLE_CHUNK_MAX:
        return max(size, other) <= SINGLE_CHUNK_MAX
    return average_for(size) == average_for(other)


class BlockCutter:
    """Cuts content into blocks that are much smaller than chunks, by which two versions of a chunk are
    compared. Keep one per thread.
    """

    def __init__(self) -> None:
        from pyfastcdc import FastCDC  # noqa: PLC0415

        self._cdc = FastCDC(BLOCK_AVERAGE, min_size=BLOCK_MIN, max_size=BLOCK_MAX, normalized_chunking=2)

    def cut(self, data: memoryview) -> list[tuple[bytes, int]]:
        """(hash, length) of each block of ``data``, in order."""
        blocks: list[tuple[bytes, int]] = []
        position = 0
        for found in self._cdc.cut_buf(data):
            end = position + found.length
            blocks.append((block_hash(data[position:end]), found.length))
            position = end
        return blocks


def block_hash(data: bytes | memoryview) -> bytes:
    """The first 48 bits of the hash of a block: a hint, as what is put together by it is verified whole."""
    return blake3(data).digest(BLOCK_HASH_SIZE)


class Chunker:
    """Cuts objects of one size class. Keep one per thread: the library's object is not safe to share."""

    def __init__(self, size: int) -> None:
        """For objects of ``size`` bytes."""
        average = average_for(size)
        self.max_chunk = average * 4
        """No chunk is longer: a cut depends on at most this many bytes from where its chunk begins."""
        # Loaded by the first object that is cut: most are one chunk, and many a command cuts none.
        from pyfastcdc import FastCDC  # noqa: PLC0415

        self._cdc = FastCDC(average, min_size=average // 4, max_size=average * 4, normalized_chunking=2)

    def cut(self, data: memoryview) -> Iterator[int]:
        """Lengths of the chunks of ``data``, taken to be the whole rest of the object.

        Of a part of an object, each length is right whose chunk begins at least ``max_chunk`` bytes before
        the part's end.
        """
        for chunk in self._cdc.cut_buf(data):
            yield chunk.length


def cut_object(data: bytes | memoryview) -> tuple[Ref, Recipe]:
    """Reference and recipe of an object that is in memory (a listing, a snapshot, a small file)."""
    view = memoryview(data)
    if not view.nbytes:
        return EMPTY, Recipe.single(EMPTY)
    if view.nbytes <= SINGLE_CHUNK_MAX:
        ref = Ref(view.nbytes, chunk_id(view))
        return ref, Recipe.single(ref)
    chunks: list[tuple[bytes, int]] = []
    position = 0
    for length in Chunker(view.nbytes).cut(view):
        chunks.append((chunk_id(view[position : position + length]), length))
        position += length
    recipe = Recipe.of(chunks)
    return recipe.ref(), recipe

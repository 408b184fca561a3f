"""Random chunks of a snapshot, to check holders with: of files by chance, of bytes by chance, and some of
each directory at the root, since a holder may have a part of the archive.

Listings are read a piece at a time, and of these only such as something is drawn from: how large the archive
is does not matter.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from p2psync.checks import PARTS_MAX
from p2psync.content.browse import snapshot_root
from p2psync.content.objects import Objects
from p2psync.errors import P2psyncError
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry, Kind
from p2psync.format.paths import join
from p2psync.format.recipe import Recipe
from p2psync.state import State

BY_FILES: Final = 32
BY_BYTES: Final = 32
"""Chunks that are drawn of each kind. A check takes a few of them, and nobody knows which."""
RUN_BYTES: Final = 512 << 10
"""Bytes in a row from a chunk that was drawn by bytes on, to measure a rate by: half a second at 10 Mbit/s.
"""

Chunk = tuple[int, int, bytes]
"""Where it begins in its object, how long it is, and its id."""


class Sample(NamedTuple):
    """A chunk that was drawn, and those behind it, perhaps."""

    path: bytes
    """Of the file, in the archive."""
    ref: Ref
    chunks: tuple[Chunk, ...]

    @property
    def part(self) -> bytes:
        """The name at the root of the archive that it is below, or is."""
        return self.path.partition(b"/")[0]

    @property
    def length(self) -> int:
        """Bytes of its chunks."""
        return sum(length for _, length, _ in self.chunks)


class Samples(NamedTuple):
    """What was drawn of one snapshot, in no order."""

    snapshot: Ref
    anywhere: list[Sample]
    parts: list[Sample]
    """One of each of up to ``PARTS_MAX`` directories at the root."""


class _Draw(NamedTuple):
    """Something to be found below a directory: the file, or the byte, with this number."""

    number: int
    by_bytes: bool
    of_part: bool


def draw(state: State, snapshot: Ref, chance: random.Random) -> Samples | None:
    """Draw samples; None where the snapshot, or a listing of it, is not here (any more). Blocks."""
    objects = Objects(state.meta, state.path)
    try:
        root = snapshot_root(state, snapshot)
        if root is None:
            return None
        drawn: list[_Draw] = []
        if root.totals.files:
            drawn += [_Draw(chance.randrange(root.totals.files), False, False) for _ in range(BY_FILES)]
        if root.totals.bytes:
            drawn += [_Draw(chance.randrange(root.totals.bytes), True, False) for _ in range(BY_BYTES)]
        made = Samples(snapshot, [], [])
        for of_part, sample in _found(state, objects, root, drawn, chance):
            (made.parts if of_part else made.anywhere).append(sample)
        chance.shuffle(made.anywhere)
        return made
    except (LookupError, P2psyncError):
        return None
    finally:
        objects.close()


def _found(
    state: State, objects: Objects, root: Entry, drawn: Sequence[_Draw], chance: random.Random
) -> Iterator[tuple[bool, Sample]]:
    """The samples, and whether each is one of a directory at the root."""
    left: list[tuple[bytes, Entry, list[_Draw]]] = [(b"", root, [*drawn])]
    while left:
        path, directory, wanted = left.pop()
        if not path:
            parts = _some_directories(objects, directory, chance)
            left += [
                (each.name, each, [_Draw(chance.randrange(each.totals.bytes), True, True)]) for each in parts
            ]
        files = sorted(each for each in wanted if not each.by_bytes)
        bytes_ = sorted(each for each in wanted if each.by_bytes)
        file_at = byte_at = 0
        for entry in _entries(objects, directory):
            below = entry.below
            mine = _between(files, file_at, below.files) + _between(bytes_, byte_at, below.bytes)
            file_at, byte_at = file_at + below.files, byte_at + below.bytes
            where = join(path, entry.name)
            if mine and entry.kind is Kind.DIR:
                left.append((where, entry, mine))
            elif entry.size and entry.kind is Kind.FILE:
                for each in mine:
                    sample = _sample(state, where, entry.ref, each, chance)
                    if sample is not None:
                        yield each.of_part, sample


def _between(drawn: Sequence[_Draw], begin: int, count: int) -> list[_Draw]:
    """Those that are among the ``count`` files or bytes from ``begin`` on, counted from there."""
    low = bisect_left(drawn, begin, key=lambda each: each.number)
    high = bisect_left(drawn, begin + count, key=lambda each: each.number)
    return [each._replace(number=each.number - begin) for each in drawn[low:high]]


def _some_directories(objects: Objects, root: Entry, chance: random.Random) -> list[Entry]:
    """Up to ``PARTS_MAX`` directories at the root that have content, each with the same chance (Waterman's
    reservoir: Knuth, The Art of Computer Programming, 3.4.2).
    """
    chosen: list[Entry] = []
    seen = 0
    for entry in _entries(objects, root):
        if entry.kind is Kind.DIR and entry.totals.bytes:
            seen += 1
            if len(chosen) < PARTS_MAX:
                chosen.append(entry)
            elif (place := chance.randrange(seen)) < PARTS_MAX:
                chosen[place] = entry
    return chosen


def _entries(objects: Objects, directory: Entry) -> Iterator[Entry]:
    for number in range(objects.catalogue(directory.digest).pieces):
        yield from objects.piece(directory.digest, number)


def _sample(state: State, path: bytes, ref: Ref, drawn: _Draw, chance: random.Random) -> Sample | None:
    """The chunk that was drawn of a file; None if its recipe is not here."""
    recipe = Recipe.single(ref) if ref.is_single else state.meta.read_recipe(ref)
    if recipe is None:
        return None
    offsets = recipe.offsets
    byte = drawn.number if drawn.by_bytes else chance.randrange(ref.size)
    first = bisect_right(offsets, byte) - 1
    last = first + 1
    while drawn.by_bytes and last < len(recipe) and offsets[last + 1] - offsets[first] <= RUN_BYTES:
        last += 1
    chunks = tuple(
        (offsets[number], length, digest)
        for number in range(first, last)
        for digest, length in [recipe.chunk(number)]
    )
    return Sample(path, ref, chunks)

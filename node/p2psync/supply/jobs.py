"""Objects that a fetch is making, the places they are for, and the requests that are cut from them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from p2psync.format.ids import Ref
from p2psync.format.listing import Entry
from p2psync.format.recipe import Recipe
from p2psync.tree.beneath import join


class Target(NamedTuple):
    """A place in DEST."""

    directory: bytes
    entry: Entry
    replaces: bool = False
    """An older file stands there, whose chunks may serve elsewhere."""

    @property
    def path(self) -> bytes:
        return join(self.directory, self.entry.name)


@dataclass(eq=False)
class Job:
    """One object under construction."""

    ref: Ref
    recipe: Recipe
    targets: list[Target]
    fd: int | None = None
    """The unfinished file, of an object of several chunks."""
    data: bytes = b""
    """The bytes, of an object of one chunk."""
    have: bytearray = field(init=False)
    """Bitmap of the chunks that are in place, most significant bit first (BEP 3)."""
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.recipe)
        self.have = bytearray(-(-self.left // 8))

    def has(self, index: int) -> bool:
        return bool(self.have[index >> 3] & (0x80 >> (index & 7)))

    def mark(self, index: int) -> None:
        """Chunk ``index`` is in place, verified."""
        if not self.has(index):
            self.have[index >> 3] |= 0x80 >> (index & 7)
            self.left -= 1

    def missing(self) -> Iterator[int]:
        return (index for index in range(len(self.recipe)) if not self.has(index))

    def parts(self) -> Iterator[Part]:
        """The runs of missing chunks."""
        first: int | None = None
        for index in range(len(self.recipe)):
            if self.has(index):
                if first is not None:
                    yield Part(self, first, index)
                    first = None
            elif first is None:
                first = index
        if first is not None:
            yield Part(self, first, len(self.recipe))


class Part(NamedTuple):
    """Consecutive chunks ``first`` to ``last`` (exclusive) of a job."""

    job: Job
    first: int
    last: int

    @property
    def offset(self) -> int:
        return self.job.recipe.offsets[self.first]

    @property
    def size(self) -> int:
        offsets = self.job.recipe.offsets
        return offsets[self.last] - offsets[self.first]

    def split(self, size: int) -> tuple[Part, Part | None]:
        """The chunks that fit into ``size`` bytes, at least one, and the rest."""
        offsets = self.job.recipe.offsets
        start = offsets[self.first]
        last = self.first + 1
        while last < self.last and offsets[last + 1] - start <= size:
            last += 1
        rest = Part(self.job, last, self.last) if last < self.last else None
        return Part(self.job, self.first, last), rest

    def within(self, held: bytes) -> Part | None:
        """The first run of its chunks that are missing here and set in the bitmap ``held``; None if there is
        none.
        """
        width = 8 * len(held)
        theirs = int.from_bytes(held, "big") & ~int.from_bytes(self.job.have, "big")
        # The part's chunks as a number whose highest bit is the first of them.
        window = theirs >> (width - self.last) & ((1 << (self.last - self.first)) - 1)
        if not window:
            return None
        length = window.bit_length()
        run = length - (~window & ((1 << length) - 1)).bit_length()
        return Part(self.job, self.last - length, self.last - length + run)

    def around(self, inner: Part) -> tuple[list[Part], Part, list[Part]]:
        """What comes before ``inner`` within this part, ``inner``, and what comes after it."""
        before = [Part(self.job, self.first, inner.first)] if self.first < inner.first else []
        after = [Part(self.job, inner.last, self.last)] if inner.last < self.last else []
        return before, inner, after

    def unfinished(self) -> list[Part]:
        """What of this part is still missing (others may have brought some of it)."""
        made: list[Part] = []
        for index in range(self.first, self.last):
            if self.job.has(index):
                continue
            if made and made[-1].last == index:
                made[-1] = Part(self.job, made[-1].first, index + 1)
            else:
                made.append(Part(self.job, index, index + 1))
        return made

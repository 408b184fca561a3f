"""Objects that a fetch is making, the places they are for, and the requests that are cut from them. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from p2psync.format.ids import Ref
from p2psync.format.listing import Entry
from p2psync.format.paths import join
from p2psync.format.recipe import Recipe


class Target(NamedTuple):
    """A place in DEST."""

    directory: bytes
    entry: Entry
    replaces: bool = False
    """An older file stands there, whose chunks may serve elsewhere."""

    @property
    def path(self) -> bytes:
        return join(self.directory, self.entry.name)


class Job:
    """One object under construction."""

    __slots__ = (
        "_copies",
        "_recipe",
        "chunks",
        "digest",
        "have",
        "ino",
        "kept",
        "left",
        "opened",
        "size",
        "targets",
        "written",
    )

    def __init__(self, ref: Ref | Entry, recipe: Recipe | None, targets: list[Target]) -> None:
        """``ref``: what names the object, or a file's entry, which names its content. ``recipe`` None: the
        object is one chunk, and its name says all.
        """
        self.size = ref.size
        self.digest = ref.digest
        self.targets = targets
        self._recipe = recipe
        self.chunks = 1 if recipe is None else len(recipe)
        """How many it has."""
        self.left = self.chunks
        """Chunks that have not come yet."""
        self.have = bytearray(-(-self.left // 8))
        """Bitmap of the chunks that came and were verified, or need not come since they are copies of one
        that is to come; most significant bit first (BEP 3).
        """
        self._copies: dict[int, array[int]] = {}
        self.written: bytearray | None = None
        """The same of those that are in the unfinished file; None for an object that has no such file."""
        self.opened = False
        """Whether the writer was told to open the unfinished file."""
        self.ino = 0
        """Of that file, when it is open; 0 before, and where it could not be opened."""
        self.kept = False
        """Whether an earlier run left it, so that it may hold chunks."""

    @property
    def ref(self) -> Ref:
        return Ref.known(self.size, self.digest)

    @property
    def recipe(self) -> Recipe:
        if self._recipe is None:
            self._recipe = Recipe.single(self.ref)
        return self._recipe

    def bounds(self, first: int, last: int) -> tuple[int, int]:
        """Where chunks ``first`` to ``last`` (exclusive) begin and end in the object, in bytes."""
        if self._recipe is None:
            return 0, self.size
        offsets = self._recipe.offsets
        return offsets[first], offsets[last]

    def has(self, index: int) -> bool:
        return bool(self.have[index >> 3] & (0x80 >> (index & 7)))

    def mark(self, index: int) -> None:
        """Chunk ``index`` came, verified."""
        bit = 0x80 >> (index & 7)
        if not self.have[index >> 3] & bit:
            self.have[index >> 3] |= bit
            self.left -= 1

    def fold(self) -> None:
        """Of the missing chunks that are the same (the zeros of a disk image), only the first is to come."""
        if self._recipe is None:
            return
        firsts: dict[bytes, int] = {}
        for index in self._recipe.repeated():
            if not self.has(index):
                first = firsts.setdefault(self._recipe.chunk(index)[0], index)
                if first != index:
                    self._copies.setdefault(first, array("I")).append(index)
                    self.mark(index)

    def copies(self, index: int) -> Sequence[int]:
        """The chunks that need not come since they are the same as chunk ``index``."""
        return self._copies.get(index, ())

    def missing(self) -> Iterator[int]:
        return (index for index in range(self.chunks) if not self.has(index))

    def parts(self) -> Iterator[Part]:
        """The runs of missing chunks."""
        first: int | None = None
        count = self.chunks
        for index in range(count):
            if self.has(index):
                if first is not None:
                    yield Part(self, first, index)
                    first = None
            elif first is None:
                first = index
        if first is not None:
            yield Part(self, first, count)


class Part(NamedTuple):
    """Consecutive chunks ``first`` to ``last`` (exclusive) of a job."""

    job: Job
    first: int
    last: int

    @property
    def offset(self) -> int:
        """Where it begins in the object, in bytes."""
        return self.job.bounds(self.first, self.last)[0]

    @property
    def size(self) -> int:
        """In bytes."""
        begin, end = self.job.bounds(self.first, self.last)
        return end - begin

    def split(self, size: int) -> tuple[Part, Part | None]:
        """The chunks that fit into ``size`` bytes, at least one, and the rest."""
        if self.last - self.first == 1:
            return self, None
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
        if self.job.left == self.job.chunks:
            return [self]
        made: list[Part] = []
        for index in range(self.first, self.last):
            if self.job.has(index):
                continue
            if made and made[-1].last == index:
                made[-1] = Part(self.job, made[-1].first, index + 1)
            else:
                made.append(Part(self.job, index, index + 1))
        return made

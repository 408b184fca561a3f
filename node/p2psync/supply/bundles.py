"""Small files of one directory that travel together, from the plan to the index. Pure.

Of a tree of small files each is one chunk, wanted in one place, and nowhere on this machine. What a fetch
does for each of them is most of what it costs, so such files have no job of their own: they are asked for,
verified, made and noted by the bundle, column by column. Where anything is different (a source lacks one, its
bytes are wrong, others are asked for the same), a bundle becomes jobs, and goes on as these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate, repeat
from typing import Final

from p2psync.format.limits import SINGLE_CHUNK_MAX
from p2psync.format.listing import Entry
from p2psync.sources.orders import Check
from p2psync.sources.source import Span
from p2psync.state.trees import FileRow
from p2psync.supply.jobs import Job, Target
from p2psync.tree import orders
from p2psync.tree.stamp import Row

# What named tuples' own constructors call, without a call of their own.
_spans: Final = partial(tuple.__new__, Span)
_checks: Final = partial(tuple.__new__, Check)
_files: Final = partial(tuple.__new__, orders.File)
_rows: Final = partial(tuple.__new__, FileRow)
FILE_TYPE: Final = 0o100000
Stamp = tuple[int, int, int, int]
"""Size, mtime in ns, ctime in ns, inode."""


def fits(entry: Entry) -> bool:
    """Whether the file's content may travel in a bundle."""
    return 0 < entry.size <= SINGLE_CHUNK_MAX


class Bundle:
    """Files of one directory, at least one, none of them empty or longer than one chunk."""

    __slots__ = ("digests", "directory", "entries", "modes", "mtimes", "names", "replaces", "size", "sizes")

    def __init__(self, directory: bytes, entries: Sequence[Entry], replaces: Sequence[bool]) -> None:
        """``replaces``: for each, whether an older file stands there."""
        self.directory = directory
        self.entries = entries
        self.replaces = replaces
        self.names, _, self.modes, self.mtimes, self.sizes, self.digests, *_ = zip(*entries, strict=True)
        self.size: int = sum(self.sizes)
        """In bytes."""

    def __len__(self) -> int:
        return len(self.entries)

    def split(self, size: int, count: int) -> tuple[Bundle, Bundle | None]:
        """The files that fit into ``size`` bytes, at least one and ``count`` at most, and the rest."""
        fitting = sum(1 for end in accumulate(self.sizes[:count]) if end <= size)
        first = max(fitting, 1)
        if first == len(self):
            return self, None
        return (
            Bundle(self.directory, self.entries[:first], self.replaces[:first]),
            Bundle(self.directory, self.entries[first:], self.replaces[first:]),
        )

    def spans(self) -> Iterator[Span]:
        """What a source is asked for: each file whole."""
        columns = zip(self.digests, repeat(0), self.sizes, repeat(None), self.sizes, strict=False)
        return map(_spans, columns)

    def checks(self, first: int) -> Iterator[Check]:
        """How the answer is verified; ``first``: the position of the first span in its order."""
        positions = range(first, first + len(self))
        return map(_checks, zip(positions, repeat(0), self.sizes, self.digests, strict=False))

    def files(self, positions: Sequence[int]) -> list[orders.File]:
        """What the writer makes of the bytes at these positions of the arena."""
        columns = zip(self.names, self.modes, self.mtimes, positions, self.sizes, self.replaces, strict=True)
        return list(map(_files, columns))

    def rows(self, stamps: Iterable[Stamp]) -> list[FileRow]:
        """What the index notes of the files that were made."""
        columns = zip(*stamps, strict=True)
        return list(map(_rows, zip(self.names, *columns, self.digests, repeat(0), strict=False)))

    def stamped(self, stamps: Iterable[Stamp]) -> Iterator[Row]:
        """The files as the stamp of their directory has them (``tree.stamp``)."""
        modes = map(FILE_TYPE.__or__, self.modes)
        return zip(self.names, modes, *zip(*stamps, strict=True), strict=True)

    def targets(self) -> list[Target]:
        """Their places, one by one."""
        columns = zip(self.entries, self.replaces, strict=True)
        return [Target(self.directory, entry, replaces) for entry, replaces in columns]

    def jobs(self) -> list[Job]:
        """The same work, file by file."""
        return [Job(target.entry, None, [target]) for target in self.targets()]

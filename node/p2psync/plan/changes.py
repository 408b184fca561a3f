"""What differs between DEST and a snapshot, and why: the values that a comparison makes and the rest of a
fetch carries out, counts or prints. Pure.

Kept small, so that it stays small for large archives: of a directory only the positions of the entries that
need something are kept, with the reason; the entries themselves are read again from its listing when their
turn comes.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise
from typing import Final, NamedTuple

from p2psync.format.ids import Ref
from p2psync.format.listing import NO_TOTALS, Entry, Kind, Totals
from p2psync.format.paths import join

KEY_BYTES: Final = 8


def content_key(digest: bytes) -> int:
    """The first 64 bits of a digest as an ``array`` has them: enough to notice that two may be the same."""
    return int.from_bytes(digest[:KEY_BYTES], sys.byteorder, signed=True)


SORTED_AT_ONCE: Final = 1 << 17
"""Keys that are sorted together: as objects they take five times the memory of the array."""


class Reason(IntEnum):
    """Why a name in DEST is made, changed or removed."""

    MISSING = 0
    """Nothing stands there."""
    KIND = 1
    """Something of another kind stands there."""
    SIZE = 2
    """The size differs."""
    TIME = 3
    """The size is the same, the modification time is not, and nothing is known of the content."""
    CONTENT = 4
    """The content is known, or was read, and differs."""
    ATTRIBUTES = 5
    """The content is right; mode or time is not."""
    TARGET = 6
    """A symbolic link leads elsewhere, or has another time."""
    EXTRANEOUS = 7
    """The snapshot does not have it."""


class Change(NamedTuple):
    """One change of one path."""

    path: bytes
    """Below DEST; b"" is DEST itself."""
    kind: Kind | None
    """What it will be; None if it is removed."""
    reason: Reason
    size: int = 0
    """Bytes that have to be got or found, at most."""


class Deletion(NamedTuple):
    """Names that are removed from one directory: (name, whether all below it goes too). Without the flag
    only a directory that is empty by then goes.
    """

    path: bytes
    names: list[tuple[bytes, bool]]


def positions() -> array[int]:
    return array("I")


def reasons() -> array[int]:
    return array("B")


@dataclass(slots=True)
class DirWork:
    """What one directory needs. Positions count the entries of its listing."""

    path: bytes
    """Below DEST; b"" is DEST itself."""
    listing: Ref
    mode: int | None
    """None: leave it as it is."""
    mtime_ns: int | None
    exists: bool
    """Whether a directory stands there already."""
    totals: Totals = NO_TOTALS
    retouch: bool = False
    """Whether its own mode or time differs, even if nothing in it does."""
    content: array[int] = field(default_factory=positions)
    """Regular files whose content is missing or differs."""
    reasons: array[int] = field(default_factory=reasons)
    """Why, for each of ``content``."""
    metadata: array[int] = field(default_factory=positions)
    """Regular files whose content is right, but not the mode or the time."""
    symlinks: array[int] = field(default_factory=positions)
    """Links to make or make anew."""
    extraneous: list[bytes] = field(default_factory=list)
    """Names on disk that the listing does not have."""
    conflicts: list[bytes] = field(default_factory=list)
    """Directories on disk where a file or a link is wanted."""
    replaced: array[int] = field(default_factory=positions)
    """Those of ``content`` where an older file stands, whose chunks may serve again."""
    guarded: list[bytes] = field(default_factory=list)
    """Names on disk that the listing does not have, but may lack because its publisher could not read them:
    they stay.
    """
    twins: bool = False
    """Whether some of its names, all of which are new, differ in case only."""
    stamped: bool = False
    """Whether the index has a stamp of it as it will be."""

    @property
    def changes(self) -> bool:
        """Whether anything in the directory is to be made, changed or looked at for removal."""
        wanted = self.content or self.metadata or self.symlinks
        return bool(wanted or self.extraneous or self.guarded) or not self.exists


@dataclass(slots=True)
class Plan:
    """All that a fetch of one snapshot has to do."""

    root: Entry
    dirs: list[DirWork] = field(default_factory=list)
    """Directories that need something, each after the one that it is in."""
    deletions: list[Deletion] = field(default_factory=list)
    """What is removed when everything else is in place, inner directories first (``plan.deletions``)."""
    dress_root: bool = True
    """Whether DEST itself gets the mode and time of the root."""
    files: int = 0
    """Files whose content is to be got."""
    size: int = 0
    """Bytes of these."""
    kept_bytes: int = 0
    """Bytes of the files whose content is right already, as far as they are known."""
    unread: list[bytes] = field(default_factory=list)
    """Directories whose listing no source had; what is below them is not in this plan."""
    refused: list[str] = field(default_factory=list)
    """Directories of DEST that could not be read, each with the reason; nothing below them is in this plan,
    either.
    """
    unread_bytes: int = 0
    """Bytes of the files below these, as far as they are known."""
    contents: array[int] = field(default_factory=lambda: array("q"))
    """Of each file whose content is to be got, and that is not empty, its ``content_key``: what is wanted
    twice shows.
    """

    @property
    def has_old_content(self) -> bool:
        """Whether there is anything in DEST whose chunks might serve again."""
        return any(work.extraneous or work.conflicts or work.replaced for work in self.dirs)

    @property
    def removes(self) -> bool:
        """Whether anything stands in DEST that the snapshot does not have, or has as something else."""
        return any(work.extraneous or work.conflicts for work in self.dirs)

    def want(self, files: Iterable[Entry]) -> None:
        """Note files whose content is to be got."""
        wanted = list(files)
        self.files += len(wanted)
        self.size += sum([each.size for each in wanted])
        self.contents.frombytes(b"".join([each.digest[:KEY_BYTES] for each in wanted]))

    def repeated(self) -> frozenset[int]:
        """Those of ``contents`` that occur more than once."""
        turns = 1 + len(self.contents) // SORTED_AT_ONCE
        found: set[int] = set()
        for turn in range(turns):
            some = [key for key in self.contents if key % turns == turn]
            if len(set(some)) < len(some):
                found.update(one for one, next_one in pairwise(sorted(some)) if one == next_one)
        return frozenset(found)


def changes(work: DirWork, entries: Sequence[Entry]) -> Iterator[Change]:
    """The changes of one directory, with its listing, as they can be printed: the directory itself, then
    what is in it, by name.
    """
    if not work.exists:
        yield Change(work.path, Kind.DIR, Reason.MISSING)
    elif work.retouch:
        yield Change(work.path, Kind.DIR, Reason.ATTRIBUTES)
    inside: list[tuple[int, Reason]] = [
        *zip(work.content, map(Reason, work.reasons), strict=True),
        *((position, Reason.ATTRIBUTES) for position in work.metadata),
        *((position, Reason.TARGET) for position in work.symlinks),
    ]
    for position, reason in sorted(inside):
        entry = entries[position]
        path = join(work.path, entry.name)
        wanted = reason not in (Reason.ATTRIBUTES, Reason.TARGET)
        yield Change(path, entry.kind, reason, entry.size if wanted else 0)


def removals(plan: Plan) -> Iterator[Change]:
    """The deletions of a plan, as they can be printed; of a directory that goes as a whole, its own name."""
    for deletion in plan.deletions:
        for name, _ in deletion.names:
            path = join(deletion.path, name)
            yield Change(path, None, Reason.EXTRANEOUS)

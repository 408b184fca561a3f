"""What differs between DEST and a snapshot: the values that a comparison makes and the rest of a fetch counts
and carries out. Pure.

Kept small, so that it stays small for large archives: of a directory only the positions of the entries that
need something are kept; the entries themselves are read again from its listing when their turn comes.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, NamedTuple

from p2psync.format.ids import Ref
from p2psync.format.listing import NO_TOTALS, Entry, Totals

KEY_BYTES: Final = 8


def repeat_key(digest: bytes) -> int:
    """The first 64 bits of a digest as an ``array`` has them: enough to notice that two may be the same."""
    return int.from_bytes(digest[:KEY_BYTES], sys.byteorder, signed=True)


SORTED_AT_ONCE: Final = 1 << 17
"""Keys that are sorted together: as objects they take five times the memory of the array."""


class Deletion(NamedTuple):
    """Names that are removed from one directory: (name, whether all below it goes too). Without the flag
    only a directory that is empty by then goes.
    """

    path: bytes
    names: list[tuple[bytes, bool]]


def positions() -> array[int]:
    return array("I")


NO_POSITIONS: Final = positions()
NO_NAMES: Final[list[Any]] = []
"""Shared by all directories that are not there, and never changed: of those there may be very many."""


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
    leaves: bool = False
    """Whether options leave something in it as it is, or out: then it is not what its listing says."""
    stamped: bool = False
    """Whether the index has a stamp of it as it will be."""
    ino: int = 0
    """Inode of the directory that stands there: no other one is worked in."""

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
    leaves: bool = False
    """Whether options leave something as it is that the snapshot has otherwise."""
    left_bytes: int = 0
    """Bytes of the files that options leave as they are, or are not there."""
    unread_bytes: int = 0
    """Bytes of the files below these, as far as they are known."""
    contents: array[int] = field(default_factory=lambda: array("q"))
    """Of each file whose content is to be got, and that is not empty, its ``repeat_key``: what is wanted
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

    def want(self, files: Iterable[Entry], *, repeated: bool = False) -> None:
        """Note files whose content is to be got. ``repeated``: all of them were noted twice before, of
        which a third time would tell nothing new.
        """
        wanted = list(files)
        self.files += len(wanted)
        self.size += sum([each.size for each in wanted])
        if not repeated:
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

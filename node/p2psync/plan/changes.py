"""What differs between DEST and a snapshot: the value that a comparison makes and the rest of a fetch works
through. Pure.

Kept small, so that it stays small for large archives: of a directory only the positions of the entries that
need something are kept; the entries themselves are read again from its listing when their turn comes.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from p2psync.format.ids import Ref
from p2psync.format.listing import Entry


def positions() -> array[int]:
    return array("I")


@dataclass(slots=True)
class DirWork:
    """What one directory needs. Positions count the entries of its listing."""

    path: bytes
    """Below DEST; b"" is DEST itself."""
    listing: Ref
    mode: int
    mtime_ns: int
    exists: bool
    """Whether a directory stands there already."""
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

    @property
    def changes(self) -> bool:
        """Whether anything in the directory is to be made, changed or looked at for removal."""
        return bool(self.content or self.metadata or self.symlinks or self.extraneous) or not self.exists


@dataclass(slots=True)
class Plan:
    """All that a fetch of one snapshot has to do."""

    root: Entry
    dirs: list[DirWork] = field(default_factory=list)
    """Directories that need something, each after the one that it is in."""
    files: int = 0
    """Files whose content is to be got."""
    size: int = 0
    """Bytes of these."""
    kept_files: int = 0
    kept_bytes: int = 0
    unread: list[bytes] = field(default_factory=list)
    """Directories whose listing no source had; what is below them is not in this plan."""

    @property
    def has_old_content(self) -> bool:
        """Whether there is anything in DEST whose chunks might serve again."""
        return any(work.extraneous or work.conflicts or work.replaced for work in self.dirs)

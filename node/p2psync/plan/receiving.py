"""What is left as it is in DEST though the snapshot has it otherwise: rsync's options for the receiving side.
Pure.

What is left takes part all the same: it is not deleted, and its directory is not what the snapshot says.
"""

from __future__ import annotations

import os
import stat
from typing import Final, NamedTuple

from p2psync.format.listing import Entry, Kind
from p2psync.format.paths import join

SECOND_NS: Final = 10**9
UP: Final = b"../"


class Receiving(NamedTuple):
    """Options by their names in rsync(1)."""

    max_size: int | None = None
    min_size: int | None = None
    safe_links: bool = False
    existing: bool = False
    ignore_existing: bool = False
    update: bool = False
    size_only: bool = False
    modify_window: int = 0
    """Seconds by which times may differ and count as the same."""
    omit_dir_times: bool = False
    above: bytes = b""
    """The directory that DEST is, as links see it that lead up: what is in ``ID/DIR`` lies in DIR."""

    @property
    def leaves_nothing(self) -> bool:
        """Whether everything that takes part is made as the snapshot has it."""
        return self._replace(above=b"") == EVERYTHING

    def leaves(self, wanted: Entry, directory: bytes, found: os.stat_result | None) -> bool:
        """Whether an entry of the directory at this path is left as it is; ``found``: what stands in its
        place in DEST.
        """
        if found is None:
            return self.existing or self.never(wanted, directory)
        if self.never(wanted, directory):
            return True
        if self.ignore_existing and not (wanted.kind is Kind.DIR and stat.S_ISDIR(found.st_mode)):
            return True
        newer = found.st_mtime_ns // SECOND_NS - wanted.mtime_ns // SECOND_NS > self.modify_window
        return self.update and wanted.kind is Kind.FILE and stat.S_ISREG(found.st_mode) and newer

    def never(self, wanted: Entry, directory: bytes) -> bool:
        """Whether an entry is left out whatever stands in DEST."""
        if wanted.kind is Kind.FILE:
            too_large = self.max_size is not None and wanted.size > self.max_size
            return too_large or (self.min_size is not None and wanted.size < self.min_size)
        return (
            self.safe_links
            and wanted.kind is Kind.SYMLINK
            and leads_out(wanted.target, join(self.above, directory) if directory else self.above)
        )

    def same_time(self, found_ns: int, wanted_ns: int) -> bool:
        """Whether a time counts as that of the snapshot; with a window, of whole seconds, as in rsync."""
        if not self.modify_window:
            return found_ns == wanted_ns
        return abs(found_ns // SECOND_NS - wanted_ns // SECOND_NS) <= self.modify_window


EVERYTHING: Final = Receiving()


def leads_out(target: bytes, directory: bytes) -> bool:
    """Whether a link in a directory of the transfer is unsafe, as rsync has it (rsync(1), SYMBOLIC LINKS, and
    its util1.c, unsafe_symlink): it is absolute, leads out of the tree at any point on its way, or goes up
    other than at its very beginning.
    """
    if not target or target.startswith(b"/"):
        return True
    rest = target
    while rest.startswith(UP):
        rest = rest[len(UP) :].lstrip(b"/")
    if b"/" + UP in rest or (len(target) > len(UP) and target.endswith(b"/..")):
        return True
    depth = directory.count(b"/") + 1 if directory else 0
    for part in target.split(b"/"):
        depth += (part not in (b"", b".")) if part != b".." else -1
        if depth < 0:
            return True
    return False

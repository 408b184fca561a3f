"""What a walk cannot read although it is there: it stays as it was in the last snapshot, or the directory's
listing is marked as one that lacks it. Either way nobody deletes it for that.
"""

from __future__ import annotations

import errno
from typing import Final

from p2psync.events import Teller
from p2psync.format.listing import NO_TOTALS, dir_entry
from p2psync.format.marks import incomplete
from p2psync.format.paths import join
from p2psync.publish.directory import Node
from p2psync.publish.earlier import Earlier
from p2psync.publish.writer import Writer
from p2psync.tree.report import Report
from p2psync.tree.scan import Found, why_not_read

STAYS: Final = "it stays as it was in the last snapshot"
MISSING: Final = "it is missing from this snapshot, which says so: nobody deletes it for that"


class Unread:
    """Decides for each path that could not be read."""

    def __init__(self, earlier: Earlier, writer: Writer, report: Report, tell: Teller) -> None:
        self._earlier = earlier
        self._writer = writer
        self._report = report
        self._tell = tell

    def failed(self, node: Node, found: Found, error: OSError) -> None:
        """Opening or reading a name in a directory failed. Raises FileError if all others would as well."""
        path = join(node.path, found.name)
        if error.errno == errno.ENOENT:
            node.intact = False
            self._report.gone(path)
        else:
            self.leave(node, found.name, why_not_read(error, path), found)

    def leave(self, node: Node, name: bytes, reason: str, found: Found | None = None) -> None:
        """A name in a directory is not read. ``reason``: as words after the name; ``found``: what is there,
        as far as a listing can tell it.
        """
        node.intact = False
        entry = self._earlier.entry(node.path, name)
        self._report.not_read(join(node.path, name), reason, MISSING if entry is None else STAYS)
        if entry is not None:
            self._tell.advance(entry.below.bytes, entry.below.files, reused=entry.below.bytes)
            node.carried[name] = entry
        elif found is not None and found.is_dir:
            empty = dir_entry(
                name, found.permissions, found.mtime_ns, self._writer.add_listing([]), NO_TOTALS
            )
            node.carried[name] = incomplete(empty)
        else:
            node.unread.append(name)

"""Where a path in an archive leads, symbolic links on the way followed as a file system would, and never
out of the archive (path_resolution(7)). Pure: whoever walks gets the listings.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Final

from p2psync.format.listing import Entry, Kind

LINKS_MAX: Final = 40
"""Links that are followed on one way, as Linux does; a loop ends there."""


_name_of: Final[Callable[[Entry], bytes]] = itemgetter(0)


class NotThere(Exception):
    """The archive has no such path."""


class LeadsNowhere(Exception):
    """A link leads out of the archive, or round in circles. The argument is a clause that says so."""


class Walk:
    """A walk along one path.

    while (directory := walk.next_directory()) is not None:
        walk.step(listing of directory)
    walk.entry
    """

    def __init__(self, root: Entry, path: bytes, *, follow_last: bool) -> None:
        """``follow_last``: also a link at the end of the path is followed."""
        self._root = root
        self._follow_last = follow_last
        self._taken: list[Entry] = []
        self._left = path.split(b"/")[::-1]
        self._links = 0

    @property
    def entry(self) -> Entry:
        """What the path leads to, at the end of the walk; the root has an empty name."""
        return self._taken[-1] if self._taken else self._root

    def next_directory(self) -> Entry | None:
        """The directory whose listing is to be looked into next; None at the end. Raises NotThere,
        LeadsNowhere.
        """
        while self._left:
            if self.entry.kind is not Kind.DIR:
                raise NotThere
            if self._left[-1] not in (b"", b".", b".."):
                return self.entry
            if self._left.pop() == b"..":
                if not self._taken:
                    raise LeadsNowhere("leads out of the archive")
                self._taken.pop()
        return None

    @property
    def name(self) -> bytes:
        """What is to be looked for in `next_directory`."""
        return self._left[-1]

    def step(self, listing: Sequence[Entry]) -> None:
        """Go on into what the listing of `next_directory` has, which is sorted by name. Raises NotThere,
        LeadsNowhere.
        """
        name = self.name
        at = bisect_left(listing, name, key=_name_of)
        self.enter(listing[at] if at < len(listing) and listing[at].name == name else None)

    def enter(self, found: Entry | None) -> None:
        """Go on into the entry of `name`; None: there is none. Raises NotThere, LeadsNowhere."""
        if found is None:
            raise NotThere
        self._left.pop()
        if found.kind is not Kind.SYMLINK or not (self._left or self._follow_last):
            self._taken.append(found)
            return
        self._links += 1
        if self._links > LINKS_MAX:
            raise LeadsNowhere(f"leads through more than {LINKS_MAX} links")
        if found.target.startswith(b"/"):
            raise LeadsNowhere("leads out of the archive")
        self._left += found.target.split(b"/")[::-1]


def walk(
    root: Entry, path: bytes, listing: Callable[[Entry], Sequence[Entry]], *, follow_last: bool
) -> Entry:
    """What a path leads to, where listings can be had at once. Raises NotThere, LeadsNowhere, and what
    ``listing`` raises.
    """
    way = Walk(root, path, follow_last=follow_last)
    while (directory := way.next_directory()) is not None:
        way.step(listing(directory))
    return way.entry

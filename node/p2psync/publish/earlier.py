"""The last snapshot of an archive, from which stands what cannot be read now.

What is carried over is complete: a directory only if every listing below it is here, and without what the
rules of today leave out.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import NamedTuple

from p2psync.errors import FormatError
from p2psync.format.ids import Ref
from p2psync.format.listing import NO_TOTALS, Entry, Kind, add_totals, decode_listing
from p2psync.format.marks import carried, is_incomplete
from p2psync.format.paths import join
from p2psync.rules.filter import Filter


class _Level(NamedTuple):
    """A directory on the way to the one that was last asked for, and what the snapshot has in it."""

    path: bytes
    entries: dict[bytes, Entry]


class Earlier:
    """What a snapshot has at each path. Memory is that of the listings on the way to one directory."""

    def __init__(
        self,
        root: Entry | None,
        objects: Callable[[bytes], bytes | None],
        keep: Callable[[list[Entry]], Ref],
        rules: Filter,
        hidden: frozenset[bytes],
    ) -> None:
        """``root`` is that of the snapshot, None where there is none; ``objects`` has its listings, and
        ``keep`` takes those that are made anew since the rules are others now.
        """
        self._root = root
        self._objects = objects
        self._keep = keep
        self._rules = rules
        self._hidden = hidden
        self._way: list[_Level] = []

    def entry(self, directory: bytes, name: bytes) -> Entry | None:
        """What stood at this name in a directory, marked as carried over; None if nothing did, or not all
        of it is here.
        """
        found = self._in(directory).get(name)
        if found is not None and is_incomplete(found) and found.totals == NO_TOTALS:
            return None  # it could not be read then either
        if found is not None and found.kind is Kind.DIR:
            found = self._whole(found, join(directory, name))
        return None if found is None else carried(found)

    def names(self, directory: bytes) -> Set[bytes]:
        """The names that stood in a directory."""
        return self._in(directory).keys()

    def _in(self, directory: bytes) -> dict[bytes, Entry]:
        while self._way and not _is_below(directory, self._way[-1].path):
            self._way.pop()
        if not self._way:
            self._way.append(_Level(b"", self._by_name(self._root)))
        while (level := self._way[-1]).path != directory:
            rest = directory[len(level.path) + 1 :] if level.path else directory
            name = rest.partition(b"/")[0]
            self._way.append(_Level(join(level.path, name), self._by_name(level.entries.get(name))))
        return level.entries

    def _by_name(self, directory: Entry | None) -> dict[bytes, Entry]:
        listed = None if directory is None else self._listing(directory)
        return {entry.name: entry for entry in listed or ()}

    def _listing(self, directory: Entry) -> list[Entry] | None:
        raw = self._objects(directory.digest) if directory.kind is Kind.DIR else None
        try:
            return None if raw is None else decode_listing(raw)
        except FormatError:
            return None  # damaged here: it is as good as gone

    def _whole(self, directory: Entry, path: bytes) -> Entry | None:
        """A directory as the rules of today leave it; None if a listing is missing."""
        listed = self._listing(directory)
        if listed is None:
            return None
        scope = self._rules.scope(path)
        kept: list[Entry] = []
        for entry in listed:
            is_dir = entry.kind is Kind.DIR
            inner = join(path, entry.name)
            if scope.hides(entry.name, is_dir) or inner in self._hidden:
                continue
            whole = self._whole(entry, inner) if is_dir else entry
            if whole is None:
                return None
            kept.append(whole)
        if kept == listed:
            return directory
        ref = self._keep(kept)
        totals = add_totals(entry.below for entry in kept)
        return directory._replace(size=ref.size, digest=ref.digest, totals=totals)


def _is_below(path: bytes, directory: bytes) -> bool:
    """Whether ``path`` is ``directory`` or lies below it."""
    return not directory or path == directory or path.startswith(directory + b"/")

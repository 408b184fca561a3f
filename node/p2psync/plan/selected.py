"""A part of a snapshot as a tree of its own: listings without what is not asked for, and totals of what is.

A directory of which everything takes part keeps its listing, and so its id; of the others new ones are made,
bottom up, and kept in the state directory, where a comparison finds them like any other. Listings are got of
directories alone that take part. Where the last selection of an earlier snapshot was the same, a directory
that has not changed since is not looked into again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from p2psync.chunking import cut_object
from p2psync.errors import FormatError
from p2psync.format.ids import Ref
from p2psync.format.limits import DEPTH_MAX, PATH_MAX
from p2psync.format.listing import (
    Entry,
    Kind,
    add_totals,
    check_listing_size,
    check_totals,
    encode_listing,
)
from p2psync.format.marks import is_part, part
from p2psync.format.paths import join
from p2psync.plan.compare import DIRS_AT_ONCE, DIRS_MAX
from p2psync.plan.listings import Listings
from p2psync.rules.selection import Absent, Selection
from p2psync.state import State
from p2psync.state.off_loop import off_loop

KEPT_AT_ONCE: Final = 1 << 20
"""Bytes of new listings in one transaction: milliseconds for those who wait to write."""

Before = tuple[Entry, Entry]
"""A directory of an earlier snapshot, and what was chosen of it."""


class _Directory:
    """A directory that is looked into. It is made when all that are in it are."""

    __slots__ = ("above", "before", "depth", "entry", "left", "made", "path")

    def __init__(
        self, path: bytes, entry: Entry, above: _Directory | None, depth: int, before: Before | None
    ) -> None:
        self.path = path
        self.entry = entry
        self.above = above
        self.depth = depth
        self.before = before
        self.left = 0
        """Directories in it that are not made yet."""
        self.made: dict[bytes, Entry | None] = {}
        """What came of those that are; None: they take no part."""


class Selecting:
    """Makes one selection of one snapshot."""

    def __init__(self, state: State, listings: Listings, selection: Selection, archive: bytes) -> None:
        """``archive``: the one for whose readers new listings are kept."""
        self._state = state
        self._listings = listings
        self._selection = selection
        self._archive = archive
        self._new: dict[Ref, bytes] = {}
        self._new_bytes = 0
        self._root: Entry | None = None
        self.absent: list[Absent] = []
        """Listed paths that the archive does not have."""
        self._stopped = False

    async def run(self, root: Entry, before: Before | None = None) -> Entry | None:
        """What is chosen of the directory ``root``; None: it takes no part. ``before``: the same of an
        earlier snapshot.

        A directory whose listing no source has stays as it is: whoever compares finds that out, too. Raises
        FormatError: the archive has more directories than can be fetched at once, or contradicts itself.
        """
        if before is not None and not self._is_known(before):
            before = None
        waiting = [_Directory(b"", root, None, 0, before)]
        count = 0
        while waiting:
            batch = waiting[-DIRS_AT_ONCE:]
            del waiting[-DIRS_AT_ONCE:]
            count += len(batch)
            if count > DIRS_MAX:
                raise FormatError(
                    f"more than {DIRS_MAX} directories would have to be looked into; fetch a part of the "
                    "archive, with /PATH behind its URL, or rules that leave directories out by name"
                )
            for one in batch:
                check_listing_size(one.entry)
            older = {one.entry.ref: one.before[0].ref for one in batch if one.before is not None}
            missing = set(await self._listings.load((one.entry.ref for one in batch), older))
            waiting += await self._beside(batch, missing)
        await off_loop(self._keep)
        return self._root

    async def _beside(self, batch: Sequence[_Directory], missing: set[Ref]) -> list[_Directory]:
        def stop() -> None:
            self._stopped = True

        return await off_loop(partial(self._look, batch, missing), stop=stop)

    def _look(self, batch: Sequence[_Directory], missing: set[Ref]) -> list[_Directory]:
        """Look into some directories; those in them that are to be looked into, the first one last."""
        inner: list[_Directory] = []
        for one in reversed(batch):
            if self._stopped:
                break
            if one.entry.ref in missing:
                self._done(one, one.entry)
                continue
            entries = self._listings.listing(one.entry.ref)
            check_totals(one.entry, entries)
            self.absent += self._selection.absent(one.path, entries)
            chosen = self._selection.choose(one.path, entries)
            found = self._enter(one, [entry for entry in chosen if entry.kind is Kind.DIR])
            if found:
                one.left = len(found)
                inner += reversed(found)
            else:
                self._done(one, self._make(one, entries, chosen))
        return inner

    def _enter(self, one: _Directory, dirs: Sequence[Entry]) -> list[_Directory]:
        """The directories in one that have to be looked into; what is known of the others is noted."""
        known = self._known(one.before) if one.before is not None and dirs else {}
        found: list[_Directory] = []
        for entry in dirs:
            path = join(one.path, entry.name)
            if one.depth >= DEPTH_MAX or len(path) > PATH_MAX:
                raise FormatError(
                    f"the archive nests directories deeper than {DEPTH_MAX}, or has paths over {PATH_MAX} "
                    "bytes"
                )
            if self._selection.is_bare(path):
                one.made[entry.name] = (
                    self._made(path, entry, [], []) if self._selection.keeps_empty(path) else None
                )
                continue
            was, made = known.get(entry.name, (None, None))
            if was is not None and was.ref == entry.ref and was.totals == entry.totals:
                one.made[entry.name] = None if made is None else _with_listing(entry, made)
            else:
                before = None if was is None or made is None else (was, made)
                found.append(_Directory(path, entry, one, one.depth + 1, before))
        return found

    def _known(self, before: Before) -> dict[bytes, tuple[Entry, Entry | None]]:
        """What became of the directories in one before, as far as that is still here. What took part and is
        not there was pruned.
        """
        was, made = before
        chosen = {entry.name: entry for entry in self._listings.listing(made.ref)}
        # What is listed without taking part is not asked about: its name is not chosen this time, either.
        return {
            entry.name: (entry, chosen.get(entry.name))
            for entry in self._listings.listing(was.ref)
            if entry.kind is Kind.DIR and self._is_here(chosen.get(entry.name), entry)
        }

    def _is_known(self, before: Before) -> bool:
        return all(self._state.meta.has(entry.digest) for entry in before)

    def _is_here(self, *entries: Entry | None) -> bool:
        return all(entry is None or self._state.meta.has(entry.digest) for entry in entries)

    # From below.

    def _make(self, one: _Directory, entries: Sequence[Entry], chosen: Sequence[Entry]) -> Entry | None:
        """A directory as it is chosen, when all in it are; None: it takes no part."""
        made: list[Entry] = []
        for entry in chosen:
            inside = one.made.get(entry.name, entry) if entry.kind is Kind.DIR else entry
            if inside is not None:
                made.append(inside)
        if not made and not self._selection.keeps_empty(one.path):
            return None
        return self._made(one.path, one.entry, entries, made)

    def _made(self, path: bytes, entry: Entry, entries: Sequence[Entry], made: list[Entry]) -> Entry:
        """The directory at ``path`` with what takes part of its entries."""
        if self._selection.is_part(path):
            entry = part(entry)
            if not made:
                entries = [entry]  # Whatever it has, it is another listing.
        if made == list(entries):
            return entry
        raw = encode_listing(made)
        ref, _ = cut_object(raw)
        self._new[ref] = raw
        self._new_bytes += len(raw)
        if self._new_bytes > KEPT_AT_ONCE:
            self._keep()
        totals = add_totals(each.below for each in made)
        return entry._replace(size=ref.size, digest=ref.digest, totals=totals)

    def _done(self, one: _Directory, made: Entry | None) -> None:
        """Hand on what came of a directory, and make those above it that lack nothing any more."""
        while (above := one.above) is not None:
            above.made[one.entry.name] = made
            above.left -= 1
            if above.left:
                return
            entries = self._listings.listing(above.entry.ref)
            one, made = above, self._make(above, entries, self._selection.choose(above.path, entries))
        self._root = made

    def _keep(self) -> None:
        """Write the listings that were made."""
        if self._new:
            self._state.meta.put_many(list(self._new.items()), archive=self._archive)
        self._new, self._new_bytes = {}, 0


def _with_listing(entry: Entry, made: Entry) -> Entry:
    entry = part(entry) if is_part(made) else entry
    return entry._replace(size=made.size, digest=made.digest, totals=made.totals)

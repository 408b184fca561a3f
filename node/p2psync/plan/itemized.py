"""What a plan is going to change and remove, name by name, as rsync's --itemize-changes tells it: told before
it is done.

In rsync's order: a directory, then the files and links in it by name, then the directories in it, of which
`x-y` comes before `x`. Looks at DEST once more, since a plan keeps no more than positions; only for those who
ask.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

from p2psync.events import Changing, Removing, Teller, Unsafe, Whole
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry, Kind
from p2psync.format.paths import join
from p2psync.format.reserved import TEMPORARY_PREFIX
from p2psync.plan.changes import Deletion, DirWork, Plan
from p2psync.plan.listings import Listings
from p2psync.plan.receiving import SECOND_NS, Receiving
from p2psync.state.off_loop import off_loop
from p2psync.tree.beneath import Beneath

LISTINGS_AT_ONCE: Final = 256
"""Listings that are got in one go, while links are looked for."""
_KINDS: Final = {Kind.FILE: "f", Kind.DIR: "d", Kind.SYMLINK: "L"}


class _How(NamedTuple):
    """How DEST is looked at."""

    beneath: Beneath | None
    """None where it is not there."""
    receiving: Receiving
    looked_into: str
    """What must differ for rsync to look into a file."""
    checksum: bool
    """Whether it has looked into all."""


async def tell_plan(
    plan: Plan,
    listings: Listings,
    beneath: Beneath | None,
    receiving: Receiving,
    tell: Teller,
    *,
    checksum: bool,
) -> None:
    """Tell what will be in DEST, and what is going to be made and changed for it; to those who ask.
    ``receiving``: what is left as it is; ``checksum``: times decide nothing.
    """
    if tell.wants_changes:
        await _tell_whole(plan, listings, receiving, tell)
        stopped = threading.Event()
        looked_into = "s" if checksum or receiving.size_only else "st"
        how = _How(beneath, receiving, looked_into, checksum)
        tell_it = partial(_tell_changes, plan, listings, how, tell, stopped.is_set)
        await off_loop(tell_it, stop=stopped.set)


async def tell_deletions(deletions: Sequence[Deletion], beneath: Beneath, tell: Teller) -> None:
    """Tell of every name that is going to be removed, those in a directory before it; to those who ask."""
    if tell.wants_changes:
        stopped = threading.Event()
        await off_loop(partial(_tell_removals, deletions, beneath, tell, stopped.is_set), stop=stopped.set)


async def tell_ways(ways: Iterable[bytes], beneath: Beneath, tell: Teller) -> None:
    """Tell of what is in directories that make way for files, as rsync does: of all but these themselves; to
    those who ask.
    """
    if tell.wants_changes:
        stopped = threading.Event()
        await off_loop(partial(_tell_ways, ways, beneath, tell, stopped.is_set), stop=stopped.set)


async def _tell_whole(plan: Plan, listings: Listings, receiving: Receiving, tell: Teller) -> None:
    """What is in DEST when all of the plan is done, and which links stay out of it. Directories without links
    are not looked into.
    """
    totals = plan.root.totals
    length = 0
    waiting: list[tuple[bytes, Ref]] = [(b"", plan.root.ref)] if totals.symlinks else []
    unsafe: list[Unsafe] = []
    while waiting:
        some, waiting = waiting[-LISTINGS_AT_ONCE:], waiting[:-LISTINGS_AT_ONCE]
        missing = set(await listings.load([ref for _, ref in some]))
        for path, entries in ((path, listings.listing(ref)) for path, ref in some if ref not in missing):
            for entry in entries:
                length += len(entry.target)
                if entry.totals.symlinks:
                    waiting.append((join(path, entry.name), entry.ref))
                if entry.kind is Kind.SYMLINK and receiving.never(entry, path):
                    unsafe.append(Unsafe(join(path, entry.name), entry.target))
    tell.hand_on(Whole(totals.files, totals.dirs, totals.symlinks, totals.bytes, length))
    for one in sorted(unsafe):
        tell.hand_on(one)


def _tell_changes(
    plan: Plan, listings: Listings, how: _How, tell: Teller, stopped: Callable[[], bool]
) -> None:
    for work in sorted(plan.dirs, key=lambda each: each.path + b"/"):
        if stopped():
            return
        for change in _of_directory(work, listings.listing(work.listing), how):
            tell.hand_on(change)


def _of_directory(work: DirWork, entries: list[Entry], how: _How) -> Iterator[Changing]:
    there: dict[bytes, os.stat_result] = {}
    own: os.stat_result | None = None
    if work.exists and how.beneath is not None:
        try:
            own = os.fstat(how.beneath.dir(work.path))
            there = how.beneath.scan(work.path)
        except OSError:
            return  # Whoever works in it says why it cannot be.
    mode = 0 if work.mode is None else work.mode
    mtime_ns = 0 if work.mtime_ns is None else work.mtime_ns
    if own is None or work.mode is not None:
        differs = "" if own is None else _attributes(own, mode, mtime_ns, how)
        if work.mtime_ns is None:
            differs = differs.replace("t", "")
        if own is None or differs:
            yield Changing(work.path, "d", own is None, differs, False, 0, mtime_ns, mode)
    content = set(work.content)
    wanted = sorted({*content, *work.metadata, *work.symlinks}, key=lambda at: entries[at].name)
    for entry, is_content in ((entries[at], at in content) for at in wanted):
        found = there.get(entry.name)
        change = _of_entry(work.path, entry, found, how, is_content=is_content)
        if change is not None:
            yield change


def _of_entry(
    path: bytes,
    entry: Entry,
    found: os.stat_result | None,
    how: _How,
    *,
    is_content: bool,
) -> Changing | None:
    """None: rsync would not tell of it, since it compares times in whole seconds."""
    is_link = entry.kind is Kind.SYMLINK
    same_kind = found is not None and (stat.S_ISLNK if is_link else stat.S_ISREG)(found.st_mode)
    differs = ""
    if found is not None and same_kind:
        differs = _attributes(found, entry.mode, entry.mtime_ns, how, is_link=is_link)
        if not is_link and found.st_size != entry.size:
            differs = "s" + differs
        if is_link and how.beneath is not None:
            differs = "c" * (_target(how.beneath, path, entry.name) != entry.target) + differs
        if is_content and (how.checksum or not set("st").intersection(differs)):
            differs = "c" + differs
        if not differs:
            return None
    return Changing(
        join(path, entry.name),
        _KINDS[entry.kind],
        not same_kind,
        differs,
        not is_link and (is_content or bool(set(how.looked_into).intersection(differs))),
        len(entry.target) if is_link else entry.size,
        entry.mtime_ns,
        entry.mode,
        entry.target,
    )


def _attributes(found: os.stat_result, mode: int, mtime_ns: int, how: _How, *, is_link: bool = False) -> str:
    apart = abs(found.st_mtime_ns // SECOND_NS - mtime_ns // SECOND_NS)
    time = "t" if apart > how.receiving.modify_window else ""
    return time + ("p" if not is_link and stat.S_IMODE(found.st_mode) != mode else "")


def _target(beneath: Beneath, path: bytes, name: bytes) -> bytes | None:
    try:
        return beneath.read_link(path, name)
    except OSError:
        return None


def _tell_removals(
    deletions: Iterable[Deletion], beneath: Beneath, tell: Teller, stopped: Callable[[], bool]
) -> None:
    waiting: dict[bytes, list[tuple[bytes, bool]]] = {}
    for deletion in deletions:
        waiting.setdefault(deletion.path, []).extend(deletion.names)
    for path in sorted(waiting, key=lambda each: each + b"/"):
        for removing in _removals(path, waiting, beneath):
            if stopped():
                return
            tell.hand_on(removing)


def _removals(
    path: bytes, waiting: dict[bytes, list[tuple[bytes, bool]]], beneath: Beneath
) -> Iterator[Removing]:
    """What goes from a directory, with what goes from those in it, unless that was told before."""
    names = dict(waiting.pop(path, ()))
    found = _there(beneath, path) if names else {}
    for name in _backwards({name: found[name] for name in names if name in found}):
        inside = join(path, name)
        if name.startswith(TEMPORARY_PREFIX):
            continue
        if names[name]:
            yield from _all_of(beneath, inside, found[name])
        else:
            yield from _removals(inside, waiting, beneath)
            yield _removing(inside, found[name])


def _tell_ways(ways: Iterable[bytes], beneath: Beneath, tell: Teller, stopped: Callable[[], bool]) -> None:
    for path in ways:
        found = _there(beneath, path)
        for name in _backwards(found):
            if stopped():
                return
            for removing in _all_of(beneath, join(path, name), found[name]):
                tell.hand_on(removing)


def _all_of(beneath: Beneath, path: bytes, found: os.stat_result) -> Iterator[Removing]:
    inside = _there(beneath, path) if stat.S_ISDIR(found.st_mode) else {}
    for name in _backwards(inside):
        yield from _all_of(beneath, join(path, name), inside[name])
    yield _removing(path, found)


def _there(beneath: Beneath, path: bytes) -> dict[bytes, os.stat_result]:
    try:
        return beneath.scan(path)
    except OSError:
        return {}  # Whoever removes it says why it cannot be.


def _removing(path: bytes, found: os.stat_result) -> Removing:
    return Removing(path, _kind(found), stat.S_IMODE(found.st_mode))


def _backwards(found: dict[bytes, os.stat_result]) -> list[bytes]:
    """Names as rsync deletes them: directories from the last to the first, then all others."""

    def place(name: bytes) -> tuple[bool, bytes]:
        is_dir = stat.S_ISDIR(found[name].st_mode)
        return is_dir, name + b"/" * is_dir

    return sorted(found, key=place, reverse=True)


def _kind(found: os.stat_result) -> str:
    kinds = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "L"}
    return kinds.get(stat.S_IFMT(found.st_mode), "S")

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
from typing import Final

from p2psync.events import Changing, Removing, Teller, Whole
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry, Kind
from p2psync.format.paths import join
from p2psync.format.reserved import TEMPORARY_PREFIX
from p2psync.plan.changes import Deletion, DirWork, Plan
from p2psync.plan.listings import Listings
from p2psync.state.off_loop import off_loop
from p2psync.tree.beneath import Beneath

LISTINGS_AT_ONCE: Final = 256
"""Listings that are got in one go, while links are looked for."""
SECOND_NS: Final = 1_000_000_000
"""rsync compares times in seconds, unless --modify-window says otherwise (rsync(1))."""
_KINDS: Final = {Kind.FILE: "f", Kind.DIR: "d", Kind.SYMLINK: "L"}


async def tell_plan(plan: Plan, listings: Listings, beneath: Beneath | None, tell: Teller) -> None:
    """Tell what will be in DEST, and what is going to be made and changed for it; to those who ask."""
    if tell.wants_changes:
        tell.hand_on(await _whole(plan, listings))
        stopped = threading.Event()
        tell_it = partial(_tell_changes, plan, listings, beneath, tell, stopped.is_set)
        await off_loop(tell_it, stop=stopped.set)


async def tell_deletions(deletions: Sequence[Deletion], beneath: Beneath, tell: Teller) -> None:
    """Tell of every name that is going to be removed, those in a directory before it; to those who ask."""
    if tell.wants_changes:
        stopped = threading.Event()
        await off_loop(partial(_tell_removals, deletions, beneath, tell, stopped.is_set), stop=stopped.set)


async def _whole(plan: Plan, listings: Listings) -> Whole:
    """What is in DEST when all of the plan is done. Directories without links are not looked into."""
    totals = plan.root.totals
    length = 0
    waiting: list[Ref] = [plan.root.ref] if totals.symlinks else []
    while waiting:
        some, waiting = waiting[-LISTINGS_AT_ONCE:], waiting[:-LISTINGS_AT_ONCE]
        missing = set(await listings.load(some))
        for entry in (each for ref in some if ref not in missing for each in listings.listing(ref)):
            length += len(entry.target)
            if entry.totals.symlinks:
                waiting.append(entry.ref)
    return Whole(totals.files, totals.dirs, totals.symlinks, totals.bytes, length)


def _tell_changes(
    plan: Plan, listings: Listings, beneath: Beneath | None, tell: Teller, stopped: Callable[[], bool]
) -> None:
    for work in sorted(plan.dirs, key=lambda each: each.path + b"/"):
        if stopped():
            return
        for change in _of_directory(work, listings.listing(work.listing), beneath):
            tell.hand_on(change)


def _of_directory(work: DirWork, entries: list[Entry], beneath: Beneath | None) -> Iterator[Changing]:
    there: dict[bytes, os.stat_result] = {}
    own: os.stat_result | None = None
    if work.exists and beneath is not None:
        try:
            own = os.fstat(beneath.dir(work.path))
            there = beneath.scan(work.path)
        except OSError:
            return  # Whoever works in it says why it cannot be.
    mode = 0 if work.mode is None else work.mode
    mtime_ns = 0 if work.mtime_ns is None else work.mtime_ns
    if own is None or work.mode is not None:
        differs = "" if own is None else _attributes(own, mode, mtime_ns)
        if own is None or differs:
            yield Changing(work.path, "d", own is None, differs, False, 0, mtime_ns, mode)
    content = set(work.content)
    wanted = sorted({*content, *work.metadata, *work.symlinks}, key=lambda at: entries[at].name)
    for entry, is_content in ((entries[at], at in content) for at in wanted):
        change = _of_entry(work.path, entry, there.get(entry.name), beneath, is_content=is_content)
        if change is not None:
            yield change


def _of_entry(
    path: bytes,
    entry: Entry,
    found: os.stat_result | None,
    beneath: Beneath | None,
    *,
    is_content: bool,
) -> Changing | None:
    """None: rsync would not tell of it, since it is the same to the second."""
    is_link = entry.kind is Kind.SYMLINK
    same_kind = found is not None and (stat.S_ISLNK if is_link else stat.S_ISREG)(found.st_mode)
    differs = ""
    if found is not None and same_kind:
        differs = _attributes(found, entry.mode, entry.mtime_ns, is_link=is_link)
        if not is_link and found.st_size != entry.size:
            differs = "s" + differs
        if is_link and beneath is not None:
            differs = "c" * (_target(beneath, path, entry.name) != entry.target) + differs
        if is_content and not set("st").intersection(differs):
            differs = "c" + differs
        if not differs:
            return None
    return Changing(
        join(path, entry.name),
        _KINDS[entry.kind],
        not same_kind,
        differs,
        not is_link and (is_content or bool(set("st").intersection(differs))),
        len(entry.target) if is_link else entry.size,
        entry.mtime_ns,
        entry.mode,
        entry.target,
    )


def _attributes(found: os.stat_result, mode: int, mtime_ns: int, *, is_link: bool = False) -> str:
    time = "t" if found.st_mtime_ns // SECOND_NS != mtime_ns // SECOND_NS else ""
    return time + ("p" if not is_link and stat.S_IMODE(found.st_mode) != mode else "")


def _target(beneath: Beneath, path: bytes, name: bytes) -> bytes | None:
    try:
        return beneath.read_link(path, name)
    except OSError:
        return None


def _tell_removals(
    deletions: Iterable[Deletion], beneath: Beneath, tell: Teller, stopped: Callable[[], bool]
) -> None:
    for deletion in sorted(deletions, key=lambda each: each.path + b"/"):
        try:
            found = beneath.scan(deletion.path)
        except OSError:
            continue
        names = {name: whole for name, whole in deletion.names if name in found}
        for name in _backwards({name: found[name] for name in names}):
            if stopped():
                return
            if not name.startswith(TEMPORARY_PREFIX):
                for removing in _below(beneath, join(deletion.path, name), found[name], names[name]):
                    tell.hand_on(removing)


def _below(beneath: Beneath, path: bytes, found: os.stat_result, whole: bool) -> Iterator[Removing]:
    if stat.S_ISDIR(found.st_mode):
        try:
            inside = beneath.scan(path) if whole else {}
        except OSError:
            inside = {}
        for name in _backwards(inside):
            yield from _below(beneath, join(path, name), inside[name], whole)
    yield Removing(path, _kind(found), stat.S_IMODE(found.st_mode))


def _backwards(found: dict[bytes, os.stat_result]) -> list[bytes]:
    """Names as rsync deletes them: directories from the last to the first, then all others."""
    return sorted(found, key=lambda name: (stat.S_ISDIR(found[name].st_mode), name), reverse=True)


def _kind(found: os.stat_result) -> str:
    kinds = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "L"}
    return kinds.get(stat.S_IFMT(found.st_mode), "S")

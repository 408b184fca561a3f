"""Names in DEST that the snapshot does not have: which may go. Decides, and removes nothing.

A directory that somebody gives as DEST may hold more than the archive. Unless the user says otherwise
(``Delete.ALL``, ``Delete.NONE``), only that goes which an earlier snapshot of the archive had at the same
path, and which is still as that snapshot had it: it came from there, and it has not been touched since. A
state directory that lies in DEST stays whatever the user says, and so do the directories above it.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Sequence
from enum import StrEnum

from p2psync.format.listing import Entry, Kind
from p2psync.format.paths import join
from p2psync.format.reserved import TEMPORARY_PREFIX
from p2psync.plan.changes import Deletion, Plan
from p2psync.plan.listings import Listings
from p2psync.tree.beneath import Beneath, file_error
from p2psync.tree.survey import survey

Known = dict[bytes, Entry]
"""What an earlier snapshot had in a directory."""


class Delete(StrEnum):
    """What becomes of names in DEST that the snapshot does not have."""

    OWN = "own"
    """Removed if an earlier snapshot of the archive had them and they are as it had them; all else stays."""
    ALL = "all"
    """Removed, as rsync's --delete does."""
    NONE = "none"
    """Kept."""


class Deletions:
    """Decides what may go, as far as the policy allows."""

    def __init__(
        self, listings: Listings, beneath: Beneath, policy: Delete, earlier: Sequence[Entry]
    ) -> None:
        """``earlier`` are the roots of earlier snapshots of the archive, whose listings are read when needed.
        ``beneath`` is used in other threads, by one at a time.
        """
        self._listings = listings
        self._beneath = beneath
        self._policy = policy
        self._earlier = earlier
        self._made: list[Deletion] = []
        self._kept: list[bytes] = []

    async def make_way(self, plan: Plan) -> dict[bytes, bytes | None]:
        """Which of the directories that stand where the snapshot has a file or a link may go when that is
        here, each with the seal (``tree.survey``) that it must have then, None for any.
        """
        may_go: dict[bytes, bytes | None] = {}
        for work in plan.dirs:
            own = self._policy == Delete.OWN and work.conflicts
            known = await self._earlier_in(work.path) if own else []
            for name in work.conflicts:
                path = join(work.path, name)
                if self._beneath.spares(path) or self._policy == Delete.NONE:
                    continue
                if self._policy == Delete.ALL:
                    may_go[path] = None
                    continue
                try:
                    seal = (await asyncio.to_thread(survey, self._beneath, path)).seal
                    if await self._came_from_there(work.path, name, known):
                        may_go[path] = seal
                except OSError:
                    continue  # Gone, or unreadable: then it is looked at when its place is needed.
        return may_go

    async def decide(self, plan: Plan) -> None:
        """Fill in ``plan.deletions`` and ``plan.kept``. Raises FileError where DEST cannot be read."""
        self._made, self._kept = [], []
        for work in plan.dirs:
            if work.extraneous:
                await self._in_directory(work.path, work.extraneous)
        plan.deletions, plan.kept = self._made, self._kept

    async def _in_directory(self, path: bytes, names: Sequence[bytes]) -> None:
        found = await self._look(path)
        known = await self._earlier_in(path) if self._policy == Delete.OWN else []
        going: list[tuple[bytes, bool]] = []
        for name in names:
            if name not in found:
                continue
            if name.startswith(TEMPORARY_PREFIX) and not stat.S_ISDIR(found[name].st_mode):
                going.append((name, False))  # A run that was killed left it: it goes whatever the policy.
                continue
            whole = await self._may_go(path, name, found[name], known)
            if whole is None:
                self._kept.append(join(path, name))
            else:
                going.append((name, whole))
        if going:
            self._made.append(Deletion(path, going))

    async def _may_go(
        self, path: bytes, name: bytes, found: os.stat_result, known: Sequence[Known]
    ) -> bool | None:
        """Whether a name goes: True with all below it, False by itself (what is below it was decided
        before), None if it stays, or something in it.
        """
        where = join(path, name)
        if self._policy == Delete.NONE or where in self._beneath.spared:
            return None
        if self._policy == Delete.ALL and not self._beneath.spares(where):
            return True
        entries = [each[name] for each in known if name in each]
        if not stat.S_ISDIR(found.st_mode):
            untouched = [await self._untouched(path, entry, found) for entry in entries]
            return False if any(untouched) else None
        below = [inner for entry in entries if (inner := await self._listing(entry)) is not None]
        if not below and self._policy != Delete.ALL:
            return None
        return await self._contents_go(where, below)

    async def _contents_go(self, path: bytes, known: Sequence[Known]) -> bool | None:
        """Decide on all that is in a directory; False if all of it goes, None if something stays."""
        going: list[tuple[bytes, bool]] = []
        whole = not self._beneath.spares(path)  # What is spared does not show.
        found = await self._look(path)
        for name in sorted(found):
            each = await self._may_go(path, name, found[name], known)
            if each is None:
                whole = False
            else:
                going.append((name, each))
        if going:
            self._made.append(Deletion(path, going))
        return False if whole else None

    async def _came_from_there(self, path: bytes, name: bytes, known: Sequence[Known]) -> bool:
        """Whether one name and all below it are as earlier snapshots had them."""
        made, self._made = self._made, []
        try:
            found = (await self._look(path)).get(name)
            return found is not None and await self._may_go(path, name, found, known) is False
        finally:
            self._made = made

    async def _look(self, path: bytes) -> dict[bytes, os.stat_result]:
        """What is in a directory of DEST now."""
        return await asyncio.to_thread(_look, self._beneath, path)

    async def _earlier_in(self, path: bytes) -> list[Known]:
        """What earlier snapshots had in the directory ``path``."""
        made: list[Known] = []
        for root in self._earlier:
            entry: Entry | None = root
            for part in path.split(b"/") if path else []:
                inside = await self._listing(entry) if entry is not None else None
                entry = inside.get(part) if inside else None
            if entry is not None and (inside := await self._listing(entry)):
                made.append(inside)
        return made

    async def _listing(self, entry: Entry) -> Known | None:
        """What a directory held; None if it is none, or cannot be had."""
        if entry.kind != Kind.DIR or await self._listings.load([entry.ref]):
            return None
        return {inner.name: inner for inner in self._listings.listing(entry.ref)}

    async def _untouched(self, path: bytes, entry: Entry, found: os.stat_result) -> bool:
        if entry.kind == Kind.FILE:
            return stat.S_ISREG(found.st_mode) and (found.st_size, found.st_mtime_ns) == (
                entry.size,
                entry.mtime_ns,
            )
        if entry.kind == Kind.SYMLINK and stat.S_ISLNK(found.st_mode):
            return await asyncio.to_thread(self._beneath.read_link, path, entry.name) == entry.target
        return False


def _look(beneath: Beneath, path: bytes) -> dict[bytes, os.stat_result]:
    try:
        return beneath.scan(path)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise file_error(error, join(beneath.root, path), "reading the directory") from None

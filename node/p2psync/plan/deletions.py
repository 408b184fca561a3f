"""Names in DEST that the snapshot does not have: which may go, and their removal.

A directory that somebody gives as DEST may hold more than the archive. Unless the user says otherwise
(``Delete.ALL``, ``Delete.NONE``), only that is removed which an earlier snapshot of the archive had at the
same path, and which is still as that snapshot had it: it came from there, and it has not been touched since.
A state directory that lies in DEST stays whatever the user says, and so do the directories above it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from p2psync.fetch.options import Delete
from p2psync.format.listing import Entry, Kind
from p2psync.format.reserved import TEMPORARY_PREFIX
from p2psync.plan.changes import Plan
from p2psync.state import State
from p2psync.state.trees import Tree
from p2psync.supply.manifest import Manifest
from p2psync.tree.beneath import Beneath, file_error, join
from p2psync.tree.survey import survey

Listing = dict[bytes, Entry]


class Removal:
    """Removes what is extraneous, as far as the policy allows."""

    def __init__(
        self,
        state: State,
        tree: Tree,
        manifest: Manifest,
        beneath: Beneath,
        policy: Delete,
        earlier: Sequence[Entry],
    ) -> None:
        """``earlier`` are the roots of earlier snapshots of the archive, whose listings are read when
        needed.
        """
        self._state = state
        self._tree = tree
        self._manifest = manifest
        self._beneath = beneath
        self._policy = policy
        self._earlier = earlier
        self.deleted = 0
        self.kept: list[bytes] = []
        """The names, at the highest level, that stay although the snapshot does not have them."""

    async def make_way(self, plan: Plan) -> dict[bytes, bytes | None]:
        """Which of the directories that stand where the snapshot has a file or a link may go when that is
        here, each with the seal (``aside.survey``) that it must have then, None for any. Nothing is removed.
        """
        may_go: dict[bytes, bytes | None] = {}
        for work in plan.dirs:
            own = self._policy == Delete.OWN and work.conflicts
            listings = await self._earlier_listings(work.path) if own else []
            for name in work.conflicts:
                path = join(work.path, name)
                if self._policy == Delete.ALL:
                    may_go[path] = None
                    continue
                try:
                    found = survey(self._beneath, path)
                    if found.names == 1 or await self._came_from_there(work.path, name, listings):
                        may_go[path] = found.seal
                    else:
                        self.kept.append(path)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # It is gone, or no directory any more.
                except PermissionError:
                    self.kept.append(path)
                except OSError as error:
                    raise file_error(error, path, "reading") from None
        return may_go

    async def run(self, plan: Plan) -> None:
        """Remove what is extraneous."""
        for work in plan.dirs:
            await self._remove_names(work.path, self._without_leftovers(work.path, work.extraneous))

    def _without_leftovers(self, path: bytes, names: Sequence[bytes]) -> list[bytes]:
        """Remove what a writer that was killed left beside files, which is ours; the other names."""
        others: list[bytes] = []
        for name in names:
            if not name.startswith(TEMPORARY_PREFIX):
                others.append(name)
                continue
            try:
                os.unlink(name, dir_fd=self._beneath.dir(path))
            except IsADirectoryError:
                others.append(name)  # No writer makes those.
            except FileNotFoundError:
                continue
            except OSError as error:
                raise file_error(error, join(path, name), "removing") from None
        return others

    async def _remove_names(self, path: bytes, names: Sequence[bytes]) -> None:
        if not names:
            return
        if self._policy == Delete.NONE:
            self.kept += [join(path, name) for name in names]
            return
        listings = await self._earlier_listings(path) if self._policy == Delete.OWN else []
        for name in names:
            try:
                gone = await self._remove(path, name, listings)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise file_error(error, join(path, name), "removing") from None
            if not gone:
                self.kept.append(join(path, name))

    async def _earlier_listings(self, path: bytes) -> list[Listing]:
        """What earlier snapshots had in the directory ``path``."""
        made: list[Listing] = []
        for root in self._earlier:
            entry: Entry | None = root
            for part in path.split(b"/") if path else []:
                listing = await self._listing(entry) if entry is not None else None
                entry = listing.get(part) if listing else None
            if entry is not None and (listing := await self._listing(entry)):
                made.append(listing)
        return made

    async def _listing(self, entry: Entry) -> Listing | None:
        """What a directory held; None if it is none, or cannot be had."""
        if entry.kind != Kind.DIR or await self._manifest.load([entry.ref]):
            return None
        return {inner.name: inner for inner in self._manifest.listing(entry.ref)}

    async def _remove(self, path: bytes, name: bytes, listings: Sequence[Listing]) -> bool:
        """Remove one name with all below it; False if something of it stays."""
        where = join(path, name)
        if where in self._beneath.spared:
            return False
        if self._policy == Delete.ALL and self._beneath.spares(where):
            return await self._remove_dir(path, name, [])
        if self._policy == Delete.ALL:
            self.deleted += self._beneath.remove(path, name)
            self._state.trees.drop_name(self._tree.id, path, name)
            return True
        below, untouched = await self._known(path, name, listings)
        if below:
            return await self._remove_dir(path, name, below)
        if not untouched:
            return False
        os.unlink(name, dir_fd=self._beneath.dir(path))
        self._state.trees.drop_name(self._tree.id, path, name)
        self.deleted += 1
        return True

    async def _came_from_there(self, path: bytes, name: bytes, listings: Sequence[Listing]) -> bool:
        """Whether one name and all below it are as earlier snapshots had them."""
        below, untouched = await self._known(path, name, listings)
        if not below:
            return untouched
        inner = join(path, name)
        for each in os.listdir(self._beneath.dir(inner)):
            if not await self._came_from_there(inner, os.fsencode(each), below):
                return False
        return True

    async def _known(
        self, path: bytes, name: bytes, listings: Sequence[Listing]
    ) -> tuple[list[Listing], bool]:
        """Of a directory, what earlier snapshots had in it; of anything else, whether it is as one had it."""
        known = [listing[name] for listing in listings if name in listing]
        found = os.stat(name, dir_fd=self._beneath.dir(path), follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            return [], any(self._untouched(path, entry, found) for entry in known)
        return [listing for entry in known if (listing := await self._listing(entry)) is not None], False

    async def _remove_dir(self, path: bytes, name: bytes, listings: Sequence[Listing]) -> bool:
        inner = join(path, name)
        fd = self._beneath.dir(inner)
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        names = os.listdir(fd)
        if names and mode & stat.S_IRWXU != stat.S_IRWXU:
            os.fchmod(fd, mode | stat.S_IRWXU)
        whole = True
        for below in names:
            whole = await self._remove(inner, os.fsencode(below), listings) and whole
        if not whole:
            os.fchmod(self._beneath.dir(inner), mode)
        else:
            self._beneath.forget(inner)
            os.rmdir(name, dir_fd=self._beneath.dir(path))
            self._state.trees.drop_name(self._tree.id, path, name)
            self.deleted += 1
        return whole

    def _untouched(self, path: bytes, entry: Entry, found: os.stat_result) -> bool:
        if entry.kind == Kind.FILE:
            return stat.S_ISREG(found.st_mode) and (found.st_size, found.st_mtime_ns) == (
                entry.size,
                entry.mtime_ns,
            )
        if entry.kind == Kind.SYMLINK and stat.S_ISLNK(found.st_mode):
            return os.fsencode(os.readlink(entry.name, dir_fd=self._beneath.dir(path))) == entry.target
        return False

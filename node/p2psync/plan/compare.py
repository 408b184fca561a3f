"""Compare DEST with a snapshot: what is the same is never looked at again, what differs becomes the plan.

A file counts as the same if its size and modification time (in ns) are those of the entry (rsync's quick
check), unless the index knows its content from when it was hashed here: then that decides, and a file that
was touched since is hashed again. ``checksum`` hashes every file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from typing import Final, NamedTuple

from p2psync.errors import FormatError, UsageError
from p2psync.events import Teller
from p2psync.format.ids import EMPTY, Ref
from p2psync.format.limits import DEPTH_MAX, PATH_MAX
from p2psync.format.listing import Entry, Kind, check_totals
from p2psync.format.reserved import RESERVED_NAMES
from p2psync.plan.changes import DirWork, Plan
from p2psync.state import State
from p2psync.state.trees import FileRow, Tree
from p2psync.supply.manifest import Manifest
from p2psync.tree.beneath import Beneath, file_error, join
from p2psync.tree.reading import Truncated, hash_file

DIRS_AT_ONCE: Final = 256
"""Directories whose listings are got in one go, and that are compared without returning to the event loop."""

DIRS_MAX: Final = 1 << 20
"""Directories in what is fetched at once: one that needs work takes some 700 bytes of the plan, and a few
small objects can name a directory any number of times.
"""


class _Dir(NamedTuple):
    """A directory that is still to be compared."""

    path: bytes
    entry: Entry
    exists: bool
    depth: int


class Comparison:
    """One comparison of the directory behind ``beneath`` with a snapshot."""

    def __init__(
        self,
        state: State,
        manifest: Manifest,
        tree: Tree,
        beneath: Beneath | None,
        tell: Teller,
        *,
        checksum: bool = False,
        verify_unknown: bool = False,
    ) -> None:
        """``beneath`` is None where DEST does not exist yet.

        ``verify_unknown`` hashes files that the index does not know instead of trusting their times: a mirror
        must not announce what it has not seen.
        """
        self._state = state
        self._manifest = manifest
        self._tree = tree
        self._beneath = beneath
        self._tell = tell
        self._checksum = checksum
        self._verify_unknown = verify_unknown
        self._stopped = False

    async def run(self, root: Entry, previous: Entry | None) -> Plan:
        """Compare all below ``root``; ``previous`` is the root that DEST had before, if that is known."""
        if root.totals.dirs > DIRS_MAX:
            raise FormatError(
                f"the archive has {root.totals.dirs} directories, which is more than can be fetched at once "
                f"({DIRS_MAX}); fetch a part of it, with /PATH behind its URL"
            )
        plan = Plan(root)
        older = {} if previous is None else {b"": previous.ref}
        waiting = [_Dir(b"", root, self._beneath is not None, 0)]
        while waiting:
            batch = [waiting.pop() for _ in range(min(DIRS_AT_ONCE, len(waiting)))]
            batch.sort(key=lambda item: item.path)
            await self._read_listings(batch, older, plan)
            waiting.extend(reversed(await self._in_thread(batch, plan, older)))
        return plan

    async def _in_thread(self, batch: list[_Dir], plan: Plan, older: dict[bytes, Ref]) -> list[_Dir]:
        """Compare a batch beside the event loop. Who cancels this may close DEST afterwards: the thread has
        ended then.
        """
        work = asyncio.ensure_future(asyncio.to_thread(self._compare_batch, batch, plan, older))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            self._stopped = True
            await asyncio.wait([work])
            raise

    async def _read_listings(self, batch: list[_Dir], older: dict[bytes, Ref], plan: Plan) -> None:
        predecessors = {item.entry.ref: older[item.path] for item in batch if item.path in older}
        missing = set(await self._manifest.load((item.entry.ref for item in batch), predecessors))
        for item in [item for item in batch if item.entry.ref in missing]:
            plan.unread.append(item.path)
            batch.remove(item)

    def _compare_batch(self, batch: list[_Dir], plan: Plan, older: dict[bytes, Ref]) -> list[_Dir]:
        inner: list[_Dir] = []
        checked: list[tuple[bytes, list[FileRow]]] = []
        for item in batch:
            if self._stopped:
                break
            found, rows = self._compare_dir(item, plan, older)
            inner += found
            if rows:
                checked.append((item.path, rows))
        if checked:
            # Only now, so that no other writer waits while files are hashed.
            with self._state.transaction():
                for path, rows in checked:
                    self._state.trees.put_files(self._tree.id, path, rows)
        return inner

    def _compare_dir(
        self, item: _Dir, plan: Plan, older: dict[bytes, Ref]
    ) -> tuple[list[_Dir], list[FileRow]]:
        path, entry, exists, depth = item
        if depth > DEPTH_MAX or len(path) > PATH_MAX:
            raise FormatError(
                f"the archive nests directories deeper than {DEPTH_MAX}, or has paths over {PATH_MAX} bytes"
            )
        entries = self._manifest.listing(entry.ref)
        # Also what bounds the walk: a bomb of repeated directories would have to declare its true size.
        check_totals(entry, entries)
        self._tell.advance(0, sum(each.kind == Kind.FILE for each in entries))
        if not path and any(e.name in RESERVED_NAMES for e in entries):
            raise FormatError(
                "the archive has a folder at its root that p2psync keeps for itself; nothing was fetched"
            )
        self._spare(path, entries)
        on_disk = self._scan(path) if exists else {}
        own = on_disk.pop(b"", None)
        work = DirWork(path, entry.ref, entry.mode, entry.mtime_ns, exists)
        work.retouch = own is None or not self._same_metadata(own, entry)
        inner: list[_Dir] = []
        rows = self._state.trees.files_in(self._tree.id, path) if on_disk else {}
        checked: list[FileRow] = []
        for position, wanted in enumerate(entries):
            if self._stopped:
                break
            found = on_disk.pop(wanted.name, None)
            if wanted.kind == Kind.DIR:
                there = found is not None and stat.S_ISDIR(found.st_mode)
                work.retouch = work.retouch or not there
                inner.append(_Dir(join(path, wanted.name), wanted, there, depth + 1))
                continue
            if found is not None and stat.S_ISDIR(found.st_mode):
                work.conflicts.append(wanted.name)
            if wanted.kind == Kind.SYMLINK:
                if not self._same_symlink(path, wanted, found):
                    work.symlinks.append(position)
            else:
                self._compare_file(work, position, wanted, found, rows.get(wanted.name), checked, plan)
        work.extraneous = sorted(on_disk)
        if work.changes or work.retouch:
            plan.dirs.append(work)
        self._note_predecessors(path, older, inner)
        return inner, checked

    def _spare(self, path: bytes, entries: list[Entry]) -> None:
        """Refuse an archive that wants the place of what is spared in DEST. Raises UsageError."""
        beneath = self._beneath
        if beneath is None or not beneath.spares(path):
            return
        for entry in entries:
            inner = join(path, entry.name)
            if inner in beneath.spared or (entry.kind != Kind.DIR and beneath.spares(inner)):
                own = ", ".join(os.fsdecode(join(beneath.root, each)) for each in beneath.spared)
                raise UsageError(
                    f"the archive has {os.fsdecode(inner)!r}, where the state directory {own!r} lies; "
                    "fetch into another directory, or name another state directory with --state"
                )

    def _note_predecessors(self, path: bytes, older: dict[bytes, Ref], inner: list[_Dir]) -> None:
        """Hand the known older listings on, from a directory to those in it."""
        was = older.pop(path, None)
        if was is None or not self._state.meta.has(was.digest):
            return
        before = {e.name: e.ref for e in self._manifest.listing(was) if e.kind == Kind.DIR}
        for item in inner:
            ref = before.get(item.entry.name)
            if ref is not None:
                older[item.path] = ref

    def _scan(self, path: bytes) -> dict[bytes, os.stat_result]:
        """What is in a directory of DEST; under the name b"" the directory itself."""
        if self._beneath is None:
            return {}
        try:
            fd = self._beneath.dir(path)
            made = {b"": os.fstat(fd)}
            with os.scandir(fd) as entries:
                for found in entries:
                    name = os.fsencode(found.name)
                    if (not path and name in RESERVED_NAMES) or join(path, name) in self._beneath.spared:
                        continue
                    with contextlib.suppress(FileNotFoundError):  # Gone again: others may work in DEST too.
                        made[name] = found.stat(follow_symlinks=False)
        except OSError as error:
            raise file_error(error, join(self._beneath.root, path), "reading the directory") from None
        return made

    def _same_symlink(self, path: bytes, wanted: Entry, found: os.stat_result | None) -> bool:
        if found is None or not stat.S_ISLNK(found.st_mode) or self._beneath is None:
            return False
        try:
            target = os.fsencode(os.readlink(wanted.name, dir_fd=self._beneath.dir(path)))
        except OSError:
            return False  # Replaced since it was listed.
        return target == wanted.target and found.st_mtime_ns == wanted.mtime_ns

    def _same_metadata(self, found: os.stat_result, wanted: Entry) -> bool:
        return stat.S_IMODE(found.st_mode) == wanted.mode and found.st_mtime_ns == wanted.mtime_ns

    def _compare_file(
        self,
        work: DirWork,
        position: int,
        wanted: Entry,
        found: os.stat_result | None,
        row: FileRow | None,
        checked: list[FileRow],
        plan: Plan,
    ) -> None:
        if found is None or not stat.S_ISREG(found.st_mode):
            same = False
        else:
            same = self._same_content(work.path, wanted, found, row, checked)
            if not same and found.st_size:
                work.replaced.append(position)
        if not same:
            work.content.append(position)
            plan.files += 1
            plan.size += wanted.size
            return
        plan.kept_files += 1
        plan.kept_bytes += wanted.size
        if found is not None and not self._same_metadata(found, wanted):
            work.metadata.append(position)

    def _same_content(
        self, path: bytes, wanted: Entry, found: os.stat_result, row: FileRow | None, checked: list[FileRow]
    ) -> bool:
        if found.st_size != wanted.size:
            return False
        untouched = row is not None and (row.size, row.mtime_ns, row.ctime_ns, row.ino) == (
            found.st_size,
            found.st_mtime_ns,
            found.st_ctime_ns,
            found.st_ino,
        )
        if untouched and row is not None and not self._checksum:
            return row.digest == wanted.digest
        if row is None and not (self._checksum or self._verify_unknown):
            if found.st_mtime_ns != wanted.mtime_ns:
                return False
            digest = wanted.digest
        else:
            read = self._hash(path, wanted.name, found.st_size)
            if read is None:
                return False
            digest = read
        checked.append(file_row(wanted.name, found, digest))
        return digest == wanted.digest

    def _hash(self, path: bytes, name: bytes, size: int) -> bytes | None:
        """The digest of a file; None where it cannot be read as it was listed, and is to be made anew."""
        assert self._beneath is not None  # noqa: S101 - there is a file to hash
        if not size:
            return EMPTY.digest
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, dir_fd=self._beneath.dir(path))
        except OSError:
            return None
        try:
            ref, recipe = hash_file(fd, size)
        except (OSError, Truncated):
            return None  # It is being written to, or the disk has lost it.
        finally:
            os.close(fd)
        if recipe is not None:
            self._state.meta.put_recipe(ref.digest, recipe)
        return ref.digest


def file_row(name: bytes, found: os.stat_result, digest: bytes) -> FileRow:
    """The index row of a file whose content is known."""
    return FileRow(name, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, digest)

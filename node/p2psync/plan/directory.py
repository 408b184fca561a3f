"""Compare one directory of DEST, name by name, with its listing."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from p2psync.errors import FormatError, UsageError
from p2psync.format.ids import Ref
from p2psync.format.limits import DEPTH_MAX, PATH_MAX
from p2psync.format.listing import Entry, Kind, check_totals
from p2psync.format.marks import is_carried, is_part, may_lack
from p2psync.format.paths import join, split
from p2psync.format.reserved import RESERVED_NAMES
from p2psync.plan.changes import DirWork, Plan
from p2psync.plan.files import FileComparison
from p2psync.plan.folding import folded, told
from p2psync.plan.listings import Listings
from p2psync.plan.missing import NOTED_MAX, Missing, Seen
from p2psync.plan.receiving import EVERYTHING, Receiving
from p2psync.state import State
from p2psync.state.trees import DirRow, FileRow, Tree
from p2psync.tree.beneath import Beneath, file_error
from p2psync.tree.stamp import Row, directory_stamp

Scan = dict[bytes, os.stat_result]


class Item(NamedTuple):
    """A directory that is still to be compared."""

    path: bytes
    ref: Ref
    """The listing that it should have."""
    entry: Entry | None
    """None where the directory above it was not read: then it is looked up there, if it is needed."""
    exists: bool
    depth: int
    above: tuple[bytes, Ref] | None = None
    """Path and listing of the directory that it is in, where ``entry`` is None."""
    row: DirRow | None = None
    """What the index has of it."""
    carried: bool = False
    """Whether it, or a directory that it is in, stands as it did in an earlier snapshot."""
    is_gone: bool = False
    """Whether it does not exist, but the directory that it would be in does, or it is DEST itself."""


class DirectoryComparison:
    """Compares directories, in a thread of its own."""

    def __init__(
        self,
        state: State,
        listings: Listings,
        tree: Tree,
        beneath: Beneath | None,
        *,
        checksum: bool,
        verify_unknown: bool,
        receiving: Receiving = EVERYTHING,
    ) -> None:
        """See ``plan.compare.Comparison``."""
        self._receiving = receiving
        self._state = state
        self._listings = listings
        self._tree = tree
        self._beneath = beneath
        self._files = FileComparison(
            state, beneath, checksum=checksum, verify_unknown=verify_unknown, receiving=receiving
        )
        self._missing = Seen(receiving)
        self._above: tuple[Ref, dict[bytes, Entry]] | None = None
        self._is_indexed = not state.trees.is_empty(tree)
        self.stopped = False
        """Set to end a comparison that is going on in another thread."""

    def same_root(self, root: Entry) -> bool:
        """Whether DEST itself has its mode and time: no directory's stamp covers these."""
        if self._beneath is None:
            return False
        found = os.fstat(self._beneath.dir(b""))
        return self._is_dressed(stat.S_IMODE(found.st_mode), found.st_mtime_ns, root)

    def compare(
        self, batch: list[Item], plan: Plan, older: dict[bytes, Ref], with_rows: bool
    ) -> tuple[list[Item], int]:
        """Compare some directories; returns the directories inside them, and how many files were compared.
        ``with_rows``: look up the index rows of the directories inside them.
        """
        inner: list[Item] = []
        files = 0
        checked: list[tuple[bytes, list[FileRow], DirRow | None]] = []
        gone: list[bytes] = []
        for item in batch:
            if self.stopped:
                break
            if item.is_gone and self._is_indexed:
                gone.append(item.path)
            known = self._known_to_be_missing(item, plan, inner, older)
            if known is not None:
                files += known
                continue
            entries, rows, row = self._compare_one(item, plan, inner, with_rows)
            files += sum(each.kind is Kind.FILE for each in entries)
            self._note_predecessors(item, entries, older)
            if rows or row is not None:
                checked.append((item.path, rows, row))
        if checked or gone:
            # Only now, so that no other writer waits while files are hashed.
            with self._state.transaction():
                for path in gone:
                    # Or each file that was in it would be looked for where it was, when it is fetched again.
                    self._state.trees.drop_dir(self._tree.id, path)
                for path, rows, row in checked:
                    if row is None:
                        self._state.trees.put_files(self._tree.id, path, rows)
                    else:
                        self._state.trees.put_directory(self._tree.id, path, row, rows)
        return inner, files

    def _compare_one(
        self, item: Item, plan: Plan, inner: list[Item], with_rows: bool
    ) -> tuple[list[Entry], list[FileRow], DirRow | None]:
        """Returns its listing, the rows of files that the index is to have, and the directory's own row if
        everything in it is as it should be (then the rows are those of all its files).
        """
        path = item.path
        entry, entries = self._accept(item)
        carried = item.carried or is_carried(entry)
        work = self._work_of(item, entry)
        if not item.exists:
            missing = self._missing.of(item, entry.totals, entries)
            plan.want((entries[at] for at in missing.files), repeated=missing.times >= NOTED_MAX)
            plan.left_bytes += missing.left_bytes
            plan.leaves |= missing.leaves
            self._all_is_missing(work, missing, item, plan, inner)
            return entries, [], None
        try:
            found, own, work.ino = self._scan(path)
        except OSError as error:
            self._refused(path, entry, error, plan)
            return entries, [], None
        work.retouch = not self._is_dressed(*own, entry)
        names = dict(found)
        known = self._state.trees.files_in(self._tree.id, path) if names else {}
        rows_below = self._state.trees.dirs_in(self._tree.id, path) if with_rows else {}
        checked: list[FileRow] = []
        same_name = self._folded(path, entries, found)
        settled, left = not same_name, False
        for position, wanted in enumerate(entries):
            if self.stopped:
                break
            there = names.pop(wanted.name, None)
            if wanted.name in same_name:
                there = self._as_another(path, wanted, same_name[wanted.name], entries, names, plan)
                if there is None:
                    continue
            if self._receiving.leaves(wanted, path, there):
                left = True
                plan.left_bytes += wanted.below.bytes
            elif wanted.kind is Kind.DIR:
                below, dressed = self._inside(item, wanted, there, rows_below, carried)
                work.retouch = work.retouch or not below.exists
                settled = settled and dressed
                inner.append(below)
            else:
                row = known.get(wanted.name)
                left |= self._files.compare(work, position, wanted, there, row, checked, plan)
        plan.leaves |= left
        work.guarded = sorted(name for name in names if carried or may_lack(entry, name))
        work.extraneous = [] if is_part(entry) else sorted(names.keys() - work.guarded)
        if work.changes or work.retouch or not settled:
            plan.dirs.append(work)
        if work.changes or not settled or left or self.stopped:
            return entries, checked, None
        return entries, *self._row(item, entry, entries, found, known, checked)

    def _inside(
        self,
        item: Item,
        wanted: Entry,
        there: os.stat_result | None,
        rows: dict[bytes, DirRow],
        carried: bool,
    ) -> tuple[Item, bool]:
        """The directory ``wanted`` in the one of ``item``, to be compared, and whether it has its own mode
        and time.
        """
        is_there = there is not None and stat.S_ISDIR(there.st_mode)
        dressed = (
            is_there
            and there is not None
            and self._is_dressed(stat.S_IMODE(there.st_mode), there.st_mtime_ns, wanted)
        )
        # Its own mode and time are not in its stamp: where they differ, it is looked into.
        row = rows.get(wanted.name) if dressed else None
        path = join(item.path, wanted.name)
        inside = Item(path, wanted.ref, wanted, is_there, item.depth + 1, None, row, carried, not is_there)
        return inside, dressed

    def _refused(self, path: bytes, entry: Entry, error: OSError, plan: Plan) -> None:
        """A directory of DEST cannot be read. Raises FileError if it is DEST itself."""
        if not path and self._beneath is not None:
            raise file_error(error, self._beneath.root, "reading the directory") from None
        plan.refused.append(f"{os.fsdecode(path)!r}: the directory cannot be read ({error.strerror})")
        plan.unread_bytes += entry.totals.bytes

    def _accept(self, item: Item) -> tuple[Entry, list[Entry]]:
        """The entry of a directory and its listing, within what any archive may have. Raises FormatError."""
        if _is_too_deep(item):
            raise FormatError(
                f"the archive nests directories deeper than {DEPTH_MAX}, or has paths over {PATH_MAX} bytes"
            )
        entry = item.entry if item.entry is not None else self._look_up(item)
        entries = self._listings.listing(item.ref)
        # Also what bounds the walk: a bomb of repeated directories would have to declare its true size.
        check_totals(entry, entries)
        if not item.path and any(each.name in RESERVED_NAMES for each in entries):
            raise FormatError(
                "the archive has a folder at its root that p2psync keeps for itself; nothing was fetched"
            )
        self._spare(item.path, entries)
        return entry, entries

    def _row(
        self,
        item: Item,
        entry: Entry,
        entries: list[Entry],
        found: Scan,
        known: dict[bytes, FileRow],
        checked: list[FileRow],
    ) -> tuple[list[FileRow], DirRow | None]:
        """All rows of a directory in which everything is as it should be, and its own row with a stamp."""
        rows = {row.name: row for row in checked}
        for each in entries:
            if each.kind is Kind.FILE and each.name not in rows:
                rows[each.name] = known[each.name]
        inner = tuple((each.name, each.ref) for each in entries if each.kind is Kind.DIR)
        stamp = directory_stamp([stamp_row(name, found[name]) for name in sorted(found)])
        ino = os.fstat(self._beneath.dir(item.path)).st_ino if self._beneath is not None else 0
        return list(rows.values()), DirRow(stamp, item.ref, entry.totals, ino, inner)

    def _known_to_be_missing(
        self, item: Item, plan: Plan, inner: list[Item], older: dict[bytes, Ref]
    ) -> int | None:
        """Plan a directory that is not there and has a listing that was met before, which is not read again;
        how many files are in it. None where it has to be.
        """
        entry = item.entry
        if item.exists or entry is None or not item.path or item.path in older or _is_too_deep(item):
            return None
        missing = self._missing.known(item, entry.totals)
        if missing is None or (self._beneath is not None and self._beneath.spares(item.path)):
            return None
        plan.files += len(missing.files)
        plan.size += missing.size
        plan.left_bytes += missing.left_bytes
        plan.leaves |= missing.leaves
        self._all_is_missing(self._work_of(item, entry), missing, item, plan, inner)
        return len(missing.files)

    def _all_is_missing(
        self, work: DirWork, missing: Missing, item: Item, plan: Plan, inner: list[Item]
    ) -> None:
        """Plan a directory that is not there."""
        missing.fill_in(work)
        plan.dirs.append(work)
        for wanted in missing.dirs:
            path = join(work.path, wanted.name)
            inner.append(Item(path, wanted.ref, wanted, False, item.depth + 1))

    def _look_up(self, item: Item) -> Entry:
        """The entry of a directory, from the listing of the one that it is in."""
        assert item.above is not None  # noqa: S101 - so it is for every item without an entry
        _, ref = item.above
        if self._above is None or self._above[0] != ref:
            inside = {each.name: each for each in self._listings.listing(ref) if each.kind is Kind.DIR}
            self._above = (ref, inside)
        return self._above[1][split(item.path)[1]]

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

    def _note_predecessors(self, item: Item, entries: list[Entry], older: dict[bytes, Ref]) -> None:
        """Hand the known older listings on, from a directory to those in it."""
        was = older.pop(item.path, None)
        if was is None or not self._state.meta.has(was.digest):
            return
        before = {e.name: e.ref for e in self._listings.listing(was) if e.kind == Kind.DIR}
        for entry in entries:
            ref = before.get(entry.name) if entry.kind is Kind.DIR else None
            if ref is not None:
                older[join(item.path, entry.name)] = ref

    def _folded(self, path: bytes, entries: list[Entry], found: Scan) -> dict[bytes, bytes]:
        """Names of the listing that stand in DEST under others, which may be names of the listing too."""
        if self._beneath is None or not found:
            return {}
        return folded(self._beneath, path, (each.name for each in entries if each.name not in found), found)

    def _as_another(
        self,
        path: bytes,
        wanted: Entry,
        other: bytes,
        entries: list[Entry],
        names: Scan,
        plan: Plan,
    ) -> os.stat_result | None:
        """What stands in DEST under ``other``, which is the name of an entry too to this file system; None
        where that is another one of the listing, which keeps its place.
        """
        there = None if any(each.name == other for each in entries) else names.pop(other, None)
        if there is None:
            plan.refused.append(told(path, wanted.name, other))
            plan.unread_bytes += wanted.below.bytes
        return there

    def _scan(self, path: bytes) -> tuple[Scan, tuple[int, int], int]:
        """What is in a directory of DEST, its own mode and time, and its inode. Raises OSError."""
        if self._beneath is None:
            return {}, (-1, -1), 0
        mode, found = self._beneath.mode(path), os.fstat(self._beneath.dir(path))
        return self._beneath.scan(path), (mode, found.st_mtime_ns), found.st_ino

    def _is_dressed(self, mode: int, mtime_ns: int, wanted: Entry) -> bool:
        """Whether mode and time of a directory are as they are to be."""
        receiving = self._receiving
        same_time = receiving.omit_dir_times or receiving.same_time(mtime_ns, wanted.mtime_ns)
        return mode == wanted.mode and same_time

    def _work_of(self, item: Item, entry: Entry) -> DirWork:
        mtime_ns = None if self._receiving.omit_dir_times else entry.mtime_ns
        return DirWork(item.path, item.ref, entry.mode, mtime_ns, item.exists, entry.totals)


def _is_too_deep(item: Item) -> bool:
    return item.depth > DEPTH_MAX or len(item.path) > PATH_MAX


def stamp_row(name: bytes, found: os.stat_result) -> Row:
    """How a name enters the stamp of its directory (``tree.stamp``)."""
    return (name, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)

"""Compare a file or link in DEST with its entry."""

from __future__ import annotations

import os
import stat
import time

from p2psync.format.ids import EMPTY
from p2psync.format.listing import Entry, Kind
from p2psync.plan.changes import DirWork, Plan
from p2psync.plan.receiving import Receiving
from p2psync.state import State
from p2psync.state.rows import was_put
from p2psync.state.trees import FileRow
from p2psync.tree.beneath import Beneath
from p2psync.tree.reading import Truncated, hash_file


class FileComparison:
    """Compares one at a time."""

    def __init__(
        self,
        state: State,
        beneath: Beneath | None,
        *,
        checksum: bool,
        verify_unknown: bool,
        receiving: Receiving,
    ) -> None:
        """See ``plan.compare.Comparison``."""
        self._state = state
        self._beneath = beneath
        self._checksum = checksum
        self._verify_unknown = verify_unknown
        self._receiving = receiving
        self._now_ns = time.time_ns()

    def compare(
        self,
        work: DirWork,
        position: int,
        wanted: Entry,
        found: os.stat_result | None,
        row: FileRow | None,
        checked: list[FileRow],
        plan: Plan,
    ) -> bool:
        """Note what a file or link needs, of which ``row`` is what the index has; whether options leave it
        otherwise than the snapshot has it.
        """
        if found is not None and stat.S_ISDIR(found.st_mode):
            work.conflicts.append(wanted.name)
        if wanted.kind is Kind.SYMLINK:
            if not self._same_symlink(work.path, wanted, found):
                work.symlinks.append(position)
            return False
        if found is None or not stat.S_ISREG(found.st_mode):
            differs = True
        else:
            differs = self._content_differs(work.path, wanted, found, row, checked)
            trusted = differs and found.st_size == wanted.size and self._trusts(found, wanted)
            if trusted and not self._checksum:
                if not self._has_attributes(found, wanted):
                    work.metadata.append(position)
                return True
            if differs and found.st_size:
                work.replaced.append(position)
        if differs:
            work.content.append(position)
            plan.want([wanted])
        elif found is not None and not self._has_attributes(found, wanted):
            work.metadata.append(position)
        return found is not None and not differs and found.st_mtime_ns != wanted.mtime_ns

    def _trusts(self, found: os.stat_result, wanted: Entry) -> bool:
        """Whether options take a file of the right size for the one that is wanted, though what is known of
        it says otherwise.
        """
        window = self._receiving.modify_window
        return self._receiving.size_only or (
            window > 0 and self._receiving.same_time(found.st_mtime_ns, wanted.mtime_ns)
        )

    def _has_attributes(self, found: os.stat_result, wanted: Entry) -> bool:
        same_time = self._receiving.same_time(found.st_mtime_ns, wanted.mtime_ns)
        return same_time and stat.S_IMODE(found.st_mode) == wanted.mode

    def _content_differs(
        self, path: bytes, wanted: Entry, found: os.stat_result, row: FileRow | None, checked: list[FileRow]
    ) -> bool:
        """Whether the content of a file has to be got."""
        if found.st_size != wanted.size:
            return True
        untouched = row is not None and row[1:5] == (
            found.st_size,
            found.st_mtime_ns,
            found.st_ctime_ns,
            found.st_ino,
        )
        if untouched and row is not None and not self._checksum:
            return row.digest != wanted.digest
        digest: bytes | None = None
        if row is None and not (self._checksum or self._verify_unknown):
            if found.st_mtime_ns == wanted.mtime_ns:
                digest = wanted.digest
            elif not self._trusts(found, wanted):
                return True
        if digest is None:
            digest = self._hash(path, wanted.name, found.st_size)
            if digest is None:
                return True
        # What was found here stays somebody else's, unless it is what was put here.
        put = row is not None and was_put(row) and row.digest == digest
        checked.append(file_row(wanted.name, found, digest, 0 if put else self._now_ns))
        return digest != wanted.digest

    def _hash(self, path: bytes, name: bytes, size: int) -> bytes | None:
        """The digest of a file; None where it cannot be read as it was listed, and is to be made anew."""
        assert self._beneath is not None  # noqa: S101 - there is a file to hash
        if not size:
            return EMPTY.digest
        try:
            fd = self._beneath.open_file(path, name)
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

    def _same_symlink(self, path: bytes, wanted: Entry, found: os.stat_result | None) -> bool:
        if found is None or not stat.S_ISLNK(found.st_mode) or self._beneath is None:
            return False
        try:
            target = self._beneath.read_link(path, wanted.name)
        except OSError:
            return False  # Replaced since it was listed.
        return target == wanted.target and self._receiving.same_time(found.st_mtime_ns, wanted.mtime_ns)


def same_attributes(found: os.stat_result, wanted: Entry) -> bool:
    """Whether mode and time of a file or directory are those of its entry."""
    return found.st_mtime_ns == wanted.mtime_ns and stat.S_IMODE(found.st_mode) == wanted.mode


def file_row(name: bytes, found: os.stat_result, digest: bytes, hashed_ns: int) -> FileRow:
    """The index row of a file whose content is known."""
    return FileRow(name, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, digest, hashed_ns)

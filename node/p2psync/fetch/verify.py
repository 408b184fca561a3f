"""Checking what is on disk against a manifest: what is missing, different or extra. Reads, changes nothing.

Quick looks at names, kinds, sizes, modes and times; full, the default, reads each file as well and compares
every chunk. Chunks are compared with the recipe where the state has it, so that the damaged part of a large
file is known. What should be there is ``fetch.expected``'s.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from p2psync.errors import FileError, FormatError, show_path
from p2psync.events import SILENT, Teller
from p2psync.fetch.expected import Expected, NotHereError, read_listing
from p2psync.format.ids import chunk_id
from p2psync.format.limits import SINGLE_CHUNK_MAX
from p2psync.format.listing import Entry, Kind, Totals, add_totals, without_special_bits
from p2psync.format.marks import is_part
from p2psync.format.paths import join, split
from p2psync.format.recipe import Recipe
from p2psync.state import FileRow, State
from p2psync.tree import reading
from p2psync.tree.report import Report
from p2psync.tree.scan import (
    DIRECTORY_FLAGS,
    FILE_FLAGS,
    Found,
    TooManyEntries,
    open_directory,
    read_link,
    scan_directory,
)


class Difference(StrEnum):
    """How a path differs from the manifest."""

    MISSING = "missing"
    EXTRA = "extra"
    KIND = "kind"
    CONTENT = "content"
    MODE = "mode"
    MTIME = "mtime"
    UNREADABLE = "unreadable"
    OUTDATED = "outdated"
    """As an earlier fetch left it; the last one did not come to its end."""


class Finding(NamedTuple):
    """One difference at one path (relative to what was looked at, whose own is b"", or of a file its name).
    `detail` says more, for people.
    """

    path: bytes
    difference: Difference
    detail: str = ""


class Verification:
    """One walk over the manifest and the tree side by side. In it, paths are those of the tree."""

    def __init__(self, state: State, expected: Expected, *, full: bool = True, tell: Teller = SILENT) -> None:
        self._state = state
        self._expected = expected
        self._full = full
        self._tell = tell
        self._hidden = state.within(expected.tree)
        self._read = 0  # bytes of the current file that were told of
        self._found: list[Finding] = []
        self._rows: tuple[bytes, int, bytes, dict[bytes, FileRow]] | None = None
        self.left_out = Totals()
        """What the archive has and the rules leave out, as far as it was come by."""

    def run(self) -> Iterator[Finding]:
        """Yield what differs, directory by directory, sorted by name in each.

        Raises FileError: the directory cannot be read, or the state lacks a part of the manifest.
        """
        expected = self._expected
        self._tell.phase("verifying", expected.totals.bytes if self._full else None, expected.totals.files)
        # Directories that are open, each with those in it that are still to be entered.
        stack: list[tuple[int, bytes, list[Entry]]] = []
        try:
            fd = os.open(expected.tree, DIRECTORY_FLAGS)
        except OSError as error:
            raise FileError(f"{show_path(expected.tree)} cannot be read: {error.strerror}") from error
        try:
            stack.append((fd, b"", []))
            self._begin(fd, stack)
            yield from self._take()
            while stack:
                parent_fd, parent, inner = stack[-1]
                if not inner:
                    stack.pop()
                    os.close(parent_fd)
                    continue
                entry = inner.pop()
                path = join(parent, entry.name)
                report = Report(SILENT)
                opened = open_directory(entry.name, parent_fd, path, report)
                if opened is None:
                    self._note_report(path, report)
                else:
                    inner = []
                    stack.append((opened, path, inner))
                    inner += self._directory(opened, path, entry)
                yield from self._take()
        finally:
            for opened, _, _ in stack:
                os.close(opened)

    def _begin(self, fd: int, stack: list[tuple[int, bytes, list[Entry]]]) -> None:
        """Compare what was asked for; directories that are to be entered go onto the stack."""
        path, entry = self._expected.path, self._expected.entry
        if not path:
            if entry is not None and not is_part(entry):
                self._attributes(b"", entry, Found.of(b"", os.fstat(fd)))
            stack[-1][2].extend(self._directory(fd, b"", entry))
            return
        parent, name = split(path)
        above = b""
        for each in parent.split(b"/") if parent else []:
            above = join(above, each)
            report = Report(SILENT)
            opened = open_directory(each, fd, above, report)
            if opened is None:
                self._note_report(path, report)
                return
            fd = opened
            stack.append((fd, above, []))
        try:
            row = Found.of(name, os.stat(name, dir_fd=fd, follow_symlinks=False))
        except FileNotFoundError:
            if entry is not None:
                self._note(path, Difference.MISSING)
                self._tell.advance(entry.below.bytes, entry.below.files)
            return
        except OSError as error:
            self._note(path, Difference.UNREADABLE, error.strerror or "")
            return
        if entry is None:
            self._note(path, Difference.EXTRA)
        elif self._entry(fd, path, entry, row):
            stack[-1][2].append(entry)

    def _take(self) -> list[Finding]:
        found, self._found = self._found, []
        base = self._expected.path
        if not base:
            return found
        inside = base + b"/"
        single = self._expected.entry is None or self._expected.entry.kind is not Kind.DIR
        own = split(base)[1] if single else b""
        return [
            finding._replace(path=own if finding.path == base else finding.path.removeprefix(inside))
            for finding in found
        ]

    def _note(self, path: bytes, difference: Difference, detail: str = "") -> None:
        self._found.append(Finding(path, difference, detail))

    def _note_report(self, path: bytes, report: Report) -> None:
        gone = report.vanished and not report.unread
        self._note(path, Difference.MISSING if gone else Difference.UNREADABLE, " ".join(report.warnings[:1]))

    def _directory(self, fd: int, path: bytes, entry: Entry | None) -> list[Entry]:
        """Compare one directory, or the single files in it; returns the directories in it that are there, the
        first by name last.
        """
        rules = self._expected.rules
        try:
            wanted = [] if entry is None else read_listing(self._state, entry)
        except NotHereError:
            if self._expected.complete:
                raise
            self._note(path, Difference.MISSING, "what should be in it was not to be had")
            return []
        try:
            rows = scan_directory(fd, path, rules, Report(SILENT), self._hidden)
        except (OSError, TooManyEntries) as error:
            self._note(path, Difference.UNREADABLE, str(error))
            return []
        if not path and self._expected.names:
            names = self._expected.names
            wanted = sorted([*(each for each in wanted if each.name not in names), *names.values()])
        here = {row.name: row for row in rows}
        inner = []
        scope = rules.scope(path)
        for one in wanted:
            if scope.hides(one.name, one.kind == Kind.DIR):
                self.left_out = add_totals([self.left_out, one.below])
                self._tell.advance(one.below.bytes, one.below.files)
                continue
            row = here.pop(one.name, None)
            if row is None:
                self._note(join(path, one.name), Difference.MISSING)
                self._pass_over(one.below.bytes, one.below.files)
            elif self._entry(fd, join(path, one.name), one, row):
                inner.append(one)
        for name in here if entry is not None and not is_part(entry) else ():
            self._note(join(path, name), Difference.EXTRA)
        self._found.sort(key=lambda finding: finding.path)
        inner.reverse()
        return inner

    def _entry(self, fd: int, path: bytes, entry: Entry, row: Found) -> bool:
        """Compare one name; whether it is a directory to enter."""
        kind = Kind.DIR if row.is_dir else Kind.FILE if row.is_file else Kind.SYMLINK
        if kind != entry.kind:
            self._note(path, Difference.KIND, f"a {kind.name.lower()}, not a {entry.kind.name.lower()}")
            return False
        if kind == Kind.DIR:
            self._attributes(path, entry, row)
            return True
        before = len(self._found)
        self._attributes(path, entry, row)
        if kind == Kind.FILE:
            self._file(fd, path, entry, row)
        else:
            self._link(fd, path, entry, row)
        is_other = any(found.difference is Difference.CONTENT for found in self._found[before:])
        if is_other and not self._expected.complete and self._is_as_it_was(fd, path, row):
            del self._found[before:]
            self._note(path, Difference.OUTDATED)
        return False

    def _is_as_it_was(self, fd: int, path: bytes, row: Found) -> bool:
        """Whether a file or link still is what an earlier fetch put there."""
        directory, name = split(path)
        if self._rows is None or self._rows[0] != directory:
            self._rows = (directory, *self._known_in(directory))
        _, tree_id, inner, rows = self._rows
        if not row.is_file:
            made = self._state.made.of(tree_id, inner, [name])
            return name in made and made[name] == read_link(name, fd, path, Report(SILENT))
        known = rows.get(name)
        return known is not None and known[1:5] == (row.size, row.mtime_ns, row.ctime_ns, row.ino)

    def _known_in(self, directory: bytes) -> tuple[int, bytes, dict[bytes, FileRow]]:
        """The tree that a directory is in, the way to it from there, and the index rows of its files."""
        place = self._expected.tree
        tree, inner = self._state.trees.get(place), directory
        if tree is None:  # Those in it are trees.
            name, _, inner = directory.partition(b"/")
            tree = self._state.trees.get(os.path.join(place, name))
        return (0, b"", {}) if tree is None else (tree.id, inner, self._state.trees.files_in(tree.id, inner))

    def _attributes(self, path: bytes, entry: Entry, row: Found) -> None:
        if entry.kind == Kind.DIR and not self._expected.complete:
            return  # A fetch sets them when all is in place.
        mode = (entry if self._expected.special_bits else without_special_bits(entry)).mode
        if entry.kind != Kind.SYMLINK and row.permissions != mode:
            self._note(path, Difference.MODE, f"{row.permissions:04o}, not {mode:04o}")
        if row.mtime_ns != entry.mtime_ns:
            self._note(path, Difference.MTIME, f"{row.mtime_ns} ns, not {entry.mtime_ns} ns")

    def _link(self, fd: int, path: bytes, entry: Entry, row: Found) -> None:
        report = Report(SILENT)
        target = read_link(row.name, fd, path, report)
        if target is None:
            self._note_report(path, report)
        elif target != entry.target:
            self._note(path, Difference.CONTENT, "another target")

    def _file(self, fd: int, path: bytes, entry: Entry, row: Found) -> None:
        self._read = 0
        if row.size != entry.size:
            self._note(path, Difference.CONTENT, f"{row.size} bytes, not {entry.size}")
        elif self._full:
            try:
                file = os.open(row.name, FILE_FLAGS, dir_fd=fd)
                try:
                    detail = self._content(file, path, entry)
                finally:
                    os.close(file)
            except reading.Truncated:
                detail = "shorter than it was a moment ago"
            except OSError as error:
                self._note(path, Difference.UNREADABLE, error.strerror or "")
                detail = None
            if detail is not None:
                self._note(path, Difference.CONTENT, detail)
            self._tell.advance(entry.size - self._read, 1, path=path)
            return
        self._pass_over(entry.size, 1)

    def _pass_over(self, size: int, files: int) -> None:
        """Files that are not read: they are not there, or differ in size, or nobody asked for it."""
        self._tell.advance(size if self._full else 0, files, reused=size if self._full else 0)

    def _content(self, fd: int, path: bytes, entry: Entry) -> str | None:
        """What is wrong with the content, or None. Raises Truncated, OSError."""
        recipe = None if entry.size <= SINGLE_CHUNK_MAX else self._recipe(entry)
        if recipe is None:
            # No recipe is needed, or none is here: cutting is a pure function of the content, so its name
            # is as good.
            ref, _ = reading.hash_file(fd, entry.size)
            return None if ref == entry.ref else "other bytes"
        wrong = 0
        first = -1
        position = 0
        for digest, length in recipe:
            if chunk_id(reading.read_exactly(fd, position, length)) != digest:
                first = position if first < 0 else first
                wrong += 1
            position += length
            self._read += length
            self._tell.advance(length, 0, path=path)
        if not wrong:
            return None
        return f"{wrong} of {len(recipe)} chunks are wrong, the first at byte {first}"

    def _recipe(self, entry: Entry) -> Recipe | None:
        try:
            return self._state.meta.read_recipe(entry.ref)
        except (FormatError, FileError):
            return None  # damaged in the state: do without

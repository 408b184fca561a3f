"""Checking a tree against its manifest: what is missing, different or extra. Reads, changes nothing.

Quick looks at names, kinds, sizes, modes and times; full, the default, reads each file as well and compares
every chunk. Chunks are compared with the recipe where the state has it, so that the damaged part of a large
file is known. Which manifest a tree should equal is the caller's choice: a head, or what the state knows of
the tree.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from p2psync.errors import FileError, FormatError, UsageError, show_path
from p2psync.events import SILENT, Teller
from p2psync.format.head import ArchiveHead
from p2psync.format.ids import Ref, chunk_id
from p2psync.format.limits import SINGLE_CHUNK_MAX
from p2psync.format.listing import Entry, Kind, decode_listing
from p2psync.format.paths import join
from p2psync.format.recipe import Recipe
from p2psync.format.snapshot import Snapshot
from p2psync.publish.claim import RULES
from p2psync.rules.filter import Filter
from p2psync.state import State, Tree
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


class Finding(NamedTuple):
    """One difference at one path (relative to the tree; b"" is the root). `detail` says more, for people."""

    path: bytes
    difference: Difference
    detail: str = ""


def verify(
    state: State,
    directory: str | bytes | Path,
    *,
    head: ArchiveHead | None = None,
    full: bool = True,
    rules: Filter | None = None,
    tell: Teller = SILENT,
) -> Iterator[Finding]:
    """Yield what differs between a directory and its manifest, directory by directory, sorted by name in
    each.

    `head` names the manifest; None stands for the snapshot that the tree is known to equal. What `rules`
    leave out is not compared; None stands for the rules that the tree was published with.

    Raises UsageError (no tree that the state knows, no manifest to compare with), FileError (the directory
    cannot be read, or the state lacks a part of the manifest).
    """
    path = os.fsencode(os.path.realpath(directory))
    tree = state.trees.get(path)
    wanted = head.snapshot if head is not None else None if tree is None else tree.snapshot
    if wanted is None:
        raise UsageError(
            f"{show_path(path)} is not known to hold an archive: publish, mirror or fetch it first, "
            "or name the archive"
        )
    applied = rules if rules is not None else _rules_of(tree)
    root = Snapshot.decode(_object(state, wanted)).root
    tell.phase("verifying", root.totals.bytes if full else None, root.totals.files)
    hidden = state.within(path)
    return _Verifier(state, applied, hidden, tell, full).run(path, root)


def _rules_of(tree: Tree | None) -> Filter:
    return Filter() if tree is None else Filter.parse(tree.options.get(RULES, []))


def _object(state: State, ref: Ref) -> bytes:
    raw = state.meta.get(ref.digest)
    if raw is None:
        raise FileError(
            "a part of the manifest is not in the state directory: publish, mirror or fetch again first"
        )
    return raw


class _Verifier:
    """One walk over the manifest and the tree side by side."""

    def __init__(
        self, state: State, rules: Filter, hidden: frozenset[bytes], tell: Teller, full: bool
    ) -> None:
        self._state = state
        self._rules = rules
        self._hidden = hidden
        self._tell = tell
        self._read = 0  # bytes of the current file that were told of
        self._full = full
        self._found: list[Finding] = []

    def run(self, directory: bytes, root: Entry) -> Iterator[Finding]:
        # Directories that are open, each with those in it that are still to be entered.
        stack: list[tuple[int, bytes, list[Entry]]] = []
        try:
            fd = os.open(directory, DIRECTORY_FLAGS)
        except OSError as error:
            raise FileError(f"{show_path(directory)} cannot be read: {error.strerror}") from error
        try:
            inner: list[Entry] = []
            stack.append((fd, b"", inner))
            self._attributes(b"", root, Found.of(b"", os.fstat(fd)))
            inner += self._directory(fd, b"", root)
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

    def _take(self) -> list[Finding]:
        found, self._found = self._found, []
        return found

    def _note(self, path: bytes, difference: Difference, detail: str = "") -> None:
        self._found.append(Finding(path, difference, detail))

    def _note_report(self, path: bytes, report: Report) -> None:
        gone = report.vanished and not report.unread
        self._note(path, Difference.MISSING if gone else Difference.UNREADABLE, " ".join(report.warnings[:1]))

    def _directory(self, fd: int, path: bytes, entry: Entry) -> list[Entry]:
        """Compare one directory; returns the directories in it that are there, the first by name last."""
        wanted = decode_listing(_object(self._state, entry.ref))
        try:
            rows = scan_directory(fd, path, self._rules, Report(SILENT), self._hidden)
        except (OSError, TooManyEntries) as error:
            self._note(path, Difference.UNREADABLE, str(error))
            return []
        here = {row.name: row for row in rows}
        inner = []
        scope = self._rules.scope(path)
        for one in wanted:
            if scope.hides(one.name, one.kind == Kind.DIR):
                continue
            row = here.pop(one.name, None)
            if row is None:
                self._note(join(path, one.name), Difference.MISSING)
                self._tell.advance(one.below.bytes, one.below.files)
            elif self._entry(fd, join(path, one.name), one, row):
                inner.append(one)
        for name in here:
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
        self._attributes(path, entry, row)
        if kind == Kind.FILE:
            self._file(fd, path, entry, row)
        elif kind == Kind.SYMLINK:
            report = Report(SILENT)
            target = read_link(row.name, fd, path, report)
            if target is None:
                self._note_report(path, report)
            elif target != entry.target:
                self._note(path, Difference.CONTENT, "another target")
        return kind == Kind.DIR

    def _attributes(self, path: bytes, entry: Entry, row: Found) -> None:
        if entry.kind != Kind.SYMLINK and row.permissions != entry.mode:
            self._note(path, Difference.MODE, f"{row.permissions:04o}, not {entry.mode:04o}")
        if row.mtime_ns != entry.mtime_ns:
            self._note(path, Difference.MTIME, f"{row.mtime_ns} ns, not {entry.mtime_ns} ns")

    def _file(self, fd: int, path: bytes, entry: Entry, row: Found) -> None:
        self._read = 0
        if row.size != entry.size:
            self._note(path, Difference.CONTENT, f"{row.size} bytes, not {entry.size}")
        elif self._full:
            try:
                file = os.open(row.name, FILE_FLAGS, dir_fd=fd)
                try:
                    detail = self._content(file, entry)
                finally:
                    os.close(file)
            except reading.Truncated:
                detail = "shorter than it was a moment ago"
            except OSError as error:
                self._note(path, Difference.UNREADABLE, error.strerror or "")
                detail = None
            if detail is not None:
                self._note(path, Difference.CONTENT, detail)
        self._tell.advance(entry.size - self._read if self._full else 0, 1)

    def _content(self, fd: int, entry: Entry) -> str | None:
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
            self._tell.advance(length, 0)
        if not wrong:
            return None
        return f"{wrong} of {len(recipe)} chunks are wrong, the first at byte {first}"

    def _recipe(self, entry: Entry) -> Recipe | None:
        raw = self._state.meta.get_recipe(entry.digest)
        if raw is None:
            return None
        try:
            return Recipe.decode(raw, entry.ref)
        except FormatError:
            return None  # damaged in the state: do without

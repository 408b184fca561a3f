"""One directory on its way through a walk: what was found in it, what is done, what it waits for. No I/O."""

from __future__ import annotations

from collections.abc import Iterable

from p2psync.format.ids import Ref
from p2psync.format.listing import Entry, Kind
from p2psync.state import DirRow, FileRow
from p2psync.tree.listed import Listed
from p2psync.tree.scan import Found
from p2psync.tree.stamp import Row, directory_stamp, is_racy


def is_unchanged(found: Found, known: FileRow) -> bool:
    """Whether the content that `known` names is still what the file holds, as far as its attributes can
    tell.
    """
    return (
        found.size == known.size
        and found.mtime_ns == known.mtime_ns
        and found.ctime_ns == known.ctime_ns
        and found.ino == known.ino
        and not is_racy(known.mtime_ns, known.ctime_ns, known.hashed_ns)
    )


class Node:
    """A directory that is being walked. `found` is the directory itself."""

    __slots__ = (
        "_packed",
        "_rows",
        "begun",
        "carried",
        "depth",
        "done",
        "entries",
        "fd",
        "files",
        "found",
        "fresh",
        "gone_dirs",
        "intact",
        "kept",
        "known_dirs",
        "name",
        "old_listing",
        "parent",
        "path",
        "unread",
        "waiting",
    )

    def __init__(self, parent: Node | None, name: bytes, path: bytes, fd: int, found: Found) -> None:
        self.parent = parent
        self.name = name
        self.path = path
        self.fd = fd
        self.found = found
        self.depth: int = 0 if parent is None else parent.depth + 1
        self._rows: list[Row] | None = None
        self._packed: Listed | None = None
        self.waiting = 0  # directories and files in it that are not done
        self.begun = False  # all directories in it are done, its files are looked at
        self.kept = False  # nothing changed: the old listing stands
        self.intact = True  # False: something was left out or may be missed, look again next time
        self.done: dict[bytes, Entry] = {}  # directories in it that are done
        self.entries: list[Entry] = []  # of the new listing
        self.files: list[FileRow] = []  # of all files in the new listing
        self.fresh: list[FileRow] = []  # those of them that were read, or were elsewhere before
        self.carried: dict[bytes, Entry] = {}  # what stands in place of names that cannot be read
        self.unread: list[bytes] = []  # names that cannot be read and in place of which nothing stands
        self.gone_dirs: set[bytes] = set()
        self.known_dirs: dict[bytes, DirRow] | None = (
            None  # rows of the directories in it, once they were read
        )
        self.old_listing: Ref | None = None

    @property
    def listed(self) -> list[Row]:
        """What is in it, by name."""
        if self._rows is None:
            self._rows = [] if self._packed is None else self._packed.rows()
        return self._rows

    @listed.setter
    def listed(self, rows: list[Row]) -> None:
        self._rows = rows

    def found_packed(self, packed: Listed) -> None:
        """What is in it, of which rows are made only if it is not as it was."""
        self._packed = packed

    def directories(self) -> Iterable[Row]:
        """The directories in it, by name."""
        if self._packed is not None:
            return self._packed.directories()
        return [row for row in self.listed if row[1] & 0o170000 == 0o040000]

    def stamp(self) -> bytes:
        """The stamp of what was found. A file may have been read in another state than it was listed in: then
        the state it was read in counts.
        """
        if not self.fresh:
            return directory_stamp(self.listed) if self._packed is None else self._packed.stamp()
        read = {row.name: row for row in self.fresh}
        return directory_stamp(
            row if (file := read.get(row[0])) is None else (row[0], row[1], *file[1:5]) for row in self.listed
        )

    def inner(self) -> tuple[tuple[bytes, Ref], ...]:
        """The listings of the directories in it, by name."""
        directories = {name: entry for name, entry in self.carried.items() if entry.kind is Kind.DIR}
        return tuple((name, entry.ref) for name, entry in sorted((directories | self.done).items()))

"""The rows of a batch, gathered out of a state directory: directory by directory, as clients ask for them.

Where a row is not in the file in which it was expected, all places are searched for it; which these are, is
the library's to know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from p2psync.content.doubts import CheckedFiles
from p2psync.content.interface import Content, Taken
from p2psync.content.opened import Opened, Search
from p2psync.sources.wire import NOT_HERE, ROW_LENGTH, Row
from p2psync.state.rows import FilesIn
from p2psync.state.trees import Trees
from p2psync.tree.opener import Folder, Opener

AHEAD: Final = 4
"""Directories in which a row is looked for before all rows are looked up: who asks for one directory after
the other finds each in the first of these.
"""


class Places(NamedTuple):
    """Where content may be, as a library knows it."""

    opener: Opener
    checked: CheckedFiles
    trees: Trees
    public: bool
    """Only in trees that a node tells everybody of."""
    archive: bytes | None
    """Only in trees that a fetch of this archive offers."""
    search: Search
    opening: Callable[[bytes], Content | None]
    """Opens an object, wherever it is."""
    elsewhere: Callable[[Iterable[bytes]], set[bytes]]
    """Those of some objects that may be somewhere else than in the file of a tree."""


class Batch:
    """Rows that are asked for together, for one thread. Close it."""

    def __init__(self, places: Places, rows: Sequence[Row]) -> None:
        self._places = places
        self._rows = rows
        self._near = places.trees.near([row[0] for row in rows], public=places.public, archive=places.archive)
        self._at = 0
        """Which of the directories ``_near`` is worked in."""
        self._directory_of: dict[bytes, FilesIn] | None = None
        """For each row whose content is in a file; None until that is needed."""
        self._entered: FilesIn | None = None
        self._folder: Folder | None = None
        self._elsewhere: set[bytes] = set()
        """Objects that may be somewhere else, once those in files are looked up."""
        self._opened = Opened(places.search, places.opening)

    def close(self) -> None:
        """Let go of all that is open."""
        self._opened.close()
        self._leave()

    def _leave(self) -> None:
        """Let go of the directory that is open."""
        if self._folder is not None:
            self._places.opener.unpin(self._folder)
        self._entered = self._folder = None

    def gather(self, room: memoryview) -> Taken:
        """As ``Library.gather`` says."""
        rows = self._rows
        gap = ROW_LENGTH.size
        sizes = [gap + length for _, _, length in rows]
        archives: list[bytes | None] = []
        at = number = 0
        while number < len(rows):
            begin = number
            here = self._directory(rows[number][0])
            if here is not None and (folder := self._enter(here)) is not None:
                number, at = folder.read_rows(here.files, rows, number, room, at, ROW_LENGTH)
                archives += [here.archive] * (number - begin)
                if number == len(rows) or (number > begin and rows[number][0] not in here.files):
                    continue
            is_here, archive = self._read(rows[number], here, room[at + gap : at + sizes[number]])
            if not is_here:
                sizes[number] = gap
            ROW_LENGTH.pack_into(room, at, sizes[number] - gap if is_here else NOT_HERE)
            archives.append(archive if is_here else None)
            at += sizes[number]
            number += 1
        return Taken(sizes, archives)

    def _read(self, row: Row, here: FilesIn | None, into: memoryview) -> tuple[bool, bytes | None]:
        """Read a row that is not in ``here`` as it was published: whether it could be, and of which archive
        it is.
        """
        digest, offset, _ = row
        if here is not None and self._folder is not None:
            at = here.located(digest)
            if self._places.checked.read_small(self._folder, at, digest, offset, into):
                return True, here.archive
            self._leave()  # it may be another directory by now
        if here is None and digest not in self._elsewhere:
            return False, None
        try:
            return self._opened.read(digest, offset, into, here is not None)
        except OSError:  # a disk that fails here may be fine elsewhere: for the client, not here
            return False, None

    def _enter(self, here: FilesIn) -> Folder | None:
        if here is not self._entered:
            self._leave()
            self._folder = self._places.opener.pin(here.tree_path, here.dir)
            self._entered = here
        return self._folder

    def _directory(self, digest: bytes) -> FilesIn | None:
        """One in which there is a file with this content, as far as is known."""
        if self._directory_of is None:
            count = len(self._near)
            for at in range(self._at, self._at + min(AHEAD, count)):
                if digest in self._near[at % count].files:
                    self._at = at % count
                    return self._near[self._at]
            self._directory_of = self._look_up()
        return self._directory_of.get(digest)

    def _look_up(self) -> dict[bytes, FilesIn]:
        """The directory for each row whose content is in a file."""
        found: dict[bytes, FilesIn] = {}
        wanted = {digest for digest, _, _ in self._rows}
        for near in self._near:
            found |= dict.fromkeys(near.files.keys() & wanted, near)
        made: dict[tuple[int, bytes], FilesIn] = {}
        rest = self._places.trees.find_many(
            wanted - found.keys(), public=self._places.public, archive=self._places.archive
        )
        for digest, at in rest.items():
            key = at.tree_id, at.dir
            if key not in made:
                made[key] = FilesIn(at.tree_id, at.tree_path, at.dir, at.archive, {})
            made[key].files[digest] = at.name, (at.size, at.mtime_ns, at.ctime_ns, at.ino)
            found[digest] = made[key]
        self._elsewhere = self._places.elsewhere(wanted - found.keys())
        return found

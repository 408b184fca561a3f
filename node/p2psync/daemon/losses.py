"""What a tree no longer has of its archive, and the sentence about it. How it is found is ``recheck``'s."""

from __future__ import annotations

from dataclasses import dataclass, field

from p2psync.content.browse import find, snapshot_root
from p2psync.content.doubts import DAMAGED_MAX
from p2psync.content.objects import Objects
from p2psync.errors import show_path
from p2psync.fetch.guards import consenting
from p2psync.fetch.put import Part, part_of
from p2psync.format.paths import join
from p2psync.state import FileRow, State, Tree
from p2psync.text import count
from p2psync.text import size as size_text
from p2psync.tree.recheck import Checked


@dataclass(slots=True)
class Loss:
    """What a tree no longer has. False if that is nothing."""

    gone: bool = False
    """Whether nothing of it is there, perhaps not even the directory."""
    found: int = 0
    """Files that are as they were, or have grown."""
    files: int = 0
    size: int = 0
    """Bytes of these files, as published."""
    first: bytes = b""
    """The path of one of the files."""
    problem: str = ""
    """What is wrong with it, as a clause after its name."""
    left: dict[bytes, bytes] = field(default_factory=dict)
    """Which chunks are left of each object, for the first ``DAMAGED_MAX``."""
    unsettled: bool = False
    """Whether something was changed just now, and is to be looked at again soon."""

    def __bool__(self) -> bool:
        return self.gone or self.files > 0

    def add(self, directory: bytes, row: FileRow, found: Checked) -> None:
        """A file is missing, or not what it was."""
        if not self.files:
            self.first, self.problem = join(directory, row.name), found.problem
        self.files += 1
        self.size += row.size
        if len(self.left) < DAMAGED_MAX:
            self.left[row.digest] = found.left

    def sentence(self, state: State, tree: Tree) -> str:
        """For the people whose tree it is."""
        remedy = "publish again, or put them back"
        if tree.role == "mirror":
            remedy = f"put them back, or have them fetched again: {consenting(state, tree, '--checksum')}"
        where = show_path(tree.path)
        if self.gone:
            return (
                f"{where} has nothing of its archive any more, and is announced no more: mount its disk, or "
                "put it back"
            )
        return (
            f"{where} no longer has {count(self.files, 'file')} ({size_text(self.size)}) of its archive as "
            f"published, for example {show_path(self.first)!r} {self.problem}; only what is left of them is "
            f"served: {remedy}"
        )


class Listings:
    """Which files the snapshots of trees have. For one thread."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._objects = Objects(state.meta, state.path)
        self._last: tuple[tuple[Part, bool] | None, bytes] = None, b""
        self._files: dict[bytes, bytes] | None = {}

    def has(self, tree: Tree, directory: bytes, row: FileRow) -> bool:
        """Whether the snapshot that a tree has been brought to has this file; not of those that are there for
        other reasons, or that a fetch has yet to replace.
        """
        asked = part_of(tree), directory
        if asked != self._last:
            self._last, self._files = asked, self._read(tree, directory)
        return self._files is not None and self._files.get(row.name) == row.digest

    def _read(self, tree: Tree, directory: bytes) -> dict[bytes, bytes] | None:
        known = part_of(tree)
        root = None if known is None else snapshot_root(self._state, known[0].snapshot)
        if known is None or root is None:
            return None
        found = find(self._objects, root, known[0].path + b"/" + directory)
        inside = None if found is None else found.directory
        if inside is None:
            return None
        return {entry.name: entry.digest for number in range(inside.pieces) for entry in inside.piece(number)}

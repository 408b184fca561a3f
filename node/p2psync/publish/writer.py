"""What a walk found out, on its way into the state directory in few, short transactions.

Everything that is written here is a fact about the disk or an object named by its hash, true whether or not a
snapshot ever names it: a process that is killed between two transactions has lost time, not consistency.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from p2psync.chunking import cut_object
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry, encode_listing
from p2psync.state import DirRow, FileRow, State
from p2psync.state.offers import ANYBODY
from p2psync.tree.stamp import NO_STAMP

FLUSH_ROWS: Final = 5000  # rows in one transaction: tens of milliseconds, so that other writers hardly wait
FLUSH_BYTES: Final = 4 << 20  # bytes of listings and recipes that wait in memory


class Writer:
    """Buffers what belongs to one tree; `flush` writes it. What is put in together is written together."""

    def __init__(self, state: State, tree_id: int, archive: bytes = ANYBODY) -> None:
        self._state = state
        self._archive = archive
        self._tree = tree_id
        self._writes: list[Callable[[], None]] = []
        self._objects: list[tuple[Ref, bytes]] = []
        self._recipes: list[tuple[bytes, bytes]] = []
        self._gone: list[tuple[bytes, bytes, list[bytes]]] = []
        self._rows = 0
        self._bytes = 0

    def add_listing(self, entries: Iterable[Entry], known: Ref | None = None) -> Ref:
        """Make the listing of these entries; its name. ``known`` is kept already."""
        raw = encode_listing(entries)
        ref, recipe = cut_object(raw)
        if ref != known:
            self._objects.append((ref, raw))
            self._bytes += len(raw)
            if not ref.is_single:
                self.add_recipe(ref.digest, recipe.encode())
        return ref

    def add_recipe(self, digest: bytes, raw: bytes) -> None:
        self._recipes.append((digest, raw))
        self._bytes += len(raw)

    def add_directory(
        self, directory: bytes, row: DirRow, files: list[FileRow], dropped_dirs: Iterable[bytes]
    ) -> None:
        """A directory that was read: its row, those of all files in it, and the directories that are gone
        from it: those are forgotten by `drop_gone`, and until then the directory is to be looked at again.
        """
        trees, tree = self._state.trees, self._tree
        gone = list(dropped_dirs)
        if gone:
            self._gone.append((directory, row.stamp, gone))
            row = row._replace(stamp=NO_STAMP)
        self._writes.append(lambda: trees.put_directory(tree, directory, row, files))
        self._rows += 1 + len(files)
        if self._rows >= FLUSH_ROWS or self._bytes >= FLUSH_BYTES:
            self.flush()

    def drop_gone(self) -> None:
        """Forget what is gone, once that is published: of a disk that was merely not mounted, all is known as
        soon as it is back.
        """
        trees, tree = self._state.trees, self._tree
        for directory, stamp, gone in self._gone:
            with self._state.transaction():
                for path in gone:
                    trees.drop_dir(tree, path)
                row = trees.dir_row(tree, directory)
                if row is not None:
                    trees.put_dir(tree, directory, row._replace(stamp=stamp))
        self._gone = []

    def flush(self) -> None:
        """Write what is buffered, in one transaction."""
        if not (self._writes or self._objects or self._recipes):
            return
        with self._state.transaction():
            self._state.meta.put_many(self._objects, archive=self._archive)
            self._state.meta.put_recipes(self._recipes)
            for write in self._writes:
                write()
        self._writes, self._objects, self._recipes = [], [], []
        self._rows = self._bytes = 0

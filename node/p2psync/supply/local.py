"""Chunks that are on this machine already: older versions and other names of files in DEST, and any tree that
the index knows.

What is found is only a hint: whoever uses it reads the bytes and verifies them like any others. The map of
chunks lies in a temporary database that SQLite keeps on disk when it grows, so memory stays flat.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, takewhile
from typing import Final

from p2psync.chunking import cut_alike
from p2psync.errors import FormatError
from p2psync.format.ids import DIGEST_SIZE, Ref, chunk_id
from p2psync.format.limits import SINGLE_CHUNK_MAX
from p2psync.format.listing import decode_listing
from p2psync.format.paths import join, split
from p2psync.format.recipe import Recipe
from p2psync.format.reserved import PARTIAL
from p2psync.plan.changes import Plan
from p2psync.state import State
from p2psync.state.connection import connect
from p2psync.state.database import MAX_VARIABLES
from p2psync.state.trees import FileRow, Located, Tree
from p2psync.tree.beneath import Beneath
from p2psync.tree.reading import Truncated, cut_as, hash_file

ROWS_AT_ONCE: Final = 2000
SCAN_BYTES_MIN: Final = 256 << 20
SCAN_FACTOR: Final = 8
"""Old content is read up to this many times the bytes that are wanted: DEST may hold terabytes of other
things."""
NAMESAKES_MAX: Final = 1 << 16
"""Names of which old files are remembered."""
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # never waits, should it be a pipe


class LocalChunks:
    """Where chunks of old content lie, and the reading of them. Used from one thread at a time."""

    def __init__(self, state: State, tree: Tree, beneath: Beneath) -> None:
        self._state = state
        self._tree = tree
        self._beneath = beneath
        self._files: list[bytes] = []
        self._number_of: dict[bytes, int] = {}
        """Where those of several chunks stand in ``_files``."""
        self._namesakes: dict[bytes, list[bytes]] = {}
        """Paths of old files in whose places nothing comes, by their names."""
        self._db = connect("", "the temporary file for chunks that are here (in TMPDIR)")
        self._db.execute(
            "CREATE TABLE chunk (id BLOB PRIMARY KEY, file INTEGER, offset INTEGER) WITHOUT ROWID"
        )
        self.stopped = False
        self._empty = True
        self._budget = 0
        self._moved: dict[bytes, bytes] = {}
        self._placed: dict[bytes, Located] = {}
        self._here: set[bytes] = set()
        self._made: dict[bytes, bytes] = {}
        self._index_is_empty = state.trees.knows_nothing()
        self._absent: list[int] | None = None
        self._looked_into: tuple[bytes, bytes, bool] = (b"", b"", False)
        self._rows_of: bytes | None = None
        self._rows: dict[bytes, FileRow] = {}

    def close(self) -> None:
        self._db.close()

    def stop(self) -> None:
        """End a scan that is going on in another thread."""
        self.stopped = True

    # Finding old content.

    def scan(self, plan: Plan) -> None:
        """Note the chunks of what is going to be replaced or is not in the snapshot, within a budget.

        What stands where a wanted file goes comes first: the likeliest to serve again.
        """
        self._budget = max(SCAN_BYTES_MIN, SCAN_FACTOR * plan.size)
        rows: list[tuple[bytes, int, int]] = []
        others = ((path, None) for path in self._regular_below(PARTIAL))
        for path, wanted in chain(self._old_files(plan), others):
            if self.stopped:
                return
            rows += self._chunks_of(path, wanted)
            if wanted is None and len(self._namesakes) < NAMESAKES_MAX:
                self._namesakes.setdefault(split(path)[1], []).append(path)
            if len(rows) >= ROWS_AT_ONCE:
                self._note(rows)
                rows = []
        self._note(rows)

    def _note(self, rows: list[tuple[bytes, int, int]]) -> None:
        if rows:
            self._empty = False
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR IGNORE INTO chunk VALUES (?, ?, ?)", rows)
            self._db.execute("COMMIT")

    def _old_files(self, plan: Plan) -> Iterator[tuple[bytes, int | None]]:
        """Paths, and what comes in their places: how many bytes of it, where it is a file."""
        for work in plan.dirs:
            if work.replaced:
                raw = self._state.meta.get(work.listing.digest)
                entries = decode_listing(raw) if raw is not None else []
                for position in work.replaced:
                    yield join(work.path, entries[position].name), entries[position].size
        for work in plan.dirs:
            for name in (*work.extraneous, *work.conflicts):
                for path in self._regular_below(join(work.path, name)):
                    yield path, None

    def _regular_below(self, path: bytes) -> Iterator[bytes]:
        waiting = [path]
        while waiting:
            path = waiting.pop()
            if path in self._beneath.spared:
                continue
            parent, name = split(path)
            try:
                found = os.stat(name, dir_fd=self._beneath.dir(parent), follow_symlinks=False)
                if stat.S_ISREG(found.st_mode):
                    yield path
                elif stat.S_ISDIR(found.st_mode):
                    names = sorted(map(os.fsencode, os.listdir(self._beneath.dir(path))), reverse=True)
                    waiting += [join(path, inner) for inner in names]
            except OSError:
                continue  # Unreadable here means only that nothing of it can serve again.

    def _chunks_of(self, path: bytes, wanted: int | None) -> list[tuple[bytes, int, int]]:
        """(chunk id, file, offset) of one file, read unless the index knows its content; where an object of
        ``wanted`` bytes replaces it that is cut otherwise, also of the chunks that it would have then.
        """
        fd = self._open(path)
        if fd is None:
            return []
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or not found.st_size:
                return []
            size = found.st_size
            recipe = self._known_recipe(path, found)
            if recipe is None and self._may_read(size):
                ref, raw = hash_file(fd, size)
                recipe = Recipe.single(ref) if raw is None else Recipe.decode(raw, ref)
            recipes = [] if recipe is None else [recipe]
            steps = wanted is not None and wanted > SINGLE_CHUNK_MAX and not cut_alike(size, wanted)
            if wanted is not None and steps and self._may_read(size):
                recipes.append(cut_as(fd, size, wanted))
        except (OSError, Truncated):
            return []
        finally:
            os.close(fd)
        self._files.append(path)
        number = len(self._files) - 1
        if sum(map(len, recipes)) > 1:
            self._number_of[path] = number
        return [
            (digest, number, offset)
            for recipe in recipes
            for (digest, _), offset in zip(recipe, recipe.offsets, strict=False)
        ]

    def _may_read(self, size: int) -> bool:
        """Whether so many bytes of old content may still be read; they are then."""
        if size > self._budget:
            return False
        self._budget -= size
        return True

    def _known_recipe(self, path: bytes, found: os.stat_result) -> Recipe | None:
        parent, name = split(path)
        if parent == PARTIAL:
            return self._recipe_of_partial(name, found.st_size)
        if self._rows_of != parent:
            self._rows_of, self._rows = parent, self._state.trees.files_in(self._tree.id, parent)
        row = self._rows.get(name)
        if row is None or (row.size, row.mtime_ns, row.ctime_ns, row.ino) != (
            found.st_size,
            found.st_mtime_ns,
            found.st_ctime_ns,
            found.st_ino,
        ):
            return None
        ref = Ref(row.size, row.digest)
        if ref.is_single:
            return Recipe.single(ref)
        return self._stored_recipe(ref)

    def _recipe_of_partial(self, name: bytes, size: int) -> Recipe | None:
        """Of an unfinished object, whose file is named after it and has its full size from the start."""
        digest = _object_of(name)
        return None if digest is None or size <= SINGLE_CHUNK_MAX else self._stored_recipe(Ref(size, digest))

    def _stored_recipe(self, ref: Ref) -> Recipe | None:
        raw = self._state.meta.get_recipe(ref.digest)
        try:
            return None if raw is None else Recipe.decode(raw, ref)
        except FormatError:
            return None

    def _open(self, path: bytes) -> int | None:
        parent, name = split(path)
        try:
            return os.open(name, _READ, dir_fd=self._beneath.dir(parent))
        except OSError:
            return None

    def moved(self, path: bytes, now_at: bytes) -> None:
        """What was at ``path``, an old file or directory, was put aside as ``now_at``; its chunks are read
        there.
        """
        self._moved[path] = now_at

    def _now_at(self, path: bytes) -> bytes:
        """Where an old file is by now."""
        above = path if self._moved else b""
        while above:
            moved = self._moved.get(above)
            if moved is not None:
                return moved + path[len(above) :]
            above = split(above)[0]
        return path

    # Using it.

    def read(self, digest: bytes, place: memoryview) -> bool:
        """Read a chunk of old content into ``place``, which is as long as the chunk; whether it is there,
        verified.
        """
        if self._empty:
            return False
        row = self._db.execute("SELECT file, offset FROM chunk WHERE id = ?", (digest,)).fetchone()
        if row is None:
            return False
        fd = self._open(self._now_at(self._files[row[0]]))
        if fd is None:
            return False
        try:
            return os.preadv(fd, [place], row[1]) == len(place) and chunk_id(place) == digest
        except OSError:
            return False
        finally:
            os.close(fd)

    def where(self, path: bytes, digest: bytes) -> int | None:
        """Where a chunk begins in the old file at ``path``, as far as that is known."""
        row = self._db.execute("SELECT file, offset FROM chunk WHERE id = ?", (digest,)).fetchone()
        return None if row is None or row[0] != self._number_of.get(path) else int(row[1])

    def namesake(self, path: bytes) -> bytes | None:
        """The old file of the same name that has most of its directories in common with ``path``, from the
        end on, and is in nobody's place: of a directory that was renamed, as those with a version in their
        names are.
        """
        here = path.split(b"/")[::-1]
        found = self._namesakes.get(here[0], ())
        return max(found, key=lambda old: _in_common(here, old.split(b"/")[::-1]), default=None)

    def open_old(self, path: bytes) -> int | None:
        """A descriptor of the old file at ``path``, wherever it is by now; None if there is none to read."""
        return self._open(self._now_at(path))

    @property
    def has_chunks(self) -> bool:
        """Whether there are chunks of old content, which may serve for parts of larger objects."""
        return not self._empty

    def knows(self, digests: Iterable[bytes]) -> Collection[bytes]:
        """Of the objects that were expected last, those that seem to be on this machine as a whole."""
        if not self._made and not self._here:
            return ()
        return {digest for digest in digests if digest in self._made or digest in self._here}

    def expect(self, digests: Sequence[bytes]) -> None:
        """Look up together which of these are on this machine: ``whole`` will be asked for them next.

        What the index knows may have been removed since, files or whole trees (or their disk is not mounted):
        a directory that is gone is looked for once, and not each file that was in it.
        """
        self._here = set() if self._empty else self._old(digests)
        if self._index_is_empty:
            return
        if self._absent is None:
            trees = self._state.trees.all()
            self._absent = [tree.id for tree in trees if not os.path.lexists(tree.path)]
        self._looked_into = b"", b"", False
        self._placed = self._state.trees.find_many(digests, is_there=self._is_there, without=self._absent)
        self._here |= self._placed.keys()

    def _old(self, digests: Sequence[bytes]) -> set[bytes]:
        """Those that are a chunk of old content."""
        found: set[bytes] = set()
        for start in range(0, len(digests), MAX_VARIABLES):
            some = digests[start : start + MAX_VARIABLES]
            asked = f"SELECT id FROM chunk WHERE id IN ({','.join('?' * len(some))})"  # noqa: S608
            found.update(row[0] for row in self._db.execute(asked, some))
        return found

    def _is_there(self, place: Located) -> bool:
        """Whether a file has the size and the times that the index knows."""
        tree, directory, there = self._looked_into
        if directory != place.dir or tree != place.tree_path:
            there = os.path.isdir(join(place.tree_path, place.dir))
            self._looked_into = place.tree_path, place.dir, there
        if not there:
            return False
        try:
            return _is_as_it_was(os.stat(_path(place), follow_symlinks=False), place)
        except OSError:
            return False

    def lend(self, path: bytes, chunks: Mapping[bytes, int]) -> None:
        """This run put a file in its place at ``path``; some of its chunks (by digest, with their offsets)
        are wanted elsewhere too.
        """
        self._files.append(path)
        number = len(self._files) - 1
        self._note([(digest, number, offset) for digest, offset in chunks.items()])

    def made(self, digest: bytes, path: bytes) -> None:
        """This run put the object in its place at ``path``, and it is wanted elsewhere too."""
        self._made[digest] = path

    def whole(self, ref: Ref) -> int | None:
        """A descriptor of some file on this machine that should be this object, or None."""
        made = self._made.get(ref.digest)
        if made is not None:
            return self._open(made)
        place = self._placed.get(ref.digest)
        if place is None:
            return None
        try:
            fd = os.open(_path(place), _READ)
        except OSError:
            return None
        if _is_as_it_was(os.fstat(fd), place):
            return fd
        os.close(fd)
        return None


def _in_common(one: Sequence[bytes], other: Sequence[bytes]) -> int:
    """How many words both begin with."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _path(place: Located) -> bytes:
    return join(place.tree_path, join(place.dir, place.name))


def _is_as_it_was(found: os.stat_result, place: Located) -> bool:
    return stat.S_ISREG(found.st_mode) and (found.st_size, found.st_mtime_ns, found.st_ctime_ns) == (
        place.size,
        place.mtime_ns,
        place.ctime_ns,
    )


def leftovers(beneath: Beneath) -> frozenset[bytes]:
    """Digests of the objects that an earlier run left unfinished in DEST."""
    try:
        names = map(os.fsencode, os.listdir(beneath.dir(PARTIAL)))
    except OSError:
        return frozenset()
    finally:
        beneath.forget(PARTIAL)  # The writer may replace it.
    return frozenset(digest for name in names if (digest := _object_of(name)) is not None)


def _object_of(name: bytes) -> bytes | None:
    """The digest of the object whose unfinished file has this name; None if no such file is named so."""
    try:
        digest = bytes.fromhex(name.decode())
    except ValueError:
        return None
    return digest if len(digest) == DIGEST_SIZE else None

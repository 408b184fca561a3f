"""Where content lies: from a digest to the directories that have it, and to the rows of its files there.

What was read of a directory is kept for a while, as it is packed; the version of the directory's row says
whether it still stands, whoever has written since, in this process or another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Final, NamedTuple

from p2psync.format.paths import join
from p2psync.state.connection import Connection
from p2psync.state.database import MAX_VARIABLES, Database
from p2psync.state.directories import span
from p2psync.state.kept import Kept
from p2psync.state.offers import PUBLIC, of_archive
from p2psync.state.rows import FileRow, FilesIn, Located, NamedFile, Packed, Piece, content_key
from p2psync.state.streamed import find_streamed

CACHE_BYTES: Final = 16 << 20
"""Packed rows kept in memory: those of 150,000 files."""
WHOLE_MAX: Final = 8 << 20
"""Bytes of packed rows of one directory that are read whole: those of 90,000 files. A larger one is read in
windows, for all that is looked for in it: it would not stay in memory until the next look."""
CACHE_FILES: Final = 32 << 10
"""Files of directories kept by digest, all directories together: about 13 MB. Who asks for one batch goes on
in the same directory with the next."""
AT_ONCE: Final = 4096
"""Digests that are looked up together: a whole batch."""
SAMPLE: Final = 16
"""One of so many digests tells which directories have many of them: as many as one statement can ask for."""
READ_MAX: Final = 8
"""Rows of a directory that are read at once for each that is likely to be wanted: finding one by itself takes
more than ten times as long as reading one among others."""

PLACES: Final = 4
"""Directories in which a content is looked for that may be gone from some of them: some content is in very
many.
"""
IsThere = Callable[[Located], bool]
"""Whether a file still is as it was."""

_PLACE: Final = "d.id, d.version, d.tree, t.path, d.parent, d.name, t.archive"
_OF_TREES: Final = "contents c JOIN dirs d ON d.id = c.dir JOIN trees t ON t.id = d.tree"


class _Trees(NamedTuple):
    """The trees in which is looked."""

    public: bool
    """Only in those that a node tells everybody of."""
    without: tuple[int, ...]
    archive: bytes | None = None
    """Only in those that a fetch of this archive offers."""

    def condition(self) -> tuple[str, str]:
        """What a statement over `contents` asks beside the key, and the tables that it needs for that."""
        if not (self.public or self.without or self.archive is not None):
            return "", "contents c"
        others = f" AND d.tree NOT IN ({','.join(map(str, self.without))})" if self.without else ""
        public = f" AND {PUBLIC}" if self.public else ""
        own = "" if self.archive is None else f" AND {of_archive(self.archive)}"
        return public + own + others, _OF_TREES


class _Place(NamedTuple):
    """A directory that content was found in."""

    number: int
    version: int
    tree_id: int
    tree_path: bytes
    parent: bytes
    name: bytes
    archive: bytes | None

    @property
    def path(self) -> bytes:
        return join(self.parent, self.name)

    def located(self, row: FileRow) -> Located:
        return Located(self.tree_id, self.tree_path, self.path, *row[:5], self.archive)


_make_place: Final = partial(tuple.__new__, _Place)


class Contents:
    """Finds content by its digest. Used by any number of threads."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._kept_packed = Kept[Packed](CACHE_BYTES)
        self._kept_files = Kept[dict[bytes, NamedFile]](CACHE_FILES)

    def find(self, digest: bytes, limit: int, public: bool, archive: bytes | None = None) -> list[Located]:
        """Up to `limit` places where the content was when it was hashed; with `public` only in trees that a
        node tells everybody of, with `archive` only in those that a fetch of it offers.
        """
        return list(islice(self._everywhere(digest, _Trees(public, (), archive)), limit))

    def find_many(
        self,
        digests: Iterable[bytes],
        public: bool,
        is_there: IsThere | None = None,
        without: Collection[int] = (),
        archive: bytes | None = None,
    ) -> dict[bytes, Located]:
        """One place for each of the digests that is known; as `find`. Places that `is_there` refuses do not
        count, nor do those in the trees `without`.
        """
        wanted = list(dict.fromkeys(digests))
        found: dict[bytes, Located] = {}
        trees = _Trees(public, tuple(without), archive)
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            barren: set[int] = set()
            for number, near in self._near(some, trees).items():
                here = {digest: near.located(digest) for digest in near.files.keys() & some}
                right = {digest: at for digest, at in here.items() if is_there is None or is_there(at)}
                found |= right
                if here and not right:
                    barren.add(number)
            rest = [digest for digest in some if digest not in found]
            # In one directory each, as most content is in no more; what is not there, in several.
            for limit in (1, PLACES) if is_there is None else (PLACES,):
                late: dict[int, tuple[_Place, list[bytes]]] = {}
                for first in range(0, len(rest), MAX_VARIABLES):
                    each = rest[first : first + MAX_VARIABLES]
                    found.update(self._find_each(each, trees, is_there, barren, limit, late))
                for place, others in late.values():
                    still = [digest for digest in others if digest not in found]
                    found.update(self._find_late(place, still, is_there))
                those = dict.fromkeys(digest for _, others in late.values() for digest in others)
                rest = [digest for digest in those if digest not in found]
        return found

    def near(self, digests: Sequence[bytes], public: bool, archive: bytes | None = None) -> list[FilesIn]:
        """All that is in the directories that have many of these digests: who asks for a file usually asks
        for its neighbours too. `public` and `archive` as in `find`.
        """
        trees = _Trees(public, (), archive)
        starts = range(0, len(digests), AT_ONCE)
        return [
            near for start in starts for near in self._near(digests[start : start + AT_ONCE], trees).values()
        ]

    def _near(self, digests: Sequence[bytes], trees: _Trees) -> dict[int, FilesIn]:
        """The same, of `AT_ONCE` digests, by the numbers of the directories."""
        connection = self._db.connection
        sample = [content_key(digest) for digest in digests[::SAMPLE]]
        hits = Counter(each[0] for each in _directories_of(connection, sample, trees, 1).values())
        near: dict[int, FilesIn] = {}
        for number, place in _places(connection, set(hits)).items():
            files = self._files(connection, place, hits[number] * SAMPLE * READ_MAX)
            if files is not None:
                near[number] = FilesIn(place.tree_id, place.tree_path, place.path, place.archive, files)
        return near

    def _files(self, connection: Connection, place: _Place, count_max: int) -> dict[bytes, NamedFile] | None:
        """The files of a directory by digest; None where those are more than `count_max`, and not kept."""
        files = self._kept_files.get(place.number, place.version)
        if files is None:
            packed = self._packed(connection, place)
            if packed is None or packed.size() > count_max:
                return None
            files = packed.by_digest()
            if not connection.in_transaction:
                self._kept_files.put(place.number, place.version, files, len(files))
        return files

    def _find_each(
        self,
        digests: list[bytes],
        trees: _Trees,
        is_there: IsThere | None,
        barren: set[int],
        limit: int,
        late: dict[int, tuple[_Place, list[bytes]]],
    ) -> Iterator[tuple[bytes, Located]]:
        """One by one, as many as fit into one statement; up to `limit` directories are looked into for
        each, and none of those that are `barren`. What may be in one that is too large for memory is added
        to `late`.
        """
        connection = self._db.connection
        keys = [content_key(digest) for digest in digests]
        directories_of = _directories_of(connection, keys, trees, limit)
        numbers = {number for each in directories_of.values() for number in each}.difference(barren)
        places = _places(connection, numbers)
        packed = {number: self._packed(connection, place) for number, place in places.items()}
        for digest, key in zip(digests, keys, strict=True):
            candidates = directories_of.get(key, ())
            rows = [
                places[number].located(row)
                for number in candidates
                if (inside := packed.get(number)) is not None
                for row in inside.find(digest)[:PLACES]
            ]
            large = [number for number in candidates if number in packed and packed[number] is None]
            if not rows and not large and len(candidates) == limit and barren.isdisjoint(candidates):
                # These have other contents with the same key, which somebody may have searched for.
                rows = list(islice(self._everywhere(digest, trees), PLACES))
            place = next(filter(is_there, rows), None)
            if place is not None:
                yield digest, place
                continue
            for number in large:
                late.setdefault(number, (places[number], []))[1].append(digest)

    def _find_late(
        self, place: _Place, digests: list[bytes], is_there: IsThere | None
    ) -> Iterator[tuple[bytes, Located]]:
        """In one large directory."""
        for digest, rows in find_streamed(self._db.connection, place.number, digests).items():
            at = next(filter(is_there, map(place.located, rows)), None)
            if at is not None:
                yield digest, at

    def _everywhere(self, digest: bytes, trees: _Trees) -> Iterator[Located]:
        """All places where the content was."""
        connection = self._db.connection
        places = connection.execute(
            f"SELECT {_PLACE} FROM {_OF_TREES} WHERE c.key = ?{trees.condition()[0]}",  # noqa: S608
            (content_key(digest),),
        )
        for place in map(_Place._make, places):
            packed = self._packed(connection, place)
            if packed is not None:
                rows = packed.find(digest)
            else:
                rows = find_streamed(connection, place.number, [digest]).get(digest, [])
            yield from map(place.located, rows)

    def _packed(self, connection: Connection, place: _Place) -> Packed | None:
        """The packed rows of a directory; None if these are too large to be held in memory."""
        known = self._kept_packed.get(place.number, place.version)
        if known is not None:
            return known
        where = "FROM pieces WHERE id BETWEEN ? AND ?"
        (size,) = connection.execute(
            f"SELECT sum(length(names) + length(records)) {where}",
            span(place.number),
        ).fetchone()
        if (size or 0) > WHOLE_MAX:
            return None
        rows = connection.execute(f"SELECT names, records {where} ORDER BY id", span(place.number))
        packed = Packed.of([Piece._make(row) for row in rows])
        # What is not committed may be taken back, and its version given to other rows.
        if not connection.in_transaction:
            self._kept_packed.put(place.number, place.version, packed, _size(packed))
        return packed


def _size(packed: Packed) -> int:
    return sum(len(names) + len(records) for names, records in packed.pieces)


def _directories_of(
    connection: Connection, keys: list[int], trees: _Trees, limit: int
) -> dict[int, tuple[int, ...]]:
    """For each key that is known, up to `limit` directories that may have its content: looked up one by
    one, within one statement, since some content is in very many directories.
    """
    where, joined = trees.condition()
    those = f"SELECT c.dir AS dir FROM {joined} WHERE c.key = column1{where} LIMIT {limit}"  # noqa: S608
    if limit > 1:
        those = f"SELECT group_concat(dir) FROM ({those})"  # noqa: S608
    rows = connection.execute(
        f"SELECT column1, ({those}) FROM (VALUES {','.join(['(?)'] * len(keys))})",  # noqa: S608
        keys,
    ).fetchall()
    known = ((key, found) for key, found in rows if found is not None)
    if limit == 1:
        return {key: (number,) for key, number in known}
    return {key: tuple(map(int, numbers.split(","))) for key, numbers in known}


def _places(connection: Connection, numbers: set[int]) -> dict[int, _Place]:
    rows = connection.execute(
        f"SELECT id, version, tree, parent, name FROM dirs WHERE id IN ({','.join('?' * len(numbers))})",  # noqa: S608
        tuple(numbers),
    ).fetchall()
    trees = dict.fromkeys(row[2] for row in rows)
    of_tree = {
        tree: connection.execute("SELECT path, archive FROM trees WHERE id = ?", (tree,)).fetchone()
        for tree in trees
    }
    return {
        number: _make_place((number, version, tree, of_tree[tree][0], parent, name, of_tree[tree][1]))
        for number, version, tree, parent, name in rows
        if of_tree[tree] is not None
    }

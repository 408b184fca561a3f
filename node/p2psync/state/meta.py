"""Meta objects (directory listings, attributes, snapshots), recipes, and which snapshots of an archive are
known.

Objects are kept as they came, under the digest that names them: who puts one in has verified it. What
nothing refers to any more is removed by `MetaStore.gc`; whatever was put in, or again, within `GC_GRACE`
stays, so that a fetch or publish in progress does not lose what it has not yet tied to a snapshot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, NamedTuple, TypeVar

from p2psync.chunking import cut_object
from p2psync.errors import FormatError
from p2psync.format.ids import Ref, chunk_id, object_id
from p2psync.format.limits import SINGLE_CHUNK_MAX
from p2psync.format.recipe import Recipe
from p2psync.state.connection import damaged, explaining
from p2psync.state.database import MAX_VARIABLES, Database
from p2psync.state.garbage import Garbage
from p2psync.state.offers import ANYBODY

GC_GRACE: Final = 24 * 3600  # seconds; longer than a pause between two runs of one interrupted fetch
TOUCH_AFTER: Final = (
    3600  # putting an object again renews its age at most once an hour: no write for each put
)
PIECE: Final = 1 << 20  # bytes of an object in memory at once, where it is read in pieces
KEEP_SNAPSHOTS: Final = (
    3  # clients that fetch while the archive is republished still find what they began with
)


T = TypeVar("T")


class SnapshotRow(NamedTuple):
    """A known snapshot of an archive, with the newest place in the order of heads that named it."""

    epoch: int
    seq: int
    ref: Ref


class MetaStore:
    """Bytes by digest. All sizes in bytes."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, digest: bytes) -> bytes | None:
        """The bytes of an object, or None."""
        row = self._db.connection.execute("SELECT data FROM objects WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else bytes(row[0])

    def read(self, ref: Ref, decode: Callable[[bytes], T]) -> T | None:
        """An object, decoded, or None if it is not here.

        Raises FormatError where it cannot be decoded as its archive has it, and FileError where it is damaged
        here: who asks the archive's publisher about the second would ask the wrong one.
        """
        raw = self.get(ref.digest)
        return None if raw is None else self._decoded(raw, ref.digest, decode, _name_of)

    def read_recipe(self, ref: Ref) -> Recipe | None:
        """The recipe of an object of several chunks, or None. Raises as ``read`` does."""
        return self.read_recipes([ref]).get(ref)

    def read_recipes(self, refs: Iterable[Ref]) -> dict[Ref, Recipe]:
        """The recipes that are here of several objects. Raises as ``read`` does."""
        wanted = {ref.digest: ref for ref in refs}
        digests = list(wanted)
        found: dict[Ref, Recipe] = {}
        for start in range(0, len(digests), MAX_VARIABLES):
            some = digests[start : start + MAX_VARIABLES]
            marks = ",".join("?" * len(some))
            rows = self._db.connection.execute(
                f"SELECT digest, data FROM recipes WHERE digest IN ({marks})",  # noqa: S608
                some,
            )
            for digest, raw in rows.fetchall():
                ref = wanted[digest]
                found[ref] = self._decoded(raw, digest, partial(Recipe.decode, ref=ref), object_id)
        return found

    def _decoded(
        self, raw: bytes, digest: bytes, decode: Callable[[bytes], T], name: Callable[[bytes], bytes]
    ) -> T:
        try:
            return decode(raw)
        except FormatError as error:
            if name(raw) != digest:
                raise damaged(self._db.path, "an object in it has other bytes than its name says") from error
            raise

    def check(self) -> None:
        """Read all objects that are not cut into chunks: for who met a contradiction between two of them.

        Raises FileError: one is damaged here.
        """
        rows = self._db.connection.execute(
            "SELECT digest, data FROM objects WHERE size <= ?", (SINGLE_CHUNK_MAX,)
        )
        for digest, raw in rows:
            if chunk_id(raw) != digest:
                raise damaged(self._db.path, "an object in it has other bytes than its name says")

    def size(self, digest: bytes) -> int | None:
        """Length of an object, or None if it is not here."""
        row = self._db.connection.execute("SELECT size FROM objects WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else int(row[0])

    def read_into(self, digest: bytes, offset: int, into: memoryview) -> bool:
        """Read a part of an object. False: it is not here, or shorter.

        SQLite follows the pages of the object from its beginning: 10 us in an object of 1 MB, 60 in one of 10
        MB, and 50 ms where they do not fit in its cache.
        """
        connection = self._db.connection
        row = connection.execute("SELECT rowid, size FROM objects WHERE digest = ?", (digest,)).fetchone()
        if row is None or offset + len(into) > row[1]:
            return False
        with (
            explaining(connection.file),
            connection.blobopen("objects", "data", row[0], readonly=True) as blob,
        ):
            blob.seek(offset)
            into[:] = blob.read(len(into))
        return True

    def pieces(self, digest: bytes) -> Iterator[bytes]:
        """The bytes of an object in pieces, for one too large to hold in memory; none if it is not here."""
        connection = self._db.connection
        row = connection.execute("SELECT rowid FROM objects WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            return
        with (
            explaining(connection.file),
            connection.blobopen("objects", "data", row[0], readonly=True) as blob,
        ):
            while piece := blob.read(PIECE):
                yield piece

    def has(self, digest: bytes) -> bool:
        row = self._db.connection.execute("SELECT 1 FROM objects WHERE digest = ?", (digest,)).fetchone()
        return row is not None

    def missing(self, digests: Iterable[bytes]) -> list[bytes]:
        """Those of `digests` that are not here, in their order, each once."""
        wanted = list(dict.fromkeys(digests))
        here: set[bytes] = set()
        for start in range(0, len(wanted), MAX_VARIABLES):
            some = wanted[start : start + MAX_VARIABLES]
            marks = ",".join("?" * len(some))
            rows = self._db.connection.execute(f"SELECT digest FROM objects WHERE digest IN ({marks})", some)  # noqa: S608
            here.update(row[0] for row in rows)
        return [digest for digest in wanted if digest not in here]

    def put(self, ref: Ref, data: bytes, *, now: float | None = None, archive: bytes = ANYBODY) -> None:
        """Keep an object. Its bytes have been verified against `ref` by the caller. `archive`: whose it is,
        which decides to whom it is given (`p2psync.state.offers`).
        """
        self.put_many([(ref, data)], now=now, archive=archive)

    def put_many(
        self, objects: Iterable[tuple[Ref, bytes]], *, now: float | None = None, archive: bytes = ANYBODY
    ) -> None:
        added = int(time.time() if now is None else now)
        several = list(objects)
        with self._db.transaction() as connection:
            connection.executemany(
                "INSERT INTO objects (digest, size, added, data) VALUES (?,?,?,?) "
                "ON CONFLICT (digest) DO UPDATE SET added = excluded.added WHERE added < excluded.added - ?",
                ((ref.digest, ref.size, added, data, TOUCH_AFTER) for ref, data in several),
            )
            connection.executemany(
                "INSERT OR IGNORE INTO object_archives (digest, archive) VALUES (?, ?)",
                ((ref.digest, archive) for ref, _ in several),
            )

    def get_recipe(self, digest: bytes) -> bytes | None:
        """The encoded recipe of an object of several chunks, or None."""
        row = self._db.connection.execute("SELECT data FROM recipes WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else bytes(row[0])

    def put_recipe(self, digest: bytes, raw: bytes, *, now: float | None = None) -> None:
        self.put_recipes([(digest, raw)], now=now)

    def put_recipes(self, recipes: Iterable[tuple[bytes, bytes]], *, now: float | None = None) -> None:
        """Keep encoded recipes, each with the object's digest."""
        added = int(time.time() if now is None else now)
        with self._db.transaction() as connection:
            connection.executemany(
                "INSERT INTO recipes (digest, added, data) VALUES (?,?,?) "
                "ON CONFLICT (digest) DO UPDATE SET added = excluded.added WHERE added < excluded.added - ?",
                ((digest, added, raw, TOUCH_AFTER) for digest, raw in recipes),
            )

    def add_snapshot(self, archive: bytes, epoch: int, seq: int, ref: Ref) -> None:
        """Note that a head with this place in the order named this snapshot; its object is put in
        separately.
        """
        with self._db.transaction() as connection:
            connection.execute(
                "INSERT INTO snapshots (archive, epoch, seq, size, digest) VALUES (?,?,?,?,?) "
                "ON CONFLICT (archive, digest) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq "
                "WHERE (epoch, seq) < (excluded.epoch, excluded.seq)",
                (archive, epoch, seq, ref.size, ref.digest),
            )

    def forget_snapshots(self, archive: bytes) -> None:
        """Forget which snapshots of an archive are known; `gc` then removes what no tree refers to."""
        with self._db.transaction() as connection:
            connection.execute("DELETE FROM snapshots WHERE archive = ?", (archive,))

    def snapshots(self, archive: bytes) -> list[SnapshotRow]:
        """The known snapshots of an archive, newest first."""
        rows = self._db.connection.execute(
            "SELECT epoch, seq, size, digest FROM snapshots WHERE archive = ? "
            "ORDER BY epoch DESC, seq DESC, digest",
            (archive,),
        )
        return [SnapshotRow(epoch, seq, Ref(size, digest)) for epoch, seq, size, digest in rows]

    def gc(self, keep_snapshots_per_archive: int = KEEP_SNAPSHOTS, *, now: float | None = None) -> int:
        """Remove objects and recipes that no kept snapshot, tree, directory or file refers to; returns how
        many.

        Kept snapshots are the newest few of each archive and those that a tree equals. It takes seconds for
        a million files; other writers wait for milliseconds of that.
        """
        horizon = int(time.time() if now is None else now) - GC_GRACE
        return Garbage(self._db, self.get).collect(keep_snapshots_per_archive, horizon)


def _name_of(raw: bytes) -> bytes:
    return cut_object(raw)[0].digest

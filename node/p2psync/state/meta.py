"""Meta objects (directory listings, attributes, snapshots), recipes, and which snapshots of an archive are
known.

Objects are kept as they came, under the digest that names them: who puts one in has verified it. What
nothing refers to any more is removed by `MetaStore.gc`; whatever was put in, or again, within `GC_GRACE`
stays, so that a fetch or publish in progress does not lose what it has not yet tied to a snapshot.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from p2psync.errors import FormatError
from p2psync.format.attributes import decode_attributes
from p2psync.format.ids import Ref
from p2psync.format.limits import SINGLE_CHUNK_MAX
from p2psync.format.listing import Kind, decode_listing
from p2psync.format.snapshot import Snapshot
from p2psync.state.database import MAX_VARIABLES, Database
from p2psync.state.rows import digests

GC_GRACE: Final = 24 * 3600  # seconds; longer than a pause between two runs of one interrupted fetch
TOUCH_AFTER: Final = (
    3600  # putting an object again renews its age at most once an hour: no write for each put
)
PIECE: Final = 1 << 20  # bytes of an object in memory at once, where it is read in pieces
KEEP_SNAPSHOTS: Final = (
    3  # clients that fetch while the archive is republished still find what they began with
)


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

    def size(self, digest: bytes) -> int | None:
        """Length of an object, or None if it is not here."""
        row = self._db.connection.execute("SELECT size FROM objects WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else int(row[0])

    def pieces(self, digest: bytes) -> Iterator[bytes]:
        """The bytes of an object in pieces, for one too large to hold in memory; none if it is not here."""
        connection = self._db.connection
        row = connection.execute("SELECT rowid FROM objects WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            return
        with connection.blobopen("objects", "data", row[0], readonly=True) as blob:
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

    def put(self, ref: Ref, data: bytes, *, now: float | None = None) -> None:
        """Keep an object. Its bytes have been verified against `ref` by the caller."""
        self.put_many([(ref, data)], now=now)

    def put_many(self, objects: Iterable[tuple[Ref, bytes]], *, now: float | None = None) -> None:
        added = int(time.time() if now is None else now)
        with self._db.transaction() as connection:
            connection.executemany(
                "INSERT INTO objects (digest, size, added, data) VALUES (?,?,?,?) "
                "ON CONFLICT (digest) DO UPDATE SET added = excluded.added WHERE added < excluded.added - ?",
                ((ref.digest, ref.size, added, data, TOUCH_AFTER) for ref, data in objects),
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

    def snapshots(self, archive: bytes) -> list[SnapshotRow]:
        """The known snapshots of an archive, newest first."""
        rows = self._db.connection.execute(
            "SELECT epoch, seq, size, digest FROM snapshots WHERE archive = ? "
            "ORDER BY epoch DESC, seq DESC, digest",
            (archive,),
        )
        return [SnapshotRow(epoch, seq, Ref(size, digest)) for epoch, seq, size, digest in rows]

    def gc(self, keep_snapshots_per_archive: int = KEEP_SNAPSHOTS, *, now: float | None = None) -> int:
        """Remove objects and recipes that no kept snapshot, tree or file refers to; returns how many.

        Kept snapshots are the newest few of each archive and those that a tree equals or a head names.
        Other writers wait while it runs: a few seconds for a million files.
        """
        horizon = int(time.time() if now is None else now) - GC_GRACE
        removed = 0
        with self._db.transaction() as connection:
            archives = [row[0] for row in connection.execute("SELECT DISTINCT archive FROM snapshots")]
            held = {
                row[0] for row in connection.execute("SELECT snapshot FROM trees WHERE snapshot IS NOT NULL")
            }
            roots: set[bytes] = set(held)
            for archive in archives:
                for position, known in enumerate(self.snapshots(archive)):
                    if position < keep_snapshots_per_archive or known.ref.digest in held:
                        roots.add(known.ref.digest)
                    else:
                        connection.execute(
                            "DELETE FROM snapshots WHERE archive = ? AND digest = ?",
                            (archive, known.ref.digest),
                        )
            marked = self._mark(roots)
            marked.update(row[0] for row in connection.execute("SELECT digest FROM dirs"))
            for (records,) in connection.execute("SELECT records FROM pieces"):
                marked.update(digests(records, SINGLE_CHUNK_MAX))
            for table in ("objects", "recipes"):
                old = connection.execute(f"SELECT digest FROM {table} WHERE added < ?", (horizon,))  # noqa: S608
                dead = [(row[0],) for row in old if row[0] not in marked]
                connection.executemany(f"DELETE FROM {table} WHERE digest = ?", dead)  # noqa: S608
                removed += len(dead)
        return removed

    def _mark(self, snapshots: Iterable[bytes]) -> set[bytes]:
        """Digests of all objects below the snapshots that are here, and of the contents that have recipes."""
        marked: set[bytes] = set()
        pending: list[bytes] = []
        attributes: list[bytes] = []
        for digest in snapshots:
            marked.add(digest)
            raw = self.get(digest)
            if raw is None:
                continue
            snapshot = Snapshot.decode(raw)
            pending.append(snapshot.root.digest)
            if snapshot.attributes is not None:
                attributes.append(snapshot.attributes.digest)
        while pending:
            digest = pending.pop()
            if digest in marked:
                continue
            marked.add(digest)
            for kind, size, inner in self._references(digest):
                if kind == Kind.DIR:
                    pending.append(inner)
                elif size > SINGLE_CHUNK_MAX:
                    marked.add(inner)
        while attributes:
            digest = attributes.pop()
            raw = None if digest in marked else self.get(digest)
            marked.add(digest)
            if raw is not None:
                attributes += [row.inner.digest for row in decode_attributes(raw) if row.inner is not None]
        return marked

    def _references(self, digest: bytes) -> Iterator[tuple[Kind, int, bytes]]:
        raw = self.get(digest)
        if raw is None:
            return
        try:
            entries = decode_listing(raw)
        except FormatError:
            # Damaged here: it refers to nothing that could be used, and is fetched or made again when it is
            # needed.
            return
        for entry in entries:
            if entry.kind != Kind.SYMLINK:
                yield entry.kind, entry.size, entry.digest

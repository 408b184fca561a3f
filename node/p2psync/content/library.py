"""What the content server serves: the interface that it needs, and the one over a state directory.

Digests are 32 bytes, archives 32-byte ids. All methods may be called from any thread and may block on disk.
Nothing here speaks HTTP, and nothing decides whom to serve.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from p2psync.content.partial import PartialObjects
from p2psync.errors import FormatError, TrustError
from p2psync.format.head import decode_head
from p2psync.format.listing import Entry, Kind, decode_listing
from p2psync.format.snapshot import Snapshot
from p2psync.sources.wire import Have, Row
from p2psync.state import State
from p2psync.state.trees import Located
from p2psync.tree.opener import FileContent, Opener, Stamp
from p2psync_dht import HolderRecord, RecordError

LISTINGS_CACHED: Final = 32 << 10
"""Entries of decoded listings kept in memory, all listings together: about 15 MB. Larger listings are
decoded for each request."""
ROWS_AT_ONCE: Final = 128
"""Rows of a batch that are looked up and read without a break: about 3 ms."""
HOLDERS_PER_ADDRESS_MAX: Final = 16
"""Nominated holders kept of one IP address and archive: several nodes behind one address are normal,
hundreds are one liar."""


class BytesContent:
    """An object that is in memory."""

    fd: Final = None
    archive: Final = None  # manifests are shared by archives

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def unchanged(self) -> bool:
        return True

    def covers(self, offset: int, length: int) -> bool:
        return offset + length <= self.size

    def read(self, offset: int, length: int, *, wait: bool = True) -> bytes | None:
        return self.data[offset : offset + length] if self.covers(offset, length) else None

    def close(self) -> None:
        pass


Content = FileContent | BytesContent


@dataclass(frozen=True, slots=True)
class Found:
    """A path in an archive: its entry and, for a directory, what is in it."""

    entry: Entry
    listing: Sequence[Entry] = ()


class TakenRow(NamedTuple):
    """The bytes of a row of a batch, and the archive out of whose tree they were read, if one is known."""

    data: bytes | bytearray
    archive: bytes | None


class Rows(Protocol):
    """Reads the rows of one batch in order."""

    @property
    def left(self) -> int:
        """Rows not taken yet."""

    def take(self, size: int, *, wait: bool) -> list[TakenRow | None]:
        """The next rows, until they have ``size`` bytes or are many; None for one that is not here.

        Without ``wait``, stops in front of a row that is not in memory (so there may be none), and never
        blocks for long.
        """


class Library(Protocol):
    """What is held here."""

    def archives(self) -> list[bytes]:
        """Archives of which (part of) a tree is here."""

    def head(self, archive: bytes) -> bytes | None:
        """The newest head known, as signed."""

    def put_head(self, archive: bytes, raw: bytes) -> bool:
        """Keep a head that somebody hands on, if it is newer. Raises FormatError, TrustError; KeyError if
        the archive is not here."""

    def open(self, digest: bytes) -> Content | None:
        """An object's bytes. None: not here, or no longer as it was hashed."""

    def rows(self, rows: Sequence[Row]) -> Rows:
        """A reader of the bytes of each row of a batch."""

    def recipe(self, digest: bytes) -> bytes | None:
        """The encoded recipe of an object of several chunks."""

    def have(self, digests: Sequence[bytes]) -> list[Have]:
        """What is here of each object; files that changed since they were hashed may still be counted."""

    def holders(self, archive: bytes) -> list[bytes]:
        """Unexpired holder records, as signed."""

    def keep_holder(self, archive: bytes, record: HolderRecord) -> bool:
        """Keep a verified record. False: too many of its address are here."""

    def browse(self, archive: bytes, path: Sequence[bytes]) -> Found | None:
        """What is at ``path`` (names, none for the root) in the newest snapshot that is here."""


class StateLibrary:
    """The trees of a state directory, and what a running fetch has so far."""

    def __init__(
        self,
        state: State,
        partial: PartialObjects | None = None,
        clock: Callable[[], float] = time.time,
        *,
        fetched: bool = False,
    ) -> None:
        """``fetched``: serve also what was merely fetched, as its fetch does while it runs. Otherwise nobody
        is told what a user has downloaded.
        """
        self._state = state
        self._fetched = fetched
        self.partial = partial if partial is not None else PartialObjects()
        self._clock = clock
        self._opener = Opener()
        self._listings: OrderedDict[bytes, list[Entry]] = OrderedDict()
        self._listed = 0
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close cached directories; the state is its owner's to close."""
        self._opener.close()

    def archives(self) -> list[bytes]:
        trees = [tree for tree in self._state.trees.all() if self._fetched or tree.role != "fetch"]
        return list(dict.fromkeys(tree.archive for tree in trees if tree.archive is not None))

    def head(self, archive: bytes) -> bytes | None:
        if archive not in self.archives():
            return None
        found = self._state.heads.newest(archive)
        return None if found is None else found.raw

    def put_head(self, archive: bytes, raw: bytes) -> bool:
        if archive not in self.archives():
            raise KeyError("the archive is not here")
        known = self._state.heads.newest(archive)
        if known is not None and known.raw == raw:
            return False
        head = decode_head(raw)
        if head.archive != archive:
            raise FormatError("the head is another archive's")
        try:
            head.record.verify(int(self._clock()))
        except RecordError as error:
            raise TrustError(f"refused {error}") from None
        return self._state.heads.put(head, "handed on")

    def open(self, digest: bytes) -> Content | None:
        return self._open(digest, None)

    def _open(self, digest: bytes, first: Located | None) -> Content | None:
        if first is not None and (content := self._open_located(first)) is not None:
            return content
        for located in self._state.trees.find(digest, public=not self._fetched):
            if located != first and (content := self._open_located(located)) is not None:
                return content
        if (data := self._state.meta.get(digest)) is not None:
            return BytesContent(data)
        return self._open_partial(digest)

    def _open_located(self, at: Located) -> FileContent | None:
        content = self._opener.open(
            at.tree_path, at.dir, at.name, Stamp(at.size, at.mtime_ns, at.ctime_ns, at.ino)
        )
        if content is not None:
            content.archive = at.archive
        return content

    def _open_partial(self, digest: bytes) -> FileContent | None:
        content = self.partial.open(digest)
        if content is not None and (path := self.partial.path(digest)) is not None:
            above = (self._state.trees.get(bytes(parent)) for parent in Path(os.fsdecode(path)).parents)
            content.archive = next((tree.archive for tree in above if tree is not None), None)
        return content

    def rows(self, rows: Sequence[Row]) -> Rows:
        return _StateRows(self._locate, self._open, rows)

    def _locate(self, digests: Iterable[bytes]) -> dict[bytes, Located]:
        return self._state.trees.find_many(digests, public=not self._fetched)

    def recipe(self, digest: bytes) -> bytes | None:
        return self._state.meta.get_recipe(digest) or self.partial.recipe(digest)

    def have(self, digests: Sequence[bytes]) -> list[Have]:
        located = self._locate(digests)
        missing = set(self._state.meta.missing(digest for digest in digests if digest not in located))
        return [self.partial.have(digest) if digest in missing else True for digest in digests]

    def holders(self, archive: bytes) -> list[bytes]:
        return self._state.holders.for_archive(archive, self._clock()) if archive in self.archives() else []

    def keep_holder(self, archive: bytes, record: HolderRecord) -> bool:
        addresses = {endpoint.ip for endpoint in record.endpoints}
        others = (HolderRecord.decode(raw) for raw in self.holders(archive))
        same = [other for other in others if other.node_key != record.node_key and _shares(other, addresses)]
        if len(same) >= HOLDERS_PER_ADDRESS_MAX:
            return False
        self._state.holders.put(
            archive, record.raw, node_key=record.node_key, issued=record.issued, expires=record.expires
        )
        return True

    def browse(self, archive: bytes, path: Sequence[bytes]) -> Found | None:
        entry = self._root(archive)
        for name in path:
            if entry is None or entry.kind is not Kind.DIR:
                return None
            listing = self._listing(entry.digest)
            entry = next((each for each in listing or () if each.name == name), None)
        if entry is None or entry.kind is not Kind.DIR:
            return None if entry is None else Found(entry)
        inside = self._listing(entry.digest)
        return None if inside is None else Found(entry, inside)

    def _root(self, archive: bytes) -> Entry | None:
        if archive not in self.archives():
            return None
        trees = [tree for tree in self._state.trees.by_archive(archive) if tree.snapshot is not None]
        refs = [
            tree.snapshot for tree in sorted(trees, key=lambda tree: (tree.epoch, tree.seq), reverse=True)
        ]
        refs += [row.ref for row in self._state.meta.snapshots(archive)]
        for ref in refs:
            if ref is not None and (raw := self._state.meta.get(ref.digest)) is not None:
                return Snapshot.decode(raw).root
        return None

    def _listing(self, digest: bytes) -> list[Entry] | None:
        with self._lock:
            if (known := self._listings.get(digest)) is not None:
                self._listings.move_to_end(digest)
                return known
        raw = self._state.meta.get(digest)
        if raw is None:
            return None
        listing = decode_listing(raw)
        with self._lock:
            if len(listing) <= LISTINGS_CACHED // 2 and digest not in self._listings:
                self._listings[digest] = listing
                self._listed += len(listing)
                while self._listed > LISTINGS_CACHED:
                    self._listed -= len(self._listings.popitem(last=False)[1])
        return listing


class _StateRows:
    """The rows of one batch out of a state directory."""

    def __init__(
        self,
        locate: Callable[[Iterable[bytes]], dict[bytes, Located]],
        open_: Callable[[bytes, Located | None], Content | None],
        rows: Sequence[Row],
    ) -> None:
        self._locate = locate
        self._open = open_
        self._rows = rows
        self._next = 0
        self._located: dict[bytes, Located] = {}
        self._located_to = 0

    @property
    def left(self) -> int:
        return len(self._rows) - self._next

    def take(self, size: int, *, wait: bool) -> list[TakenRow | None]:
        taken: list[TakenRow | None] = []
        while self.left and size > 0 and len(taken) < ROWS_AT_ONCE:
            if self._next == self._located_to:
                self._located_to = min(len(self._rows), self._next + ROWS_AT_ONCE)
                some = self._rows[self._next : self._located_to]
                self._located = self._locate(digest for digest, _, _ in some)
            try:
                row = self._read(self._rows[self._next], wait)
            except BlockingIOError:
                break
            except OSError:  # a disk that fails here may be fine elsewhere: for the client, not here
                row = None
            taken.append(row)
            size -= 0 if row is None else len(row.data)
            self._next += 1
        return taken

    def _read(self, row: Row, wait: bool) -> TakenRow | None:
        digest, offset, length = row
        content = self._open(digest, self._located.get(digest))
        if content is None:
            return None
        try:
            data = content.read(offset, length, wait=wait)
            return None if data is None else TakenRow(data, content.archive)
        finally:
            content.close()


def _shares(record: HolderRecord, addresses: set[str]) -> bool:
    return any(endpoint.ip and endpoint.ip in addresses for endpoint in record.endpoints)

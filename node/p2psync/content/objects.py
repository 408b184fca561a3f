"""Manifest objects as they are served: small ones from memory, large ones from a file, listings by pieces.

The state directory keeps an object as one value, which SQLite reads from its beginning: an object of many
megabytes, asked for by many ranges, is copied once to a file that has no name and is gone with the process.
"""

from __future__ import annotations

import os
import tempfile
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Final

from p2psync.content.catalogue import Catalogue, catalogue_of
from p2psync.content.interface import BytesContent, Content
from p2psync.format.listing import Entry, decode_entries
from p2psync.state.meta import MetaStore
from p2psync.tree.opener import FileContent

IN_MEMORY_MAX: Final = 256 << 10
"""Bytes of an object that is served from memory: a listing of 2,500 entries."""
BYTES_CACHED: Final = 8 << 20
"""Bytes of such objects that are kept: a client asks for one by several rows."""
IN_PLACE_MAX: Final = 4 << 20
"""Bytes of an object of which a row is read where it is: half of what SQLite keeps in memory of its file."""
COPIES_CACHED: Final = 32
"""Larger objects of which a copy is kept, each with a descriptor."""
COPIED_MAX: Final = 1 << 30
"""Bytes of disk for these copies: four of the largest objects, hundreds of usual ones."""
ENTRIES_CACHED: Final = 32 << 10
"""Entries of pieces of listings that are kept decoded, all listings together: about 15 MB."""
MARKS_CACHED: Final = 64 << 10
"""Pieces of listings of which it is kept where they begin, all listings together: about 10 MB, for 1 GB of
listings.
"""
_name_of: Final[Callable[[Entry], bytes]] = itemgetter(0)


class Objects:
    """The objects of one store, for any number of threads. Each object is read, copied or decoded once at a
    time.
    """

    def __init__(self, meta: MetaStore, directory: Path) -> None:
        """Copies are made in ``directory``."""
        self._meta = meta
        self._directory = directory
        self._lock = threading.Lock()
        self._making: dict[bytes, _Turnstile] = {}
        self._bytes: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes_held = 0
        self._copies: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        self._copied = 0
        self._catalogues: OrderedDict[bytes, Catalogue] = OrderedDict()
        self._marks_held = 0
        self._pieces: OrderedDict[tuple[bytes, int], list[Entry]] = OrderedDict()
        self._entries_held = 0

    def close(self) -> None:
        """Close the copies. Nobody may be using the objects."""
        while self._copies:
            os.close(self._copies.popitem()[1][0])

    def open(self, digest: bytes) -> Content | None:
        """The object, to be read and closed. None: it is not here, or cannot be copied for want of room."""
        with self._lock:
            if (known := self._known(digest)) is not None:
                return known
        size = self._meta.size(digest)
        if size is None:
            return None
        with self._alone(digest):
            with self._lock:
                if (known := self._known(digest)) is not None:
                    return known
            if size <= IN_MEMORY_MAX:
                return self._load(digest)
            try:
                return self._copy(digest, size)
            except OSError:
                return None

    def read_into(self, digest: bytes, offset: int, into: memoryview) -> bool | None:
        """Read a part of the object, as for a row of a batch: one of middling size is not copied for that.

        None: it is not here. False: it is shorter.
        """
        with self._lock:
            known = self._known(digest)
        if known is None:
            size = self._meta.size(digest)
            if size is not None and IN_MEMORY_MAX < size <= IN_PLACE_MAX:
                return self._meta.read_into(digest, offset, into)
            known = self.open(digest)
        if known is None:
            return None
        try:
            return known.read_into(offset, into)
        finally:
            known.close()

    def find(self, digest: bytes, name: bytes) -> Entry | None:
        """The entry of a name in a directory object; None if it has none. Raises LookupError: the object is
        not here, or not any more; FormatError: it is no directory object.
        """
        catalogue = self.catalogue(digest)
        number = catalogue.holding(name)
        if number is None:
            return None
        with self._lock:
            known = self._pieces.get((digest, number))
            if known is not None:
                self._pieces.move_to_end((digest, number))
        if known is None:
            known = self._decode(digest, catalogue, number)
            with self._lock:
                if (digest, number) not in self._pieces:
                    self._pieces[digest, number] = known
                    self._entries_held += len(known)
                while self._entries_held > ENTRIES_CACHED:
                    self._entries_held -= len(self._pieces.popitem(last=False)[1])
        at = bisect_left(known, name, key=_name_of)
        return known[at] if at < len(known) and known[at].name == name else None

    def piece(self, digest: bytes, number: int) -> list[Entry]:
        """The entries of a piece of a directory object, for who goes through it. Raises as `find`."""
        return self._decode(digest, self.catalogue(digest), number)

    def catalogue(self, digest: bytes) -> Catalogue:
        """The pieces of a directory object: it is read through once, however many ask. Raises as `find`."""
        if (known := self._catalogue(digest)) is not None:
            return known
        with self._alone(digest):
            if (known := self._catalogue(digest)) is not None:
                return known
            if not self._meta.has(digest):
                raise LookupError(digest)
            made = catalogue_of(self._meta.pieces(digest))
            with self._lock:
                self._catalogues[digest] = made
                self._marks_held += made.pieces + 1
                while self._marks_held > MARKS_CACHED and len(self._catalogues) > 1:
                    self._marks_held -= self._catalogues.popitem(last=False)[1].pieces + 1
            return made

    def _catalogue(self, digest: bytes) -> Catalogue | None:
        with self._lock:
            if digest in self._catalogues:
                self._catalogues.move_to_end(digest)
            return self._catalogues.get(digest)

    def _decode(self, digest: bytes, catalogue: Catalogue, number: int) -> list[Entry]:
        begin, end = catalogue.span(number)
        raw = bytearray(end - begin)
        if not self.read_into(digest, begin, memoryview(raw)):
            raise LookupError(digest)
        return decode_entries(bytes(raw))

    def _known(self, digest: bytes) -> Content | None:
        """With the lock."""
        if (data := self._bytes.get(digest)) is not None:
            self._bytes.move_to_end(digest)
            return BytesContent(data)
        if (copy := self._copies.get(digest)) is not None:
            self._copies.move_to_end(digest)
            return FileContent(os.dup(copy[0]), copy[1], None)
        return None

    def _load(self, digest: bytes) -> Content | None:
        data = self._meta.get(digest)
        if data is None:
            return None
        with self._lock:
            self._bytes[digest] = data
            self._bytes_held += len(data)
            while self._bytes_held > BYTES_CACHED:
                self._bytes_held -= len(self._bytes.popitem(last=False)[1])
        return BytesContent(data)

    def _copy(self, digest: bytes, size: int) -> Content | None:
        with tempfile.TemporaryFile(dir=self._directory, buffering=0) as file:
            for piece in self._meta.pieces(digest):
                file.write(piece)
            if os.fstat(file.fileno()).st_size != size:  # it was removed meanwhile, or the disk is full
                return None
            kept = os.dup(file.fileno())
            with self._lock:
                self._copies[digest] = kept, size
                self._copied += size
                while len(self._copies) > COPIES_CACHED or self._copied > COPIED_MAX:
                    _, (oldest, length) = self._copies.popitem(last=False)
                    os.close(oldest)
                    self._copied -= length
            return FileContent(os.dup(kept), size, None)

    @contextmanager
    def _alone(self, digest: bytes) -> Iterator[None]:
        """Whoever makes something of an object does so alone; others wait, and find it made."""
        with self._lock:
            turnstile = self._making.setdefault(digest, _Turnstile())
            turnstile.users += 1
        try:
            with turnstile.lock:
                yield
        finally:
            with self._lock:
                turnstile.users -= 1
                if not turnstile.users:
                    del self._making[digest]


class _Turnstile:
    """Lets one through at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0

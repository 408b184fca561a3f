"""What the content server serves out of a state directory: published and mirrored trees, their manifests, and
what a running fetch has so far.

The interface is ``interface``'s; manifests in memory are ``objects``'.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from p2psync.content.browse import find, root_of
from p2psync.content.doubts import CheckedFiles, Doubts
from p2psync.content.gather import Batch, Places
from p2psync.content.interface import Content, Found, Taken
from p2psync.content.objects import Objects
from p2psync.content.partial import PartialObjects
from p2psync.network.here import client_of
from p2psync.sources.wire import Have, Row
from p2psync.state import State
from p2psync.state.trees import Located
from p2psync.tree.opener import FileContent, Opener, Stamp
from p2psync.trust import handed_on
from p2psync_dht import Endpoint, HolderRecord
from p2psync_dht.networks import Caps, NetworkQuota

DIRECTORIES_KNOWN: Final = 1024
"""Directories of unfinished files of which it is remembered whose tree they lie in."""
HEADS_KNOWN: Final = 256
"""Heads that are answered from memory while nothing is written to the index: most requests of a fetch that
has nothing to do.
"""
HOLDERS_PER_ADDRESS_MAX: Final = 16
"""Nominated holders kept of one IP address and archive: several nodes behind one address are normal,
hundreds are one liar."""
NOMINATED_MAX: Final = Caps(client=HOLDERS_PER_ADDRESS_MAX, site=32, provider=128)
"""The same for all of a network: a hall full of machines that fetch at once knows of each other by a part of
them, and eight providers fill what is kept of an archive.
"""


class StateLibrary:
    """The trees of a state directory, and what a running fetch has so far."""

    def __init__(
        self,
        state: State,
        partial: PartialObjects | None = None,
        clock: Callable[[], float] = time.time,
        *,
        archive: bytes | None = None,
    ) -> None:
        """``archive``: serve this one and no other, though it was merely fetched, as its fetch does while it
        runs. Otherwise nobody is told what a user has downloaded, nor what is kept to oneself.
        """
        self._state = state
        self._archive = archive
        self._public = archive is None
        self.partial = partial if partial is not None else PartialObjects()
        self._clock = clock
        self._opener = Opener()
        self.doubts = Doubts()
        self._checked = CheckedFiles(self._opener, state.meta, self.doubts)
        self._objects = Objects(state.meta, state.path)
        self._places = Places(
            self._opener,
            self._checked,
            state.trees,
            self._public,
            archive,
            self._search,
            self.open,
            self._elsewhere,
        )
        self._archives: dict[bytes, bytes | None] = {}
        self._offered: tuple[int, list[bytes]] = -1, []
        """The version of the index, and the archives that were offered then. Replaced as a whole: threads
        share it.
        """
        self._heads: tuple[int, dict[bytes, bytes]] = 0, {}
        """The version of the index, and heads that were read of it. Replaced as a whole: threads share it."""

    def close(self) -> None:
        """Close cached directories and objects; the state is its owner's to close."""
        self._opener.close()
        self._objects.close()

    def rest(self) -> None:
        self._opener.rest()

    def archives(self) -> list[bytes]:
        if (known := self.known_archives()) is not None:
            return known
        version = self._state.data_version()  # of before: what is written meanwhile makes it an old one
        public = self._state.offers.public()
        trees = [tree for tree in self._state.trees.all() if tree.id in public]
        found = list(dict.fromkeys(tree.archive for tree in trees if tree.archive is not None))
        self._offered = version, found
        return found

    def known_archives(self) -> list[bytes] | None:
        if self._archive is not None:
            return [self._archive]
        version, archives = self._offered
        return archives if version == self._state.data_version() else None

    def head(self, archive: bytes) -> bytes | None:
        version = self._state.data_version()  # of before: what is written meanwhile makes it an old one
        if archive not in self.archives():
            told = self._state.heads.told_as_ended(self._clock(), archive)
            return told[0].raw if told else None
        found = self._state.heads.newest(archive)
        if found is None:
            return None
        known = self._heads[1] if self._heads[0] == version and len(self._heads[1]) < HEADS_KNOWN else {}
        self._heads = version, {**known, archive: found.raw}
        return found.raw

    def known_head(self, archive: bytes) -> bytes | None:
        version, heads = self._heads
        return heads.get(archive) if heads and version == self._state.data_version() else None

    def put_head(self, archive: bytes, raw: bytes) -> bool:
        if archive not in self.archives():
            raise KeyError("the archive is not here")
        known = self._state.heads.newest(archive)
        if known is not None and known.raw == raw:
            return False
        return self._state.heads.put(handed_on(raw, archive, self._clock()), "handed on")

    def open(self, digest: bytes) -> Content | None:
        located = self._state.trees.find(digest, public=self._public, archive=self._archive)
        return (
            self._open_file(located)
            or (self._objects.open(digest) if self._offers(digest) else None)
            or self._open_partial(digest)
            or self._checked.open(digest, located)
        )

    def _offers(self, digest: bytes) -> bool:
        """Whether an object of metadata that may be here is for whoever asks."""
        return self._state.offers.offers(digest, self._archive)

    def _open_file(self, located: Iterable[Located]) -> FileContent | None:
        """The first file that is as it was when it was hashed."""
        opened = map(self._open_located, located)
        return next((content for content in opened if content is not None), None)

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
            content.archive = self._archive_at(os.path.dirname(path))
        return content

    def _archive_at(self, directory: bytes) -> bytes | None:
        """The archive of the tree that a directory lies in."""
        if directory not in self._archives:
            path = Path(os.fsdecode(directory))
            above = (self._state.trees.get(bytes(each)) for each in (path, *path.parents))
            if len(self._archives) >= DIRECTORIES_KNOWN:
                self._archives.clear()
            self._archives[directory] = next((tree.archive for tree in above if tree is not None), None)
        return self._archives[directory]

    def gather(self, rows: Sequence[Row], room: memoryview) -> Taken:
        with closing(Batch(self._places, rows)) as batch:
            return batch.gather(room)

    def _search(
        self, digest: bytes, offset: int, into: memoryview, indexed: bool
    ) -> tuple[bool, bytes | None]:
        """In all places; ``Places.search``."""
        if not indexed and self._offers(digest):
            came = self._objects.read_into(digest, offset, into)
            if came is not None:
                return came, None  # manifests are shared by archives
        content = self.open(digest)
        if content is None:
            return False, None
        try:
            return content.read_into(offset, into), content.archive
        finally:
            content.close()

    def _elsewhere(self, digests: Iterable[bytes]) -> set[bytes]:
        """``Places.elsewhere``."""
        wanted = set(digests)
        unknown = self._state.meta.missing(wanted)
        return wanted.difference(digest for digest in unknown if not self.partial.have(digest))

    def recipe(self, digest: bytes) -> bytes | None:
        raw = self._state.meta.get_recipe(digest)
        if raw is not None and (self._offers(digest) or self._has_file(digest)):
            return raw
        return self.partial.recipe(digest)

    def _has_file(self, digest: bytes) -> bool:
        """Whether a file with this content is offered."""
        return bool(self._state.trees.find(digest, 1, public=self._public, archive=self._archive))

    def have(self, digests: Sequence[bytes]) -> list[Have]:
        here = set(self._state.trees.find_many(digests, public=self._public, archive=self._archive))
        here.update(digest for digest in digests if digest not in here and self._offers(digest))
        return [
            self.doubts.have(digest) if digest in here else self.partial.have(digest) for digest in digests
        ]

    def holders(self, archive: bytes) -> list[bytes]:
        return self._state.holders.vouched(archive, self._clock()) if archive in self.archives() else []

    def mirrors(self, archive: bytes) -> tuple[bytes, bytes] | None:
        return self._state.lists.raw(archive) if archive in self.archives() else None

    def keep_holder(self, archive: bytes, record: HolderRecord, place: Endpoint | None) -> bool:
        holders = self._state.holders
        if record.withdrawn or place is None:
            if holders.of_node(archive, record.node_key) is not None:
                holders.keep(archive, record)
            return True
        listed = map(HolderRecord.decode, holders.vouched(archive, self._clock()))
        others = [each for each in listed if each.node_key != record.node_key]
        clients = _clients(record)
        same = [each for each in others if clients & _clients(each)]
        if len(same) >= HOLDERS_PER_ADDRESS_MAX:
            # Who has left makes room for who comes, and else counts: one address could fill the list by
            # coming and leaving under ever new names.
            left = min((each for each in same if each.withdrawn), key=lambda one: one.issued, default=None)
            if left is None:
                return False
            holders.drop(archive, left.node_key)
            others.remove(left)
        if not NetworkQuota(_ips(others), caps=NOMINATED_MAX).admit(place.ip):
            return False
        holders.keep_proved(archive, record, place, self._clock())
        return True

    def browse(self, archive: bytes, path: Sequence[bytes]) -> Found | None:
        root = root_of(self._state, archive) if archive in self.archives() else None
        return None if root is None else find(self._objects, root, b"/".join(path))


def _clients(record: HolderRecord) -> set[str]:
    """Whose the addresses of a holder are."""
    return set(map(client_of, _ips([record])))


def _ips(records: Iterable[HolderRecord]) -> list[str]:
    return [endpoint.ip for record in records for endpoint in record.endpoints if endpoint.ip]

"""What the content server needs to know of what is held here: the interface, and content as it is sent.

Digests are 32 bytes, archives 32-byte ids. All methods may be called from any thread and may block on disk.
Nothing here speaks HTTP, and nothing decides whom to serve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from p2psync.format.listing import Entry
from p2psync.sources.wire import Have, Row
from p2psync.tree.opener import FileContent
from p2psync_dht import Endpoint, HolderRecord


class BytesContent:
    """An object that is in memory."""

    fd: Final = None
    archive: Final = None  # manifests are shared by archives
    reads: Final = False

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def unchanged(self) -> bool:
        return True

    def allowed(self, offset: int, wanted: int) -> int:
        return wanted

    def covers(self, offset: int, length: int) -> bool:
        return offset + length <= self.size

    def cost(self, offset: int, length: int) -> int:
        return 0

    def read_into(self, offset: int, into: memoryview) -> bool:
        if not self.covers(offset, len(into)):
            return False
        into[:] = memoryview(self.data)[offset : offset + len(into)]
        return True

    def close(self) -> None:
        pass


Content = FileContent | BytesContent


class Directory(Protocol):
    """What is in a directory of an archive, in the order of names: holds nothing of it. All may block, and
    raise LookupError where the listing is here no more.
    """

    def find(self, name: bytes) -> Entry | None:
        """The entry of this name."""

    @property
    def pieces(self) -> int:
        """How many pieces there are."""

    def piece(self, number: int) -> Sequence[Entry]:
        """The entries of one of them, some hundred."""

    def leads_to_directory(self, link: Entry) -> bool:
        """Whether a link in it leads to a directory of the archive."""


@dataclass(frozen=True, slots=True)
class Found:
    """A path in an archive: its entry and, for a directory, what is in it."""

    entry: Entry
    directory: Directory | None = None


class Taken(NamedTuple):
    """Rows of an answer: the bytes of each with its length in front, and the archive in whose tree it is."""

    sizes: list[int]
    archives: list[bytes | None]


class Library(Protocol):
    """What is held here."""

    def rest(self) -> None:
        """Close what is kept open for further requests and was not used since the last call."""

    def archives(self) -> list[bytes]:
        """Archives of which (part of) a tree is here."""

    def known_archives(self) -> list[bytes] | None:
        """The same where that takes a moment, for the event loop; None: ask for it in a thread."""

    def head(self, archive: bytes) -> bytes | None:
        """The newest head known, as signed."""

    def known_head(self, archive: bytes) -> bytes | None:
        """The same where that takes a moment, for the event loop; None: ask for it in a thread."""

    def put_head(self, archive: bytes, raw: bytes) -> bool:
        """Keep a head that somebody hands on, if it is newer. Raises FormatError, TrustError; KeyError if
        the archive is not here."""

    def open(self, digest: bytes) -> Content | None:
        """An object's bytes. None: not here, or no longer as it was hashed."""

    def gather(self, rows: Sequence[Row], room: memoryview) -> Taken:
        """Put these rows one behind the other into ``room``, each with its length in front
        (``wire.ROW_LENGTH``), or ``wire.NOT_HERE`` and nothing behind it."""

    def recipe(self, digest: bytes) -> bytes | None:
        """The encoded recipe of an object of several chunks."""

    def have(self, digests: Sequence[bytes]) -> list[Have]:
        """What is here of each object; files that changed since they were hashed may still be counted."""

    def holders(self, archive: bytes) -> list[bytes]:
        """Unexpired holder records, as signed, of nodes that have proved their keys here not long ago."""

    def mirrors(self, archive: bytes) -> tuple[bytes, bytes] | None:
        """The newest list of recommended mirrors, as signed: the record that names it, and the list."""

    def keep_holder(self, archive: bytes, record: HolderRecord, place: Endpoint | None) -> bool:
        """Keep the record of a node that has just proved its key at ``place``; a withdrawal (None), which may
        come from anywhere, where something of its node is kept. False: too many of its address or network are
        here.
        """

    def browse(self, archive: bytes, path: Sequence[bytes]) -> Found | None:
        """What ``path`` (names, none for the root) leads to in the newest snapshot that is here, links
        followed within the archive.
        """

"""What a source can offer: content (``p2psync.sources.orders.Bulk``), metadata, and the addresses of others.
A source has those of the three that it can serve; nobody asks of which kind it is.

The coroutines may be called concurrently. All raise NetworkError (or one of its kinds) where the source
fails, and FormatError where it sends nonsense. What they return is unverified. Cancelling a call is safe:
nothing is written into its buffer afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from p2psync.format.ids import Ref
from p2psync.sources.orders import Bulk
from p2psync.sources.source import Made, Span
from p2psync.sources.wire import Block, Have, Info


class Heads(Protocol):
    """Signed heads."""

    async def head(self, archive: bytes) -> bytes | None:
        """The newest signed head that it knows; None if it knows none."""

    async def earlier(self, archive: bytes) -> list[bytes]:
        """Heads, that one among them, whose snapshots it may still have: for when that of the newest is
        nowhere.
        """


class Metadata(Protocol):
    """Directory objects, recipes, and word of what is there."""

    @property
    def received(self) -> int:
        """Every byte read from its sockets so far, for these questions."""

    async def metas(self, refs: Sequence[Ref]) -> list[bytes | None]:
        """Several whole objects in few requests; None where one is not there."""

    async def read(self, pieces: Sequence[Span], into: memoryview) -> list[bool]:
        """Parts of large metadata objects: fills ``into`` with them, back to back, and says which came. The
        content of the others' places is undefined.
        """

    async def recipes(self, refs: Sequence[Ref]) -> list[bytes | None]:
        """The encoded recipes of objects of several chunks, in few requests; None where one is not there."""

    async def have(self, digests: Sequence[bytes]) -> list[Have]:
        """What it has of each object: nothing, all, or some chunks."""


class Delta(Protocol):
    """What helps who has older versions: small parts, by which what is the same is found, and the rest,
    compressed. All in one request, within the limits of a batch (``p2psync.sources.wire``).
    """

    async def blocks(self, pieces: Sequence[Span]) -> Made[list[Block]]:
        """The blocks of each piece; None of one that is not there. Raises NotOffered."""

    async def packed(self, pieces: Sequence[Span]) -> Made[memoryview]:
        """The pieces themselves; None for one that is not there. Raises NotOffered."""


class Tracker(Protocol):
    """A keeper of signed holder records, as a BitTorrent tracker keeps addresses."""

    async def info(self) -> Info:
        """What it says about itself, its key among it."""

    async def holders(self, archive: bytes) -> list[bytes]:
        """Signed holder records of others that it knows."""

    async def mirrors(self, archive: bytes) -> tuple[bytes, bytes] | None:
        """The list of recommended mirrors that it has, with the record that names it; None if it has none."""

    async def nominate(self, archive: bytes, raw: bytes) -> None:
        """Hand it a signed holder record to keep and to re-share. Raises Unreachable, Busy, NotHere."""

    async def put_head(self, archive: bytes, raw: bytes) -> bool:
        """Hand on a head that it may not have. True if it took it, False if it has one as new."""


class Source(Protocol):
    """Something that has all or part of an archive."""

    @property
    def name(self) -> str:
        """``HOST:PORT`` or the URL, as people are shown it."""

    @property
    def received(self) -> int:
        """Every byte read from its sockets so far."""

    @property
    def content(self) -> Bulk:
        """Verified content, into an arena."""

    @property
    def heads(self) -> Heads | None:
        """None of a source that knows none."""

    @property
    def metadata(self) -> Metadata | None:
        """None of a source that has content only, as a plain web server; one that has static files beside
        it has metadata as well, once it was asked for the head.
        """

    @property
    def delta(self) -> Delta | None:
        """None of a source that has nothing to say to older versions."""

    @property
    def has_files(self) -> bool:
        """False of a place that has static files alone, and not the tree that they are of."""

    @property
    def others(self) -> Collection[str]:
        """Names of sources that have the same, in the words of this one."""

    @property
    def tracker(self) -> Tracker | None:
        """None of a source that keeps no addresses."""

    async def close(self) -> None:
        """Close its connections and end its thread; calls and orders under way fail."""

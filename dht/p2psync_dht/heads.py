"""Reading and writing heads: verified, decided by a quorum, never going back.

A reader takes the best of several copies ((epoch, seq), then hash) and hands it on to nodes that gave an
older one. Whether it accepts that head, given what it has seen before, is its own trust policy.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from p2psync_dht.form import RecordError
from p2psync_dht.lookup import ALPHA, Lookup
from p2psync_dht.query import Answer
from p2psync_dht.records import Head, tag_of
from p2psync_dht.stores import store_at_closest, store_one
from p2psync_dht.wire import Want

if TYPE_CHECKING:
    from p2psync_dht.protocol import DhtProtocol

QUORUM: Final = 3  # copies of the best head that end a read
# Queries under way in such a read, which has to hear a score of nodes: with four of them, and 40 % of the
# nodes dead, it takes a fifth longer, for almost as many datagrams.
QUORUM_ALPHA: Final = 8
NEAREST: Final = 8  # nodes nearest to the key that such a read has heard: fewer may all be liars
SPARE: Final = 3  # nodes asked beyond these, so that a silent one does not hold up the read
HANDED_ON: Final = 8  # nodes that one read gives the newer head; the next read finds the rest


@dataclass(frozen=True, slots=True)
class HeadLookup:
    """What a read found. `copies` nodes gave `best`, `older` an older head; `answered` were asked and
    answered at all.
    """

    best: Head | None
    copies: int
    answered: int
    older: int


class _HeadReader:
    """Collects the heads of one read over all address families."""

    def __init__(self, protocol: DhtProtocol, key: bytes, quorum: int) -> None:
        self._key = key
        self.quorum = quorum
        self.best: Head | None = None
        self.given: dict[bytes, tuple[Answer, Head]] = {}
        self._protocol = protocol
        self._checked: dict[bytes, Head | None] = {}
        own = protocol.storage.head(key)
        self.own = None if own is None else self._check(own[0])
        self.best = self.own

    def _check(self, raw: Any) -> Head | None:
        """The head of these bytes if it is one of this key and verifies; copies are verified once."""
        if not isinstance(raw, bytes):
            return None
        if raw not in self._checked:
            head: Head | None
            try:
                head = Head.decode(raw, tag=tag_of(raw))
                if head.key != self._key:
                    raise RecordError("a head of another archive, or of another kind")
                head.verify(int(self._protocol.clock()))
            except RecordError:
                self._protocol.counters.events["bad_head"] += 1
                head = None
            self._checked[raw] = head
        return self._checked[raw]

    def take(self, answer: Answer) -> None:
        """Count one answer."""
        head = self._check(answer.value[0]) if answer.value else None
        if head is not None:
            self.given[answer.contact.id] = (answer, head)
            if self.best is None or head.order > self.best.order:
                self.best = head

    @property
    def copies(self) -> int:
        if self.best is None:
            return 0
        mine = int(self.own is not None and self.own.raw == self.best.raw)
        return mine + sum(head.raw == self.best.raw for _, head in self.given.values())

    def is_decided(self, lookup: Lookup) -> bool:
        """Whether the answers so far are enough."""
        if self.quorum <= 1:
            return self.best is not None
        nearest = max(NEAREST, self.quorum)
        if self.best is not None:
            lookup.focus(nearest + SPARE)
        return self.copies >= self.quorum and lookup.is_settled(nearest)

    def hand_on(self) -> None:
        """Give the best head to those that gave an older one, and keep it if we gave one ourselves."""
        if self.best is None:
            return
        behind = [answer for answer, head in self.given.values() if head.order < self.best.order]
        for answer in behind[:HANDED_ON]:
            store_one(self._protocol, answer, self.best.raw)
        if self.own is not None and self.own.order < self.best.order:
            self._protocol.storage.put(self.best.raw)


async def read_head(
    protocol: DhtProtocol, families: Sequence[socket.AddressFamily], key: bytes, quorum: int
) -> HeadLookup:
    """Look for the head under `key` (20 bytes) until `quorum` copies of the best are in or the k closest
    have answered.
    """
    reader = _HeadReader(protocol, key, quorum)
    if quorum <= 1 and reader.best is not None:
        return HeadLookup(reader.best, 1, 0, 0)
    takes_first = quorum <= 1
    lookups = [
        Lookup(
            protocol,
            family,
            key,
            Want.HEAD,
            on_answer=reader.take,
            is_decided=reader.is_decided,
            alpha=ALPHA if takes_first else QUORUM_ALPHA,
            own_last=takes_first,
            minds_crowds=not takes_first,
        )
        for family in families
    ]
    await asyncio.gather(*(lookup.run() for lookup in lookups))
    reader.hand_on()
    older = sum(head.order < reader.best.order for _, head in reader.given.values()) if reader.best else 0
    return HeadLookup(reader.best, reader.copies, sum(lookup.answered for lookup in lookups), older)


async def write_head(protocol: DhtProtocol, families: Sequence[socket.AddressFamily], raw: bytes) -> int:
    """Store a head at the k closest nodes; the number of copies there are now. RecordError if it is not
    valid.
    """
    head = Head.decode(raw, tag=tag_of(raw))
    head.verify(int(protocol.clock()))
    return await store_at_closest(protocol, families, head.key, raw)

"""Reading and writing holder records: many under a key, verified, unexpired, one per node.

A datagram holds a handful, so a node with more gives a random sample with the first answer and pages by
offset after that; a reader turns to the nodes that have most.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from p2psync_dht.contact import Contact
from p2psync_dht.form import RecordError
from p2psync_dht.holder_record import HolderRecord
from p2psync_dht.lookup import Lookup
from p2psync_dht.query import Answer, Reply
from p2psync_dht.scope import Scope, pack_ip, scope_of
from p2psync_dht.storage import MAX_HOLDERS_PER_KEY
from p2psync_dht.stores import store_at_closest
from p2psync_dht.wire import Want, WireError, field

if TYPE_CHECKING:
    from p2psync_dht.protocol import DhtProtocol

PAGED_NODES: Final = 4  # nodes whose sets are read page by page, at the same time
MAX_PAGES: Final = 128  # of one node: its whole set, were there only four records a page
MAX_IN_ANSWER: Final = 16  # records looked at in one answer; a datagram has room for eight
SETTLED: Final = 6  # answers in a row that brought nothing new: the rest will not either


class _HolderReader:
    """Collects the records of one read."""

    def __init__(self, protocol: DhtProtocol, key: bytes, limit: int) -> None:
        self._protocol = protocol
        self._key = key
        self.limit = limit
        self.records: dict[bytes, HolderRecord] = {}
        self.largest: list[tuple[int, Answer]] = []
        self._checked: set[bytes] = set()
        self._barren = 0
        self._take_records(protocol.storage.holders(key, limit)[1], Scope.LOOPBACK)

    def _take_records(self, raws: Sequence[object], teller: Scope) -> bool:
        """Whether any was new. `teller` is the scope of who told of them: see `scope.may_tell`."""
        before = len(self.records)
        for raw in raws[: max(MAX_IN_ANSWER, self.limit)]:
            if not isinstance(raw, bytes) or raw in self._checked:
                continue
            self._checked.add(raw)
            try:
                record = HolderRecord.decode(raw)
                if record.key != self._key:
                    raise RecordError("a holder record of another key")
                if not record.may_be_told(teller):
                    raise RecordError("a holder record with an address nearer than who told of it")
                known = self.records.get(record.node_key)
                if known is not None and known.order >= record.order:
                    continue
                record.verify(int(self._protocol.clock()))
            except RecordError:
                self._protocol.counters.events["bad_holder"] += 1
                continue
            if known is not None or len(self.records) < self.limit:
                self.records[record.node_key] = record
        return len(self.records) > before

    def take_value(self, value: Sequence[object] | None, teller: Contact) -> tuple[int, int]:
        """Take [count, records]; the count claimed and the number of records given, (0, 0) if malformed."""
        if not value or len(value) < 2:
            return 0, 0
        count, raws = value[0], value[1]
        if type(count) is not int or not 0 < count < 2**32 or not isinstance(raws, list):
            self._protocol.counters.drops["value"] += 1
            return 0, 0
        raws = raws[:MAX_IN_ANSWER]
        new = self._take_records(raws, scope_of(pack_ip(teller.ip)))
        self._barren = 0 if new else self._barren + 1
        return min(count, MAX_HOLDERS_PER_KEY), len(raws)

    def take(self, answer: Answer) -> None:
        """Count one answer of the lookup."""
        count, _given = self.take_value(answer.value, answer.contact)
        if count:
            self.largest.append((count, answer))

    def is_decided(self, _lookup: Lookup) -> bool:
        """Whether the lookup can end."""
        if len(self.records) >= self.limit:
            return True
        # Several nodes with nothing new, and none that has more than is known: that is all.
        most = max((count for count, _ in self.largest), default=0)
        return bool(self.records) and self._barren >= SETTLED and most <= len(self.records)

    async def read_pages(self) -> None:
        """Page through the largest sets until the limit is reached or nothing is left."""
        self.largest.sort(key=lambda pair: -pair[0])
        if not self.largest or self.largest[0][0] <= len(self.records):
            return
        await asyncio.gather(*(self._page(count, answer) for count, answer in self.largest[:PAGED_NODES]))

    async def _page(self, count: int, answer: Answer) -> None:
        start = self._protocol.rng.randrange(count)
        read = 0
        for _ in range(MAX_PAGES):
            if read >= count or len(self.records) >= min(self.limit, self.largest[0][0]):
                return
            reply = await self._ask_page(answer, (start + read) % count)
            if reply is None:
                return
            try:
                claimed, given = self.take_value(field(reply.body, 3, list, optional=True), reply.contact)
            except WireError:
                return
            if not claimed:
                return
            # At the end of the set go on at its beginning; an empty page there means that it shrank.
            read += given or (count - (start + read) % count)

    async def _ask_page(self, answer: Answer, offset: int) -> Reply | None:
        done: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()

        def arrived(reply: Reply | None) -> None:
            if not done.done():
                done.set_result(reply)

        self._protocol.find(answer.contact, self._key, Want.HOLDERS, arrived, offset=offset)
        return await done


async def read_holders(
    protocol: DhtProtocol, families: Sequence[socket.AddressFamily], key: bytes, limit: int
) -> list[HolderRecord]:
    """Up to `limit` current records under `key`, one per node, in no order."""
    reader = _HolderReader(protocol, key, limit)
    lookups = [
        Lookup(protocol, family, key, Want.HOLDERS, on_answer=reader.take, is_decided=reader.is_decided)
        for family in families
    ]
    await asyncio.gather(*(lookup.run() for lookup in lookups))
    if len(reader.records) < limit:
        await reader.read_pages()
    return list(reader.records.values())


async def write_holder(protocol: DhtProtocol, families: Sequence[socket.AddressFamily], raw: bytes) -> int:
    """Store a holder record at the k closest nodes; the number of copies there are now. RecordError if not
    valid.
    """
    record = HolderRecord.decode(raw)
    record.verify(int(protocol.clock()))
    return await store_at_closest(protocol, families, record.key, raw)

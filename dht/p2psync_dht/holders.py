"""Reading and writing holder records: many under a key, verified, unexpired, one per node.

A datagram holds a handful, so a node with more gives a random sample with the first answer and pages by
offset after that; a reader turns to some of the nodes that have more than it has seen.

Nodes that store records may have made up any number of them. So more are collected than are wanted, and
what a reader takes is shared out among networks (`networks.fairly`), within the caps that honest stores
have (`places`); of one network, those come first that most nodes tell of.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from p2psync_dht.contact import Contact
from p2psync_dht.form import RecordError
from p2psync_dht.holder_record import HolderRecord, addresses_in
from p2psync_dht.lookup import Lookup
from p2psync_dht.networks import NetworkQuota, fairly, networks_of
from p2psync_dht.places import HOLDERS_PER_NETWORK
from p2psync_dht.query import Answer, Reply
from p2psync_dht.storage import MAX_HOLDERS_PER_KEY
from p2psync_dht.stores import store_at_closest
from p2psync_dht.wire import Want, WireError, field

if TYPE_CHECKING:
    from p2psync_dht.protocol import DhtProtocol

PAGED_NODES: Final = (
    6  # nodes whose sets are read page by page, at the same time; of 40 % liars all once in 250
)
STALE_PAGES: Final = 4  # pages in a row that brought nothing new: some 24 records that others told of before
MAX_IN_ANSWER: Final = 16  # records looked at in one answer; a datagram has room for eight
SETTLED: Final = 6  # answers in a row that brought nothing new: the rest will not either
COLLECTED: Final = 4  # times as many as are wanted are verified: at most 0.2 s of a core for the usual 256


class _HolderReader:
    """Collects the records of one read."""

    def __init__(self, protocol: DhtProtocol, key: bytes, limit: int) -> None:
        self._protocol = protocol
        self._key = key
        self._limit = limit
        self._records: dict[bytes, HolderRecord] = {}
        self._tellers: dict[bytes, set[bytes]] = {}  # of a record, by its bytes: ids of nodes
        self._largest: list[tuple[int, Answer]] = []
        self._barren = 0
        for raw in protocol.storage.holders(key, limit)[1]:  # verified when it was stored
            record = HolderRecord.decode(raw)
            self._records[record.node_key] = record
            self._tellers[raw] = {protocol.identity.node_id}

    def _take_records(self, raws: Sequence[object], teller: Contact) -> bool:
        """Whether any was new."""
        new = False
        for raw in raws:
            if not isinstance(raw, bytes):
                continue
            tellers = self._tellers.get(raw)
            if tellers is None and len(self._records) < COLLECTED * self._limit:
                tellers = self._tellers[raw] = set()
                new = self._examine(raw, teller.ip) or new
            if tellers is not None:
                tellers.add(teller.id)
        return new

    def _examine(self, raw: bytes, teller_ip: str) -> bool:
        """Collect a record that was not seen before; whether it tells of a node of which nothing was known.
        `teller_ip` is the address of who told of it: see `scope.may_name`.
        """
        try:
            record = HolderRecord.decode(raw)
            if record.key != self._key:
                raise RecordError("a holder record of another key")
            if not record.may_be_told(teller_ip):
                raise RecordError("a holder record with an address that its teller may not name")
            known = self._records.get(record.node_key)
            if known is not None and known.order >= record.order:
                return False
            record.verify(int(self._protocol.clock()))
        except RecordError:
            self._protocol.counters.events["bad_holder"] += 1
            return False
        self._records[record.node_key] = record
        return known is None

    def take_value(self, value: Sequence[object] | None, teller: Contact) -> tuple[int, int]:
        """Take [count, records]; the count claimed and the number of records given, (0, 0) if malformed."""
        if not value or len(value) < 2:
            return 0, 0
        count, raws = value[0], value[1]
        if type(count) is not int or not 0 < count < 2**32 or not isinstance(raws, list):
            self._protocol.counters.drops["value"] += 1
            return 0, 0
        raws = raws[:MAX_IN_ANSWER]
        self._barren = 0 if self._take_records(raws, teller) else self._barren + 1
        return min(count, MAX_HOLDERS_PER_KEY), len(raws)

    def take(self, answer: Answer) -> None:
        """Count one answer of the lookup."""
        count, _given = self.take_value(answer.value, answer.contact)
        if count:
            self._largest.append((count, answer))

    def is_decided(self, _lookup: Lookup) -> bool:
        """Whether the lookup can end: several nodes had nothing new, and none has more than is known."""
        most = max((count for count, _ in self._largest), default=0)
        return bool(self._records) and self._barren >= SETTLED and most <= len(self._records)

    async def read_pages(self) -> None:
        """Page through the sets of some nodes that have more than was seen, chosen by chance: liars claim
        most.
        """
        larger = [each for each in self._largest if each[0] > len(self._records)]
        chosen = self._protocol.rng.sample(larger, min(PAGED_NODES, len(larger)))
        walks = []
        for count, answer in chosen:
            start = self._protocol.rng.randrange(count)
            half = (count + 1) // 2
            walks += [
                self._walk(answer, count, start, half),
                self._walk(answer, count, start + half, count - half),
            ]
        await asyncio.gather(*walks)

    async def _walk(self, answer: Answer, count: int, start: int, stretch: int) -> None:
        """Read `stretch` records of a set of `count` from `start` on, or until they bring nothing new."""
        read = barren = 0
        while read < stretch and barren < STALE_PAGES:
            offset = (start + read) % count
            reply = await self._ask_page(answer, offset)
            if reply is None:
                return
            before = len(self._records)
            try:
                claimed, given = self.take_value(field(reply.body, 3, list, optional=True), reply.contact)
            except WireError:
                return
            if not claimed:
                return
            barren = 0 if len(self._records) > before else barren + 1
            # At the end of the set go on at its beginning; an empty page there means that it shrank.
            read += given or (count - offset)

    async def _ask_page(self, answer: Answer, offset: int) -> Reply | None:
        done: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()

        def arrived(reply: Reply | None) -> None:
            if not done.done():
                done.set_result(reply)

        self._protocol.find(answer.contact, self._key, Want.HOLDERS, arrived, offset=offset)
        return await done

    def chosen(self) -> list[HolderRecord]:
        """What is taken of all that was collected."""
        records = list(self._records.values())
        self._protocol.rng.shuffle(records)
        records.sort(key=lambda record: -len(self._tellers[record.raw]))
        quota = NetworkQuota(caps=HOLDERS_PER_NETWORK, diversify_local=self._protocol.diversify_local)
        fair = fairly(records, lambda record: [networks_of(ip) for ip in addresses_in(record.raw)])
        admitted = (record for record in fair if quota.admit_all(record.ips))
        return [record for _, record in zip(range(self._limit), admitted, strict=False)]


async def read_holders(
    protocol: DhtProtocol, families: Sequence[socket.AddressFamily], key: bytes, limit: int
) -> list[HolderRecord]:
    """Up to `limit` current records under `key`, one per node, and no network twice before each other one
    came once.
    """
    reader = _HolderReader(protocol, key, limit)
    lookups = [
        Lookup(protocol, family, key, Want.HOLDERS, on_answer=reader.take, is_decided=reader.is_decided)
        for family in families
    ]
    await asyncio.gather(*(lookup.run() for lookup in lookups))
    await reader.read_pages()
    return reader.chosen()


async def write_holder(protocol: DhtProtocol, families: Sequence[socket.AddressFamily], raw: bytes) -> int:
    """Store a holder record at the k closest nodes; the number of copies there are now. RecordError if not
    valid.
    """
    record = HolderRecord.decode(raw)
    record.verify(int(protocol.clock()))
    return await store_at_closest(protocol, families, record.key, raw)

"""Keeping records alive: a sweep of the key space for many holder records, and the gentle refresh of heads.

A sweep walks the key space once and learns who is responsible for each region, so the cost of finding nodes
is shared by all keys of a region, and each node gets its records many to a datagram. A head's refresh reads
first, and writes only where the head is missing, older or about to be forgotten: many holders of one
archive must not become a storm.
"""

from __future__ import annotations

import asyncio
import bisect
import socket
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from p2psync_dht.holder_record import HolderRecord
from p2psync_dht.keys import ID_SIZE, SIGNATURE_SIZE
from p2psync_dht.lookup import Lookup
from p2psync_dht.query import Answer, Query, Reply
from p2psync_dht.records import Head, tag_of
from p2psync_dht.routing import KEY_BITS, K
from p2psync_dht.storage import HEAD_KEEP
from p2psync_dht.stores import KEPT, statuses_of, store_one
from p2psync_dht.wire import HEADER_SIZE, MAX_DATAGRAM, Kind, Want

if TYPE_CHECKING:
    from p2psync_dht.protocol import DhtProtocol

STORES_AT_ONCE: Final = 64  # nodes that a sweep stores at, at the same time; one datagram each under way
PACE: Final = 0.01  # seconds between two datagrams to one node: half of what its rate limit allows
ROW: Final = ID_SIZE + SIGNATURE_SIZE
# Header of the body, token, headers of three byte strings.
MAX_SHARED: Final = (
    48  # bits of prefix that a node and a key may share by chance, in any network there will be
)
_BATCH_ROOM: Final = MAX_DATAGRAM - HEADER_SIZE - 24
_KEY_AT: Final = 4  # of a holder record: after the array's header, the tag, and the header of the key


class _Region:
    """The part of the key space whose keys begin with the same `bits` bits as `start`."""

    def __init__(self, start: int, bits: int) -> None:
        self.start = start
        self.bits = bits

    @property
    def size(self) -> int:
        return 1 << (KEY_BITS - self.bits)

    def halves(self) -> tuple[_Region, _Region]:
        return _Region(self.start, self.bits + 1), _Region(self.start + self.size // 2, self.bits + 1)

    def contains(self, key: int) -> bool:
        return self.start <= key < self.start + self.size

    def middle(self) -> bytes:
        return (self.start + self.size // 2).to_bytes(ID_SIZE, "big")


class Sweep:
    """One announcement of many holder records of one node, in one address family."""

    def __init__(
        self, protocol: DhtProtocol, family: socket.AddressFamily, records: Iterable[HolderRecord]
    ) -> None:
        self._protocol = protocol
        self._family = family
        self._k = protocol.tables[family].ksize
        ordered = sorted(records, key=lambda record: record.key)
        self._records = ordered
        self._keys = [int.from_bytes(record.key, "big") for record in ordered]
        self._nodes: dict[int, Answer] = {}
        self.copies: dict[bytes, int] = {record.raw: 0 for record in ordered}

    async def run(self) -> None:
        """Find who is responsible for all keys, then store; `copies` says how many nodes keep each record."""
        await self._survey(_Region(0, 0))
        await self._store()

    async def _survey(self, region: _Region) -> None:
        """Learn all nodes of a region that has keys, halving it until a lookup shows it whole."""
        low = bisect.bisect_left(self._keys, region.start)
        high = bisect.bisect_left(self._keys, region.start + region.size)
        if low == high:
            return
        single = high - low == 1 or region.bits >= KEY_BITS - 1
        # One key: its own k closest, exactly. Several: those around the middle of their region.
        target = self._records[low].key if single else region.middle()
        known = await Lookup(self._protocol, self._family, target).run()
        self._nodes.update((int.from_bytes(answer.contact.id, "big"), answer) for answer in known)
        inside = sum(region.contains(int.from_bytes(answer.contact.id, "big")) for answer in known)
        if single or inside < self._k:
            return
        # All k nearest to the middle are inside, so there may be more than these.
        for half in region.halves():
            await self._survey(half)

    async def _store(self) -> None:
        own = self._protocol.source_node.long_id if self._protocol.server else None
        order = sorted(self._nodes)
        jobs: dict[int, list[HolderRecord]] = defaultdict(list)
        for key, record in zip(self._keys, self._records, strict=True):
            nodes = nearest_of(order, key, self._k)
            region = self._protocol.densities[self._family].region([node ^ key for node in nodes])
            if region:
                nodes = within(order, key, region)
            if own is not None and (len(nodes) < self._k or own ^ key < nodes[-1] ^ key):
                nodes = nodes if region else nodes[: self._k - 1]
                self.copies[record.raw] += self._protocol.storage.put(record.raw) in KEPT
            for node in nodes:
                jobs[node].append(record)
        slots = asyncio.Semaphore(STORES_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for node, records in jobs.items():
                group.create_task(self._store_at(slots, self._nodes[node], records))

    async def _store_at(self, slots: asyncio.Semaphore, answer: Answer, records: list[HolderRecord]) -> None:
        token = answer.token
        for kind, fields, batch in batches(records):
            async with slots:
                reply = await self._ask(answer, kind, [token, *fields])
                statuses = None if reply is None else statuses_of(reply, len(batch))
                if reply is not None and statuses is None:
                    # The token had expired; the refusal brought a new one.
                    token = reply.token
                    reply = await self._ask(answer, kind, [token, *fields])
                    statuses = None if reply is None else statuses_of(reply, len(batch))
            if reply is None:
                return  # silent: its other records would be lost on it as well
            for record, status in zip(batch, statuses or b"", strict=False):
                self.copies[record.raw] += status in KEPT
            await asyncio.sleep(PACE)

    async def _ask(self, answer: Answer, kind: Kind, body: list[object]) -> Reply | None:
        done: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()

        def arrived(reply: Reply | None) -> None:
            if not done.done():
                done.set_result(reply)

        self._protocol.query(Query(kind, answer.contact, body, arrived))
        return await done


def nearest_of(order: Sequence[int], key: int, count: int) -> list[int]:
    """The `count` numbers of a sorted sequence with the least XOR distance to `key`, nearest first.

    Numbers that share a prefix with the key stand together: widen the prefix until enough are inside.
    """
    for bits in range(MAX_SHARED, -1, -1):
        width = KEY_BITS - bits
        start = key >> width << width
        low = bisect.bisect_left(order, start)
        high = bisect.bisect_left(order, start + (1 << width))
        if high - low >= count or bits == 0:
            return sorted(order[low:high], key=lambda one: one ^ key)[:count]
    return []


def within(order: Sequence[int], key: int, distance: int) -> list[int]:
    """The numbers of a sorted sequence with no more XOR distance to `key` than that, nearest first."""
    width = distance.bit_length()
    start = key >> width << width
    low, high = bisect.bisect_left(order, start), bisect.bisect_left(order, start + (1 << width))
    return sorted((one for one in order[low:high] if one ^ key <= distance), key=lambda one: one ^ key)


def batches(records: Sequence[HolderRecord]) -> Iterable[tuple[Kind, list[object], list[HolderRecord]]]:
    """Records packed into STORE_BATCH and STORE bodies (without the token) that fit one datagram each."""
    alike: dict[tuple[bytes, bytes], list[HolderRecord]] = defaultdict(list)
    for record in records:
        raw = record.raw
        alike[raw[:_KEY_AT], raw[_KEY_AT + ID_SIZE : -SIGNATURE_SIZE]].append(record)
    for (before, after), group in alike.items():
        if len(group) == 1:
            yield Kind.STORE, [[group[0].raw]], group
            continue
        count = (_BATCH_ROOM - len(before) - len(after)) // ROW
        for at in range(0, len(group), count):
            batch = group[at : at + count]
            rows = b"".join(record.key + record.raw[-SIGNATURE_SIZE:] for record in batch)
            yield Kind.STORE_BATCH, [before, after, rows], batch


async def announce_sweep(
    protocol: DhtProtocol, families: Sequence[socket.AddressFamily], raws: Iterable[bytes]
) -> dict[bytes, int]:
    """Store holder records at the k closest nodes of each; copies by record. RecordError if one is not
    valid.
    """
    now = int(protocol.clock())
    records = [HolderRecord.decode(raw) for raw in dict.fromkeys(raws)]
    for record in records:
        record.check_time(now)
    sweeps = [Sweep(protocol, family, records) for family in families]
    for sweep in sweeps:
        await sweep.run()
    return {record.raw: sum(sweep.copies[record.raw] for sweep in sweeps) for record in records}


async def refresh_head(
    protocol: DhtProtocol, families: Sequence[socket.AddressFamily], raw: bytes, holders: int
) -> int:
    """Refresh a head if it is our turn, without the key that signed it; the number of stores that were sent.

    To be called every hour by each of about `holders` holders: it acts with probability k / holders, reads
    what the closest nodes have, and stores where the head is missing, older, or halfway to being forgotten.
    """
    head = Head.decode(raw, tag=tag_of(raw))
    head.verify(int(protocol.clock()))
    if holders > K and protocol.rng.random() >= K / holders:
        return 0
    sent = 0
    for family in families:
        answers = await Lookup(protocol, family, head.key, Want.HEAD).run()
        behind = [answer for answer in answers if _needs(answer, head)]
        sent += len(behind)
        await asyncio.gather(*(store_one(protocol, answer, raw) for answer in behind))
    return sent


def _needs(answer: Answer, head: Head) -> bool:
    """Whether a node should be given the head again."""
    if not answer.value or len(answer.value) < 2 or answer.value[0] != head.raw:
        return True
    age = answer.value[1]
    return type(age) is not int or age > HEAD_KEEP / 2

"""Measure the DHT on this machine: speed, memory, hostile datagrams, a network on the sockets of 127.0.0.1.

`bench/dht.py` runs these rows together with those of the virtual network.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
import tracemalloc
from typing import Any

from p2psync_dht import DhtNode, Endpoint, Head, HolderRecord, HolderRole, Identity, object_key
from p2psync_dht.contact import Contact
from p2psync_dht.storage import RecordStore
from p2psync_dht.testing.loopback import loopback_network
from p2psync_dht.testing.virtual import VirtualNetwork, run_virtual
from p2psync_dht.wire import DEFAULT_NETWORK, REPLY_BIT, Kind, Status, encode


def report(what: str, got: str, target: str = "") -> None:
    print(f"{what:<46} {got:<44} {target}", flush=True)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def hostile(_nodes: int, _reads: int) -> None:
    async def run() -> None:
        network = VirtualNetwork(6)
        node = network.add()
        errors: list[Any] = []
        network.loop.set_exception_handler(lambda _loop, context: errors.append(context))
        rng = random.Random(6)
        bodies: list[list[Any]] = [
            [],
            [rng.randbytes(20), 1, rng.randbytes(16), None, None],
            [bytes(8), [bytes(99)] * 9],
        ]
        templates = [
            encode(DEFAULT_NETWORK, kind, bytes(8), rng.randbytes(20), body, is_reply=reply, pad_to=400)
            for kind in Kind
            for body in bodies
            for reply in (False, True)
        ]
        began = time.perf_counter()
        for _ in range(100_000):
            datagram = bytearray(rng.choice(templates))
            for _ in range(rng.randrange(4)):
                datagram[rng.randrange(len(datagram))] = rng.randrange(256)
            datagram[5] ^= REPLY_BIT * rng.randrange(2)
            source = ".".join(str(part) for part in rng.choices(range(1, 224), k=4)), rng.randrange(1, 65536)
            node.protocol.datagram_received(bytes(datagram[: rng.randrange(1, 1400)]), source)
        each = (time.perf_counter() - began) * 10
        kept = f"{len(node.contacts())} contacts, {len(node.storage)} records, {len(errors)} errors"
        report("100,000 hostile datagrams", f"{kept}, {each:.0f} us each", "0, 0, 0")

    run_virtual(run)


def local(_nodes: int, _reads: int) -> None:
    now = 1_800_000_000
    node = Identity.from_seed(bytes(32))
    root = Identity.from_seed(bytes([1]) * 32)

    def record(number: int) -> bytes:
        key = object_key(number.to_bytes(4, "big"))
        places = [Endpoint("192.0.2.7", 8730)]
        made = HolderRecord.sign(
            node,
            key,
            endpoints=places,
            issued=now,
            expires=now + 80000,
            role=HolderRole.MIRROR,
            payload=bytes(8),
        )
        return made.raw

    head = Head.sign(root, root.public_key, epoch=0, seq=1, payload=bytes(44), signed_at=now, fresh_until=now)
    report("holder record / head", f"{len(record(0))} / {len(head.raw)} bytes", "<= 250 / <= 450")
    records = [record(number) for number in range(20_000)]
    gc.collect()
    tracemalloc.start()
    store = RecordStore(lambda: now, random.Random(1))
    tracemalloc.stop()
    began = time.perf_counter()
    kept = sum(store.put(raw, source=number % 50) == Status.STORED for number, raw in enumerate(records))
    report("decode + verify + store", f"{kept / (time.perf_counter() - began):,.0f} a second", ">= 5,000")
    copies = [bytes(bytearray(raw)) for raw in records]
    began = time.perf_counter()
    same = sum(store.put(raw) == Status.SAME for raw in copies)
    report("identical refresh", f"{same / (time.perf_counter() - began):,.0f} a second", ">= 500,000")
    size = memory_of_store(records)
    report("memory for 100,000 records", f"{size / 1e6:.1f} MB", "<= 30 MB")
    run_virtual(idle_node)


def memory_of_store(records: list[bytes]) -> int:
    """Fill a store with 100,000 records of distinct keys; verification is left out, the entries are the
    same.
    """
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    store = RecordStore(lambda: 1_800_000_000, random.Random(1))
    rng = random.Random(2)
    for number in range(100_000):
        raw = records[number % len(records)]
        changed = raw[:4] + rng.randbytes(20) + raw[24:]
        store._insert_holder(changed[4:24], changed[26:42], changed + bytes(8))
        store._by_source[number % 50] += 1
    size = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return size


async def idle_node() -> None:
    network = VirtualNetwork(7)
    others = [Contact(network.rng.randbytes(20), *network.new_address()) for _ in range(1000)]
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    node = DhtNode(network.new_identity(), rng=random.Random(1), clock=network.clock)
    table = next(iter(node.protocol.tables.values()))
    for other in others:
        table.add_verified(Contact(other.id, *other.address))
    size = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    report("memory of an idle node", f"{size / 1e3:.0f} KB with {len(table)} contacts", "<= 40 KB")
    began = time.perf_counter()
    for other in others:
        table.add_verified(other)
    each = (time.perf_counter() - began) / len(others) * 1e6
    report("a new contact, whatever is stored", f"{each:.0f} us, no store sent", "<= 100 us")


def sockets(nodes: int, reads: int) -> None:
    """All nodes in this process, so the latencies are those of its one core."""

    async def run() -> None:
        async with loopback_network(min(nodes, 200)) as network:
            root, now = Identity.generate(), int(time.time())
            head = Head.sign(
                root, root.public_key, epoch=0, seq=1, payload=bytes(44), signed_at=now, fresh_until=now
            )
            copies = await network[0].put_head(head.raw)
            rng = random.Random(1)
            for node in rng.sample(network, int(len(network) * 0.4)):
                node.protocol.close()
            alive = [node for node in network if not node.protocol.closed and not node.storage.head(head.key)]
            seconds, right = [], 0
            for _ in range(reads):
                began = time.perf_counter()
                found = await rng.choice(alive).get_head(root.public_key)
                seconds.append(time.perf_counter() - began)
                right += found.best is not None
        spread = f"p50 {statistics.median(seconds):.3f} p95 {percentile(seconds, 0.95):.3f} s"
        report(
            f"{len(network)} sockets, 40 % dead, {copies} copies",
            f"{spread}, {right} of {reads}",
            "all found",
        )

    asyncio.run(run())

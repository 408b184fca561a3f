"""Measurements of this machine: speed and memory of the record store, and a network on the sockets of
127.0.0.1.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
import tracemalloc
from functools import partial
from typing import Final

from bench.dht.figures import Note, percentile
from p2psync_dht import (
    ROLE_HEADS,
    Delegation,
    DhtNode,
    Endpoint,
    Head,
    HolderRecord,
    HolderRole,
    Identity,
    object_key,
)
from p2psync_dht.contact import Contact
from p2psync_dht.storage import RecordStore
from p2psync_dht.testing.loopback import loopback_network
from p2psync_dht.testing.virtual import VirtualNetwork, run_virtual
from p2psync_dht.wire import Status

NOW: Final = 1_800_000_000
STORED: Final = 100_000
DEAD: Final = 0.4
HEADS: Final = 20


def records(_nodes: int, reads: int, note: Note) -> None:
    """Sizes of records, speed of the store, memory."""
    node = Identity.from_seed(bytes(32))
    made = [holder_record(node, number) for number in range(max(200, min(20_000, 20 * reads)))]
    note("holder bytes", max(map(len, made)))
    note("head bytes", len(delegated_head().raw))
    store = RecordStore(lambda: NOW, random.Random(1))
    began = time.process_time()
    kept = sum(store.put(raw, source=number % 50) == Status.STORED for number, raw in enumerate(made))
    note("stores", kept / (time.process_time() - began), count=kept)
    copies = [bytes(bytearray(raw)) for raw in made]
    began = time.process_time()
    same = sum(store.put(raw) == Status.SAME for raw in copies)
    note("refreshes", same / (time.process_time() - began), count=same)
    note("memory of records", memory_of_store(made) / 1e6, count=STORED)
    run_virtual(partial(_idle_node, made, note))


def holder_record(node: Identity, number: int) -> bytes:
    return HolderRecord.sign(
        node,
        object_key(number.to_bytes(4, "big")),
        endpoints=[Endpoint("192.0.2.7", 8730)],
        issued=NOW,
        expires=NOW + 80000,
        role=HolderRole.MIRROR,
        payload=bytes(8),
    ).raw


def delegated_head() -> Head:
    """A head as an archive has it whose root key is kept offline: signed by a key that the root delegated
    to.
    """
    root, key = (Identity.from_seed(bytes([number]) * 32) for number in (1, 2))
    delegation = Delegation.sign(
        root, key.public_key, epoch=1, roles=ROLE_HEADS, not_before=NOW, not_after=NOW + 86400
    )
    return Head.sign(
        key,
        root.public_key,
        epoch=1,
        seq=1,
        payload=bytes(44),
        signed_at=NOW,
        fresh_until=NOW,
        delegation=delegation,
    )


def fill(store: RecordStore, made: list[bytes]) -> None:
    """Put in 100,000 records of distinct keys; verification is left out, the entries are the same."""
    rng = random.Random(2)
    for number in range(STORED):
        raw = made[number % len(made)]
        changed = raw[:4] + rng.randbytes(20) + raw[24:]
        store._insert_holder(changed[4:24], changed[26:42], changed + bytes(8))
        store._by_source[number % 50] += 1


def memory_of_store(made: list[bytes]) -> int:
    """Bytes."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    store = RecordStore(lambda: NOW, random.Random(1))
    fill(store, made)
    size = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return size


async def _idle_node(made: list[bytes], note: Note) -> None:
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
    note("memory of a node", size / 1e3, f"{len(table)} contacts", count=len(table))
    table.flush()
    fill(node.storage, made)
    sent = network.carried
    began = time.process_time()
    for other in others:
        table.add_verified(other)
    each = (time.process_time() - began) / len(others) * 1e6
    await asyncio.sleep(10)
    note("new contact", each, count=len(others))
    note("new contact stores", network.carried - sent, count=len(others))


def sockets(nodes: int, reads: int, note: Note) -> None:
    """All nodes in this process, so the latencies are those of its one core."""
    asyncio.run(_sockets(min(nodes, 200), reads, note))


async def _sockets(nodes: int, reads: int, note: Note) -> None:
    async with loopback_network(nodes) as network:
        now, rng = int(time.time()), random.Random(1)
        heads = []
        for _ in range(HEADS):
            root = Identity.generate()
            heads.append(
                Head.sign(
                    root, root.public_key, epoch=0, seq=1, payload=bytes(44), signed_at=now, fresh_until=now
                )
            )
            await rng.choice(network).put_head(heads[-1].raw)
        for node in rng.sample(network, int(len(network) * DEAD)):
            node.protocol.close()
        alive = [node for node in network if not node.protocol.closed]
        seconds: list[float] = []
        right = 0
        while len(seconds) < reads:
            asker, head = rng.choice(alive), rng.choice(heads)
            if asker.storage.head(head.key) is None:
                began = time.perf_counter()
                found = await asker.get_head(head.root)
                seconds.append(time.perf_counter() - began)
                right += found.best is not None
    note("sockets found", 100 * right / reads, nodes=nodes, count=reads)
    note("sockets p95", percentile(seconds, 0.95), nodes=nodes, count=reads)

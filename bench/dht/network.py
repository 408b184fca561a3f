"""Measurements on the virtual network: lookups, stores, joins, the sweep, a day of churn."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from bench.dht.figures import Note, percentile
from p2psync_dht import (
    DhtNode,
    Endpoint,
    Head,
    HeadLookup,
    HolderRecord,
    HolderRole,
    Identity,
    head_key,
    object_key,
)
from p2psync_dht.testing.virtual import VirtualNetwork, run_virtual

DAY: Final = 24 * 3600.0
DEAD: Final = 0.4  # share of the nodes killed at once
HEADS: Final = 200  # fewer, and those whose neighbours happen to be dead decide a percentile
CHURN_HEADS: Final = 50


def heads_of(
    network: VirtualNetwork, count: int, seq: int = 1, roots: list[Identity] | None = None
) -> list[Head]:
    """Signed heads, of new archives or of those whose `roots` are given."""
    now = int(network.clock())
    made = roots if roots is not None else [network.new_identity() for _ in range(count)]
    return [
        Head.sign(
            root, root.public_key, epoch=0, seq=seq, payload=bytes(44), signed_at=now, fresh_until=now + 86400
        )
        for root in made
    ]


class Tally:
    """Latency in virtual seconds, datagrams, and whether the answer was right, of many operations."""

    def __init__(self, network: VirtualNetwork, *, settle: float = 3.0) -> None:
        self.network = network
        self.seconds: list[float] = []
        self.datagrams: list[int] = []
        self.right = 0
        self._settle = settle

    async def time(self, operation: Awaitable[Any], is_right: Callable[[Any], bool]) -> None:
        carried, began = self.network.carried, self.network.loop.time()
        result = await operation
        self.seconds.append(self.network.loop.time() - began)
        await asyncio.sleep(self._settle)  # late answers and retransmissions count as well
        self.datagrams.append(self.network.carried - carried)
        self.right += is_right(result)

    @property
    def count(self) -> int:
        return len(self.seconds)

    @property
    def percent(self) -> float:
        return 100 * self.right / self.count

    @property
    def p95(self) -> float:
        return percentile(self.seconds, 0.95)

    @property
    def mean_datagrams(self) -> float:
        return statistics.mean(self.datagrams)

    def __str__(self) -> str:
        latency = f"p50 {percentile(self.seconds, 0.5):.2f} p95 {self.p95:.2f} s"
        return f"{latency}, {self.mean_datagrams:.1f} datagrams, {self.right} of {self.count}"


def gave(right: bytes | None, found: HeadLookup) -> bool:
    return (None if found.best is None else found.best.raw) == right


async def read(
    network: VirtualNetwork, heads: list[Head], kind: str, count: int, askers: list[DhtNode]
) -> Tally:
    """Reads (`kind`: first, quorum or miss) by random nodes that do not store the head themselves."""
    tally = Tally(network)
    quorum = 1 if kind == "first" else 3
    while tally.count < count:
        asker, head = network.rng.choice(askers), network.rng.choice(heads)
        root = network.rng.randbytes(32) if kind == "miss" else head.root
        if asker.storage.head(head_key(root)) is None:
            right = None if kind == "miss" else head.raw
            await tally.time(asker.get_head(root, quorum=quorum), partial(gave, right))
    return tally


def lookups(nodes: int, reads: int, note: Note) -> None:
    """Joins, puts, and reads of every kind, before and after the death of many nodes."""
    run_virtual(partial(_lookups, nodes, reads, note))


async def _lookups(nodes: int, reads: int, note: Note) -> None:
    network = VirtualNetwork(1)
    await network.grow(nodes)
    grown = await network.grow(nodes // 10)
    joined = [one.counters.datagrams_in + one.counters.datagrams_out for one in grown]
    note("join datagrams", statistics.mean(joined), nodes=nodes, count=len(joined))
    heads = heads_of(network, HEADS)
    puts = Tally(network)
    for head in heads:
        await puts.time(network.rng.choice(network.nodes).put_head(head.raw), lambda copies: copies == 20)
    note("put p95", puts.p95, str(puts), nodes=nodes, count=puts.count)
    note("put datagrams", puts.mean_datagrams, nodes=nodes, count=puts.count)
    tallies = {
        kind: await read(network, heads, kind, max(1, reads // 3), network.nodes)
        for kind in ("first", "quorum", "miss")
    }
    first, quorum, miss = tallies.values()
    note("hit p95", first.p95, str(first), nodes=nodes, count=first.count)
    note("hit datagrams", first.mean_datagrams, nodes=nodes, count=first.count)
    note("quorum datagrams", quorum.mean_datagrams, str(quorum), nodes=nodes, count=quorum.count)
    note("miss datagrams", miss.mean_datagrams, str(miss), nodes=nodes, count=miss.count)
    for node in network.rng.sample(network.nodes, int(len(network.nodes) * DEAD)):
        network.kill(node)
    for kind in tallies:
        tally = await read(network, heads, kind, reads, network.nodes)
        note(f"dead {kind} p95", tally.p95, str(tally), nodes=nodes, count=tally.count)
        if kind == "first":
            note("dead found", tally.percent, nodes=nodes, count=tally.count)


def sweep(nodes: int, reads: int, note: Note) -> None:
    """One node announces that it holds very many things."""
    run_virtual(partial(_sweep, nodes, min(10 * reads, 10_000), note))


async def _sweep(nodes: int, keys: int, note: Note) -> None:
    network = VirtualNetwork(1)
    await network.grow(nodes)
    node, now = network.nodes[nodes // 2], int(network.clock())
    subjects = [object_key(number.to_bytes(4, "big")) for number in range(keys)]
    records = [
        HolderRecord.sign(
            node.identity,
            subject,
            endpoints=[Endpoint(*node.address)],
            issued=now,
            expires=now + 80000,
            role=HolderRole.MIRROR,
        ).raw
        for subject in subjects
    ]
    sent, began = node.counters.datagrams_out, network.loop.time()
    copies = await node.announce_sweep(records)
    sent, took = node.counters.datagrams_out - sent, network.loop.time() - began
    detail = f"{statistics.mean(copies.values()):.1f} copies, {took:.0f} s"
    note("sweep datagrams", sent / keys, detail, nodes=nodes, count=keys)
    asked = subjects[:: max(1, keys // 200)]
    found = [bool(await network.rng.choice(network.nodes).get_holders(key)) for key in asked]
    note("sweep found", 100 * sum(found) / len(found), nodes=nodes, count=len(found))


def churn(nodes: int, reads: int, note: Note, hours: float = 24) -> None:
    """A day in which half of the nodes are replaced every two hours, while heads are read."""
    run_virtual(partial(_churn, nodes, reads, hours, note))


async def _churn(nodes: int, reads: int, hours: float, note: Note) -> None:
    network = VirtualNetwork(5)
    await network.grow(nodes, upkeep=True)
    heads = heads_of(network, CHURN_HEADS)
    for head in heads:
        await network.rng.choice(network.nodes).put_head(head.raw)
    # The archives' holders: clients that stay, three to a head, each refreshing it once an hour.
    holders = [network.add(server=False, nat=True) for _ in range(15)]
    for holder in holders:
        await holder.join([network.rng.choice(network.nodes[:-15]).address])
    tally = Tally(network)
    next_read = next_refresh = network.loop.time()
    end = network.loop.time() + hours * 3600
    while network.loop.time() < end:
        # Half of the nodes in two hours: one event every 2 h / (N ln 2).
        await asyncio.sleep(network.rng.expovariate(nodes * 0.693 / 7200))
        servers = [node for node in network.nodes if node.is_server]
        network.kill(servers.pop(network.rng.randrange(len(servers))))
        known = [node.address for node in network.rng.sample(servers, 3)]
        await network.add(upkeep=True).join(known)
        if network.loop.time() >= next_refresh:
            next_refresh += 3600
            for index, head in enumerate(heads):
                for holder in (holders[(index + step) % 15] for step in (0, 5, 10)):
                    await holder.refresh_head(head.raw, holders=3)
        while network.loop.time() >= next_read:
            next_read += hours * 3600 / reads
            asker, head = network.rng.choice(network.nodes), network.rng.choice(heads)
            await tally.time(asker.get_head(head.root), lambda found: found.best is not None)
    note("churn", tally.percent, f"{hours:.0f} h, {tally}", nodes=nodes, count=tally.count)
    await network.close()

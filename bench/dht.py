"""Measure the DHT against its targets: `python -m bench.dht [--nodes 1000] [ROW ...]`.

The network rows run on a virtual clock with a fixed seed, so their latencies and counts do not depend on
the machine and repeat exactly. The rows about speed and memory are of this machine and process.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from bench.dht_local import hostile, local, percentile, report, sockets
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
from p2psync_dht.contact import Contact
from p2psync_dht.service import Service
from p2psync_dht.testing.virtual import VirtualNetwork, run_virtual
from p2psync_dht.wire import Kind

DAY = 24 * 3600.0
INVENT = "an older head and invented contacts"


def heads_of(
    network: VirtualNetwork, count: int, seq: int = 1, roots: list[Identity] | None = None
) -> list[Head]:
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

    def __init__(self, network: VirtualNetwork) -> None:
        self.network = network
        self.seconds: list[float] = []
        self.datagrams: list[int] = []
        self.right = 0

    async def time(self, operation: Awaitable[Any], is_right: Callable[[Any], bool]) -> None:
        carried, began = self.network.carried, self.network.loop.time()
        result = await operation
        self.seconds.append(self.network.loop.time() - began)
        await asyncio.sleep(3)  # late answers and retransmissions count as well
        self.datagrams.append(self.network.carried - carried)
        self.right += is_right(result)

    def __str__(self) -> str:
        share = 100 * self.right / len(self.seconds)
        latency = f"p50 {percentile(self.seconds, 0.5):.2f} p95 {percentile(self.seconds, 0.95):.2f} s"
        return f"{latency}, {statistics.mean(self.datagrams):.1f} datagrams, {share:.2f} %"


def gave(right: bytes | None, found: HeadLookup) -> bool:
    return (None if found.best is None else found.best.raw) == right


async def read(
    network: VirtualNetwork, heads: list[Head], kind: str, count: int, askers: list[DhtNode]
) -> Tally:
    """Reads by random nodes that do not store the head themselves."""
    tally = Tally(network)
    quorum = 1 if kind == "first" else 3
    while len(tally.seconds) < count:
        asker, head = network.rng.choice(askers), network.rng.choice(heads)
        root = network.rng.randbytes(32) if kind == "miss" else head.root
        if asker.storage.head(head_key(root)) is None:
            right = None if kind == "miss" else head.raw
            await tally.time(asker.get_head(root, quorum=quorum), partial(gave, right))
    return tally


def lookups(nodes: int, reads: int) -> None:
    async def run() -> None:
        network = VirtualNetwork(1)
        await network.grow(nodes)
        joined = [one.counters.datagrams_in + one.counters.datagrams_out for one in await network.grow(20)]
        report("join", f"{statistics.mean(joined):.0f} datagrams", "<= 150")
        heads = heads_of(network, 50)
        tally = Tally(network)
        for head in heads:
            await tally.time(
                network.rng.choice(network.nodes).put_head(head.raw), lambda copies: copies == 20
            )
        report("put", str(tally), "p95 <= 1.4 s, <= 120")
        targets = {"first": "p95 <= 0.3 s, <= 18", "quorum": "", "miss": "<= 55"}
        for kind, target in targets.items():
            report(
                f"{kind}, none dead", str(await read(network, heads, kind, reads // 3, network.nodes)), target
            )
        for node in network.rng.sample(network.nodes, int(len(network.nodes) * 0.4)):
            network.kill(node)
        targets = {"first": "p95 <= 0.45 s, 99.9 %", "quorum": "p95 <= 0.7 s", "miss": "p95 <= 1.5 s"}
        for kind, target in targets.items():
            report(f"{kind}, 40 % dead", str(await read(network, heads, kind, reads, network.nodes)), target)

    run_virtual(run)


def sweep(nodes: int, reads: int) -> None:
    keys = 10 * reads

    async def run() -> None:
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
        got = f"{sent / keys:.2f} sent a key, {statistics.mean(copies.values()):.1f} copies, {took:.0f} s"
        report(f"sweep of {keys} keys", got, "<= 3 sent a key")
        found = [
            len(await network.rng.choice(network.nodes).get_holders(key)) for key in subjects[:: keys // 50]
        ]
        report("  found of a sample", f"{sum(found)} of {len(found)}")

    run_virtual(run)


def liars(nodes: int, reads: int) -> None:
    """Colluders know each other, tell of each other only, and answer with an older head, or with none.

    Or they also invent silent contacts nearer to the key than anybody.
    """

    async def run(share: float, how: str) -> None:
        network = VirtualNetwork(3)
        await network.grow(nodes)
        roots = [network.new_identity() for _ in range(40)]
        older = {head.key: head for head in heads_of(network, 0, 1, roots)}
        heads = heads_of(network, 0, 2, roots)
        for head in heads:
            await network.rng.choice(network.nodes).put_head(head.raw)
        colluders = network.rng.sample(network.nodes, int(nodes * share))
        for node in colluders:
            friends = [Contact(one.node_id, *one.address) for one in colluders]
            make_liar(node, friends, {} if how == "no head" else older, network if how == INVENT else None)
        honest = [node for node in network.nodes if node not in set(colluders)]
        tally = await read(network, heads, "quorum", reads, honest)
        target = ">= 99.9 %" if share < 0.3 else ">= 97 %"
        report(f"{share:.0%} liars, {how}", str(tally), target)

    for share in (0.2, 0.4):
        for how in ("an older head", "no head", INVENT):
            run_virtual(partial(run, share, how))


def make_liar(
    node: DhtNode,
    colluders: list[Contact],
    heads: dict[bytes, Head],
    inventing: VirtualNetwork | None = None,
) -> None:
    service = node.protocol._service
    honest = service._find

    def lie(message: Any, address: Any) -> tuple[list[Any], int]:
        body, budget = honest(message, address)
        target = int.from_bytes(message.body[0], "big")
        nearest = sorted(colluders, key=lambda one: one.long_id ^ target)[:20]
        if inventing is not None:
            near = message.body[0][:12]
            invented = (near + inventing.rng.randbytes(8) for _ in range(10))
            nearest = [Contact(one, *inventing.new_address()) for one in invented] + nearest[:10]
        head = heads.get(message.body[0])
        body[2] = b"".join(one.pack() for one in nearest)
        body[3] = None if head is None else [head.raw, 0]
        return body, budget

    assert isinstance(service, Service)
    service._handlers[Kind.FIND] = lie


def sybils(nodes: int, reads: int) -> None:
    """64 nodes of one /24 with ids chosen next to a key, telling of each other and denying the head."""

    async def run() -> None:
        network = VirtualNetwork(4)
        await network.grow(nodes)
        heads = heads_of(network, 3)
        for head in heads:
            await network.nodes[0].put_head(head.raw)
        victims = list(network.nodes)
        for index, head in enumerate(heads):
            key, made = int.from_bytes(head.key, "big"), []
            for number in range(1, 65):
                node = network.add(
                    identity=near_identity(network, key, nodes), address=(f"203.0.{index}.{number}", 1)
                )
                made.append(node)
            contacts = [Contact(one.node_id, *one.address) for one in made]
            for node in made:
                await node.join([network.rng.choice(victims).address])
            for node in made:
                make_liar(node, contacts, {})
        report(
            "64 chosen ids in one /24", str(await read(network, heads, "quorum", reads, victims)), ">= 99 %"
        )

    run_virtual(run)


def near_identity(network: VirtualNetwork, key: int, nodes: int) -> Identity:
    """Grind keys until the id is nearer to `key` than all honest nodes are, as a rule."""
    bits = nodes.bit_length() + 1
    while True:
        identity = network.new_identity()
        if (int.from_bytes(identity.node_id, "big") ^ key) >> (160 - bits) == 0:
            return identity


def churn(nodes: int, reads: int) -> None:
    async def run() -> None:
        network = VirtualNetwork(5)
        await network.grow(nodes, upkeep=True)
        heads = heads_of(network, 50)
        for head in heads:
            await network.rng.choice(network.nodes).put_head(head.raw)
        # The archives' holders: clients that stay, three to a head, each refreshing it once an hour.
        holders = [network.add(server=False, nat=True) for _ in range(15)]
        servers = network.nodes[:-15]
        for holder in holders:
            await holder.join([network.rng.choice(servers).address])
        tally = Tally(network)
        end = network.loop.time() + DAY
        next_read = next_refresh = network.loop.time()
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
                    for holder in (
                        holders[index % 15],
                        holders[(index + 5) % 15],
                        holders[(index + 10) % 15],
                    ):
                        await holder.refresh_head(head.raw, holders=3)
            while network.loop.time() >= next_read:
                next_read += DAY / reads
                asker, head = network.rng.choice(network.nodes), network.rng.choice(heads)
                await tally.time(asker.get_head(head.root), lambda found: found.best is not None)
        report(f"24 h, half of {nodes} replaced every 2 h", str(tally), ">= 99.9 %")
        await network.close()

    run_virtual(run)


ROWS: dict[str, Callable[[int, int], None]] = {
    "local": local,
    "hostile": hostile,
    "sockets": sockets,
    "lookups": lookups,
    "sweep": sweep,
    "liars": liars,
    "sybils": sybils,
    "churn": churn,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all by default")
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--reads", type=int, default=300)
    options = parser.parse_args()
    for name in options.rows or ROWS:
        ROWS[name](options.nodes, options.reads)


if __name__ == "__main__":
    main()

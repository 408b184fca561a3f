"""Two hundred nodes on sockets of their own lose 40 % of them at once, and nothing that was stored.

The nodes are spread over the networks of 127/8, as real ones are over the Internet, and the rule of two
contacts per network is on.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from p2psync_dht import DhtNode, Head, Identity, head_key, holders_key

from .conftest import NOW, record_of

NODES = 200
KILLED = 80
ARCHIVES = 20
HOLDERS_EACH = 3
FEWEST = 6  # copies of a record, on a machine so busy that nodes seem silent; of 6, all die once in 250
AT_ONCE = 10  # joins and lookups: enough to keep the event loop busy, too few to drown in each other


def identity(number: int) -> Identity:
    return Identity.from_seed(number.to_bytes(32, "big"))


def host(number: int) -> str:
    """Every node has a provider (/16) of its own."""
    return f"127.{1 + number % 250}.{1 + number // 250}.1"


async def start(number: int, **options: Any) -> DhtNode:
    rng = random.Random(number)
    return await DhtNode.start(identity(number), host(number), 0, diversify_local=True, rng=rng, **options)


async def in_turn(work: Iterable[Any]) -> list[Any]:
    """All results, `AT_ONCE` at a time."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(awaitable: Any) -> Any:
        async with slots:
            return await awaitable

    return await asyncio.gather(*map(one, work))


@asynccontextmanager
async def network(rng: random.Random) -> AsyncIterator[list[DhtNode]]:
    """All nodes, each joined by two that were there before it."""
    nodes = [await start(number) for number in range(1, NODES + 1)]
    try:
        joined = 1
        while joined < NODES:
            batch = nodes[joined : joined + AT_ONCE]
            known = [node.address for node in nodes[:joined]]
            await asyncio.gather(*(node.join(rng.sample(known, min(2, joined))) for node in batch))
            joined += len(batch)
        yield nodes
    finally:
        await asyncio.gather(*(node.close() for node in nodes))


def kill(node: DhtNode) -> None:
    """What SIGKILL does to its socket: closed in the middle of everything, no goodbye."""
    for transport in node.protocol.transports.values():
        transport.abort()


async def test_all_heads_and_holders_survive_the_loss_of_forty_percent() -> None:
    rng = random.Random(40)
    roots = [identity(1000 + number) for number in range(ARCHIVES)]
    heads = {
        root.public_key: Head.sign(
            root, root.public_key, epoch=0, seq=1, payload=b"", signed_at=NOW, fresh_until=NOW
        )
        for root in roots
    }
    began = time.monotonic()
    async with network(rng) as nodes:
        took = {"join": time.monotonic() - began}
        ports = {node.address for node in nodes}
        assert len(ports) == NODES
        held: dict[bytes, set[bytes]] = {}
        stores = []
        for root in roots:
            publishers = rng.sample(nodes, HOLDERS_EACH)
            held[root.public_key] = {node.identity.public_key for node in publishers}
            stores.append(publishers[0].put_head(heads[root.public_key].raw))
            stores += [
                node.put_holder(record_of(node, holders_key(root.public_key)).raw) for node in publishers
            ]
        copies = await in_turn(stores)
        assert min(copies) >= FEWEST, "too few for any promise"
        took["publish"] = time.monotonic() - began

        dead = rng.sample(nodes, KILLED)
        for node in dead:
            kill(node)
        alive = [node for node in nodes if node not in dead]
        # A client comes with a list of nodes, of which some are gone.
        clients = [await start(2000 + number, server=False) for number in range(3)]
        joins = [client.join([node.address for node in rng.sample(nodes, 8)]) for client in clients]
        assert min(await asyncio.gather(*joins)) > 0

        async def look(node: DhtNode, root: bytes) -> tuple[bool, bool]:
            found = await node.get_head(root)
            holders = {record.node_key for record in await node.get_holders(holders_key(root))}
            return found.best is not None and found.best.raw == heads[root].raw, holders == held[root]

        asked = [(client, root.public_key) for client in clients for root in roots]
        asked += [(node, roots[index % ARCHIVES].public_key) for index, node in enumerate(alive)]
        results = await in_turn(look(node, root) for node, root in asked)
        took["look up"] = time.monotonic() - began
        assert [pair for pair, both in zip(asked, results, strict=True) if both != (True, True)] == []
        assert all(len([node for node in alive if node.storage.head(head_key(root))]) > 0 for root in heads)
        for client in clients:
            await client.close()
    print({step: f"{seconds:.1f} s" for step, seconds in took.items()}, len(asked), "lookups of each kind")

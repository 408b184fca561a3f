"""A network of nodes on the sockets of 127.0.0.1, for tests and for trying things out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from p2psync_dht.keys import Identity
from p2psync_dht.node import DhtNode

HOST = "127.0.0.1"


async def start_node(seed: int, *, server: bool = True, **options: Any) -> DhtNode:
    """One node with the identity number `seed`, on a free port."""
    identity = Identity.from_seed(seed.to_bytes(32, "big"))
    return await DhtNode.start(identity, HOST, 0, server=server, **options)


@asynccontextmanager
async def loopback_network(count: int, **options: Any) -> AsyncIterator[list[DhtNode]]:
    """`count` servers that joined through the first; all are closed at the end."""
    nodes: list[DhtNode] = []
    try:
        for seed in range(1, count + 1):
            nodes.append(await start_node(seed, **options))
            await nodes[-1].join([nodes[0].address] if seed > 1 else [])
        yield nodes
    finally:
        await asyncio.gather(*(node.close() for node in nodes))

"""Liars who tell of true nodes at wrong addresses: whoever is heard of there first must not be lost by it."""

from __future__ import annotations

from typing import Any

from p2psync_dht import DhtNode
from p2psync_dht.contact import Contact
from p2psync_dht.testing.liars import tell_lies
from p2psync_dht.testing.virtual import VirtualNetwork, run_virtual

from .conftest import head_of, truly_closest

NODES = 150
LIARS = 45


def misdirect(network: VirtualNetwork, node: DhtNode) -> None:
    """The node tells of the truly closest, each where nobody is, and has no records."""

    def lie(key: bytes, _value: Any) -> tuple[list[Contact], None]:
        closest = truly_closest(network, key)
        return [Contact(one.node_id, *network.new_address()) for one in closest], None

    tell_lies(node, lie)


def test_true_ids_at_wrong_addresses_hide_nobody() -> None:
    async def run() -> None:
        network = VirtualNetwork(3)
        await network.grow(NODES)
        liars = network.rng.sample(network.nodes, LIARS)
        for liar in liars:
            misdirect(network, liar)
        honest = [node for node in network.nodes if node not in liars]
        for _ in range(6):
            head = head_of(network)
            await network.rng.choice(honest).put_head(head.raw)
            assert sum(bool(one.storage.head(head.key)) for one in truly_closest(network, head.key)) >= 15
            for node in network.rng.sample(honest, 8):
                assert (await node.get_head(head.root)).best is not None
        await network.close()

    run_virtual(run)

"""Holder records that somebody has made up: what stores keep of them, and what readers take."""

from __future__ import annotations

from typing import Any

from p2psync_dht import Endpoint, HolderRecord, HolderRole, object_key
from p2psync_dht.contact import Contact
from p2psync_dht.places import source_of
from p2psync_dht.testing.liars import tell_lies
from p2psync_dht.testing.virtual import VirtualNetwork, run_virtual

from .conftest import record_of, truly_closest

NODES = 60


def fake_of(network: VirtualNetwork, key: bytes, ip: str) -> HolderRecord:
    """What somebody has made up."""
    now = int(network.clock())
    return HolderRecord.sign(
        network.new_identity(),
        key,
        endpoints=[Endpoint(ip, 8730)],
        issued=now,
        expires=now + 3600,
        role=HolderRole.MIRROR,
    )


def test_a_thousand_fake_holders_of_fifty_networks_hide_no_honest_one() -> None:
    """They were there first; each network is a provider's, and has twenty sites."""

    async def run() -> None:
        network = VirtualNetwork(10)
        await network.grow(NODES)
        key = object_key(b"any")
        stores = truly_closest(network, key)
        for number in range(1000):
            ip = f"{120 + number % 50}.7.{number // 50}.1"
            fake = fake_of(network, key, ip)
            for node in stores[number % 2 :: 2]:
                node.storage.put(fake.raw, source=source_of(ip), sender_ip=ip)
        assert all(node.storage.holders(key, 1)[0] == 500 for node in stores)
        honest = network.nodes[:3]
        for node in honest:
            await node.put_holder(record_of(node, key).raw)
        wanted = {node.identity.public_key for node in honest}
        for reader in [node for node in network.nodes if node not in stores][::8]:
            found = await reader.get_holders(key)
            providers = [record.ips[0].split(".")[0] for record in found]
            assert max(providers.count(provider) for provider in providers) <= 6
            assert wanted <= {record.node_key for record in found[:60]}
        await network.close()

    run_virtual(run)


def test_nodes_that_make_up_holders_hide_no_honest_one() -> None:
    """Two in five of those who store the records, each with hundreds of fakes from as many networks."""

    async def run() -> None:
        network = VirtualNetwork(11)
        await network.grow(NODES)
        key = object_key(b"any")
        for node in network.nodes[:3]:
            await node.put_holder(record_of(node, key).raw)
        wanted = {node.identity.public_key for node in network.nodes[:3]}
        stored = [node for node in network.nodes if node.storage.holders(key, 1)[0]]
        for liar in stored[:: len(stored) // 8][:8]:
            fakes = [fake_of(network, key, network.new_address()[0]).raw for _ in range(300)]

            def lie(
                _key: bytes, _value: Any, *, fakes: list[bytes] = fakes
            ) -> tuple[list[Contact], list[Any]]:
                return [], [512, network.rng.sample(fakes, 4)]

            tell_lies(liar, lie)
        for reader in [node for node in network.nodes if node not in stored][::8]:
            found = await reader.get_holders(key)
            assert wanted <= {record.node_key for record in found}
            assert wanted <= {record.node_key for record in found[:24]}
        await network.close()

    run_virtual(run)

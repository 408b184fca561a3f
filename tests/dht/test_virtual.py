"""Networks on the virtual clock: convergence, liars, Sybils, NAT, churn, sweeps. One seed each, so they
repeat exactly.
"""

from __future__ import annotations

import asyncio
import random

import pytest

from p2psync_dht import DhtNode, Endpoint, HolderRecord, HolderRole, Identity, head_key, object_key
from p2psync_dht.announce import batches, nearest_of
from p2psync_dht.testing.virtual import VirtualNetwork, run_virtual
from p2psync_dht.wire import DEFAULT_NETWORK, Kind, WireError, encode

from .conftest import deny, head_of, record_of, truly_closest

NODES = 60


def test_records_go_to_the_truly_closest_and_everybody_finds_them() -> None:
    async def run() -> None:
        network = VirtualNetwork(1)
        await network.grow(NODES)
        for _ in range(5):
            head = head_of(network)
            copies = await network.rng.choice(network.nodes).put_head(head.raw)
            kept = [node for node in truly_closest(network, head.key) if node.storage.head(head.key)]
            assert copies >= 19
            assert len(kept) >= 18
            for node in network.rng.sample(network.nodes, 10):
                found = await node.get_head(head.root)
                assert found.best is not None
        await network.close()

    run_virtual(run)


def test_forty_percent_dead_at_once() -> None:
    async def run() -> None:
        network = VirtualNetwork(2)
        await network.grow(NODES)
        heads = [head_of(network) for _ in range(5)]
        for head in heads:
            await network.nodes[0].put_head(head.raw)
        for node in network.rng.sample(network.nodes, 24):
            network.kill(node)
        for node in network.nodes:
            began = network.loop.time()
            assert (await node.get_head(network.rng.choice(heads).root)).best is not None
            assert network.loop.time() - began < 3
        await network.close()

    run_virtual(run)


def test_colluding_liars_do_not_hide_the_newest_head() -> None:
    async def run() -> None:
        network = VirtualNetwork(3)
        await network.grow(NODES)
        root = network.new_identity()
        older, newest = head_of(network, 1, root), head_of(network, 2, root)
        await network.nodes[0].put_head(newest.raw)
        liars = network.rng.sample(network.nodes, 12)
        for liar in liars:
            deny(liar, liars, older)
        right = 0
        honest = [node for node in network.nodes if node not in liars]
        for node in honest:
            found = await node.get_head(root.public_key)
            right += found.best is not None and found.best.seq == 2
        assert right == len(honest)
        await network.close()

    run_virtual(run)


def test_chosen_ids_in_one_network_do_not_surround_a_key() -> None:
    async def run() -> None:
        network = VirtualNetwork(4)
        await network.grow(NODES)
        head = head_of(network)
        await network.nodes[0].put_head(head.raw)
        victims, key = list(network.nodes), int.from_bytes(head.key, "big")
        sybils: list[DhtNode] = []
        while len(sybils) < 24:
            identity = network.new_identity()
            if (int.from_bytes(identity.node_id, "big") ^ key) >> 153 == 0:
                sybils.append(network.add(identity=identity, address=(f"203.0.113.{len(sybils) + 1}", 1)))
        for sybil in sybils:
            deny(sybil, sybils)
            await sybil.join([network.rng.choice(victims).address])
        for node in victims:
            assert (await node.get_head(head.root)).best is not None
        await network.close()

    run_virtual(run)


@pytest.mark.parametrize(("is_stored_first", "tells_older"), [(True, True), (False, False)])
def test_chosen_ids_in_networks_of_their_own_do_not_surround_a_key(
    is_stored_first: bool, tells_older: bool
) -> None:
    """Also where they are there before the record is."""

    async def run() -> None:
        network = VirtualNetwork(4)
        await network.grow(NODES)
        root = network.new_identity()
        older, newest = head_of(network, 1, root), head_of(network, 2, root)
        victims, key = list(network.nodes), int.from_bytes(newest.key, "big")
        if is_stored_first:
            assert await victims[0].put_head(newest.raw) == 20
        sybils: list[DhtNode] = []
        while len(sybils) < 30:
            identity = network.new_identity()
            if (int.from_bytes(identity.node_id, "big") ^ key) >> 153 == 0:
                sybils.append(network.add(identity=identity))
        for sybil in sybils:
            deny(sybil, sybils, older if tells_older else None)
            await sybil.join([network.rng.choice(victims).address])
        if not is_stored_first:
            await victims[0].put_head(newest.raw)
        assert sum(node.storage.head(newest.key) is not None for node in victims) >= 12
        for node in victims[::3]:
            found = await node.get_head(root.public_key)
            assert found.best is not None and found.best.seq == 2
        await network.close()

    run_virtual(run)


def test_honest_ids_are_no_crowd() -> None:
    async def run() -> None:
        network = VirtualNetwork(9)
        await network.grow(NODES)
        for node in network.nodes:
            await node.get_head(network.rng.randbytes(32))
        assert sum(node.counters.events["crowd"] for node in network.nodes) <= 1
        await network.close()

    run_virtual(run)


def test_a_client_behind_nat_reads_and_writes() -> None:
    async def run() -> None:
        network = VirtualNetwork(5, loss=0.0)
        await network.grow(25)
        client = network.add(server=False, nat=True)
        assert await client.join([network.nodes[0].address]) >= 20
        head = head_of(network)
        assert await client.put_head(head.raw) == 20
        assert (await client.get_head(head.root)).best is not None
        # A server that nobody can reach proves nothing and enters no table for long.
        hidden = network.add(nat=True)
        await hidden.join([network.nodes[0].address])
        assert all(client.node_id != one.id for node in network.nodes for one in node.contacts())
        await network.close()

    run_virtual(run)


def test_a_network_that_changes_keeps_its_heads() -> None:
    """Two hours in which half of the nodes are replaced; two holders refresh hourly, without the
    key.
    """

    async def run() -> None:
        network = VirtualNetwork(6)
        await network.grow(24, upkeep=True)
        heads = [head_of(network) for _ in range(4)]
        for head in heads:
            await network.nodes[0].put_head(head.raw)
        holders = [network.add(server=False) for _ in range(2)]
        for holder in holders:
            await holder.join([network.nodes[0].address])

        for _hour in range(2):
            for _ in range(9):
                await asyncio.sleep(400)
                servers = [node for node in network.nodes if node.is_server]
                network.kill(network.rng.choice(servers))
                known = [node.address for node in network.rng.sample(servers, 3)]
                await network.add(upkeep=True).join(known)
            for holder in holders:
                for head in heads:
                    await holder.refresh_head(head.raw, holders=2)
            for head in heads:
                asker = network.rng.choice([node for node in network.nodes if node.is_server])
                assert (await asker.get_head(head.root)).best is not None
        await network.close()

    run_virtual(run)


def test_refreshing_writes_only_where_it_is_needed() -> None:
    async def run() -> None:
        network = VirtualNetwork(7, loss=0.0)
        await network.grow(30)
        head = head_of(network)
        await network.nodes[0].put_head(head.raw)
        client = network.add(server=False)
        await client.join([network.nodes[0].address])
        assert await client.refresh_head(head.raw) <= 1
        newer = head_of(network, 2, None)
        assert await client.refresh_head(newer.raw) == 20
        assert [await client.refresh_head(head.raw, holders=10**9) for _ in range(5)] == [0] * 5
        await network.close()

    run_virtual(run)


def test_a_sweep_costs_few_datagrams_and_reaches_the_closest() -> None:
    async def run() -> None:
        network = VirtualNetwork(8)
        await network.grow(NODES)
        node = network.nodes[7]
        keys = [object_key(bytes([number])) for number in range(100)]
        sent = node.counters.datagrams_out
        copies = await node.announce_sweep(record_of(node, key).raw for key in keys)
        assert node.counters.datagrams_out - sent < 4 * len(keys)
        assert min(copies.values()) >= 18
        for key in keys[::10]:
            kept = [one for one in truly_closest(network, key) if one.storage.holders(key, 1)[1]]
            assert len(kept) >= 18
            assert len(await network.nodes[3].get_holders(key)) == 1
        await network.close()

    run_virtual(run)


@pytest.mark.parametrize(
    "victim", ["127.0.0.1", "169.254.169.254", "10.0.0.1", "255.255.255.255", "192.0.2.1", "fe80::1"]
)
def test_strangers_name_no_holder_inside_of_a_readers_own_networks(victim: str) -> None:
    async def run() -> None:
        network = VirtualNetwork(9)
        await network.grow(8)
        key, reader = object_key(b"any"), network.nodes[0]
        for liar in network.nodes[1:]:
            honest = record_of(liar, key)
            false = HolderRecord.sign(
                liar.identity,
                key,
                endpoints=[Endpoint(victim, 8730), *honest.endpoints],
                issued=honest.issued,
                expires=honest.expires,
                role=HolderRole.MIRROR,
            )
            liar.storage.put(false.raw)
        network.nodes[1].storage.put(record_of(reader, key).raw)
        assert [each.node_key for each in await reader.get_holders(key)] == [reader.identity.public_key]
        await network.close()

    run_virtual(run)


def test_records_of_one_node_are_packed_many_to_a_datagram() -> None:
    node = Identity.from_seed(bytes(32))
    records = [
        HolderRecord.sign(
            node,
            object_key(bytes([number])),
            endpoints=[Endpoint("192.0.2.1", 80)],
            issued=1,
            expires=2,
            role=HolderRole.PEER,
        )
        for number in range(100)
    ]
    packed = list(batches(records))
    assert [record for _, _, batch in packed for record in batch] == records
    assert len(packed) <= 9
    assert all(len(batch) <= 16 for _, _, batch in packed)


@pytest.mark.parametrize("count", [1, 5, 20, 200])
def test_nearest_of_a_sorted_census(count: int) -> None:

    rng = random.Random(count)
    census = sorted(rng.getrandbits(160) for _ in range(150))
    for _ in range(20):
        key = rng.getrandbits(160)
        assert nearest_of(census, key, count) == sorted(census, key=lambda one: one ^ key)[:count]


def test_a_run_repeats_exactly() -> None:
    async def run() -> tuple[int, float, list[int]]:
        network = VirtualNetwork(9)
        await network.grow(12)
        await network.nodes[3].put_head(head_of(network).raw)
        found = await network.nodes[5].get_head(head_key(bytes(32)) + bytes(12))
        assert found.best is None
        return network.carried, network.loop.time(), [len(node.contacts()) for node in network.nodes]

    assert run_virtual(run) == run_virtual(run)


def test_reachability_is_tested_by_strangers() -> None:
    async def run() -> None:
        network = VirtualNetwork(10, loss=0.0)
        await network.grow(30)
        addresses = [node.address for node in network.nodes[:4]]
        public = network.add(server=False)
        assert await public.probe_reachable(addresses) is True
        hidden = network.add(server=False, nat=True)
        assert await hidden.probe_reachable(addresses) is False
        await hidden.join(addresses)
        assert await hidden.probe_reachable() is False
        public.serve()
        await public.join(addresses)
        assert any(public.node_id == one.id for node in network.nodes for one in node.contacts())
        dead = [(f"192.0.2.{number}", 1) for number in range(1, 4)]
        assert await network.add(server=False).probe_reachable(dead) is None
        await network.close()

    run_virtual(run)


@pytest.mark.parametrize("seed", range(5))
def test_dead_contacts_of_others_do_not_make_a_node_unreachable(seed: int) -> None:
    async def run() -> None:
        network = VirtualNetwork(20 + seed, loss=0.0)
        await network.grow(6)
        for node in network.nodes[:2]:
            network.kill(node)
        fresh = network.add(server=False)
        assert await fresh.probe_reachable([node.address for node in network.nodes[:2]]) is True
        await network.close()

    run_virtual(run)


def test_a_call_nobody_asked_for_proves_nothing() -> None:
    async def run() -> None:
        network = VirtualNetwork(11, loss=0.0)
        await network.grow(3)
        one, two = network.nodes[1], network.nodes[2]
        assert await one.probe_reachable() in (None, False)  # everybody here has been written to
        assert two.protocol.reachability.call(b"\x7f\0\0\1\1\1", bytes(16), ("127.0.0.1", 1))
        await asyncio.sleep(1)
        call = encode(DEFAULT_NETWORK, Kind.CALLBACK, bytes(8), two.node_id, [bytes(16)])
        one.protocol.datagram_received(call, two.address)
        assert one.counters.drops["unexpected"] == 1
        with pytest.raises(WireError):
            two.protocol.reachability.call(b"\x7f\0\0\1\1\1", bytes(16), ("8.8.8.8", 1))
        await network.close()

    run_virtual(run)

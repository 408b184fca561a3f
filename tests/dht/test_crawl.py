"""The size of a network: estimated from the density of ids, counted by a walk, both within bounds."""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
from collections import Counter
from heapq import nsmallest
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync_dht import DhtNode
from p2psync_dht.contact import Contact
from p2psync_dht.crawl import (
    MAX_LIMIT,
    MAX_PER_NETWORK,
    MAX_RATE,
    TARGETS,
    CrawledNode,
    SizeEstimate,
    _Pacer,
    crawl_network,
    estimate_size,
    measure_size,
)
from p2psync_dht.query import Query
from p2psync_dht.routing import KEY_BITS, K
from p2psync_dht.testing.liars import tell_lies
from p2psync_dht.testing.loopback import loopback_network, start_node
from p2psync_dht.testing.virtual import VirtualNetwork, run_virtual

SPACE = 2**KEY_BITS


def samples_of(count: int, seed: int, targets: int = TARGETS) -> list[list[int]]:
    """What lookups of random keys see in a network of `count` random ids."""
    rng = random.Random(seed)
    ids = [rng.randrange(SPACE) for _ in range(count)]
    keys = [rng.randrange(SPACE) for _ in range(targets)]
    return [nsmallest(K, (one ^ key for one in ids)) for key in keys]


@pytest.mark.parametrize("count", [100, 1000, 10_000])
def test_estimates_are_right_on_average_and_their_bounds_hold(count: int) -> None:
    estimates = [estimate_size(samples_of(count, seed), K) for seed in range(40)]
    errors = [one.nodes / count - 1 for one in estimates]
    assert abs(statistics.mean(errors)) < 0.03
    assert max(map(abs, errors)) < 0.25
    inside = sum(one.low <= count <= one.high for one in estimates)
    assert inside >= 34  # 38 are expected; fewer than 34 of 40 would be one case in 50
    assert all(one.high / one.low < 1.3 for one in estimates)


@given(st.integers(0, K - 1), st.integers(1, TARGETS), st.integers(0, 2**32))
def test_fewer_nodes_than_k_are_counted(count: int, targets: int, seed: int) -> None:
    estimate = estimate_size(samples_of(count, seed, targets), K)
    assert (estimate.low, estimate.nodes, estimate.high) == (count, count, count)
    assert estimate.targets == targets


Samples = st.lists(
    st.lists(st.integers(0, SPACE - 1), min_size=K, max_size=K, unique=True), min_size=1, max_size=TARGETS
)


@given(Samples)
def test_the_guess_lies_within_its_bounds_whatever_was_seen(samples: list[list[int]]) -> None:
    estimate = estimate_size(samples, K)
    assert K <= estimate.low <= estimate.nodes <= estimate.high
    assert estimate.targets == len(samples)


@given(Samples, st.randoms())
def test_the_order_of_what_was_seen_does_not_matter(samples: list[list[int]], chance: random.Random) -> None:
    mixed = [chance.sample(sample, len(sample)) for sample in samples]
    chance.shuffle(mixed)
    first, second = estimate_size(samples, K), estimate_size(mixed, K)
    assert second.nodes == pytest.approx(first.nodes)
    assert [second.low, second.high] == pytest.approx([first.low, first.high])


@given(st.integers(200, 400), st.integers(0, 2**32))
def test_half_the_distances_are_twice_the_nodes(count: int, seed: int) -> None:
    samples = samples_of(count, seed, 4)
    halved = [[distance // 2 for distance in sample] for sample in samples]
    assert estimate_size(halved, K).nodes == pytest.approx(2 * estimate_size(samples, K).nodes)


def test_more_targets_make_closer_bounds() -> None:
    widths = []
    for targets in (1, 4, 16, 64):
        estimate = estimate_size(samples_of(2000, 7, targets), K)
        widths.append((estimate.high - estimate.low) / estimate.nodes)
    assert widths == sorted(widths, reverse=True)
    assert widths[2] < 0.25


def test_nothing_seen_is_nothing_known() -> None:
    assert estimate_size([], K) == SizeEstimate(0.0, 0.0, float("inf"), 0)


async def client_of(nodes: list[DhtNode]) -> DhtNode:
    client = await start_node(999, server=False)
    await client.join([nodes[0].address])
    return client


async def test_a_walk_finds_everybody_and_what_they_run() -> None:
    async with loopback_network(40, agent="example/1") as nodes:
        for node in nodes[:10]:
            node.protocol.agent = b"example/2"
        nodes[10].protocol.agent = b""
        client = await client_of(nodes)
        seen: list[CrawledNode] = []
        (found,) = await crawl_network(client, rate=MAX_RATE, on_node=seen.append)
        assert set(found.nodes) == {node.node_id for node in nodes}
        assert {node.address for node in found.nodes.values()} == {node.address for node in nodes}
        assert sorted(one.node_id for one in seen) == sorted(found.nodes)
        assert found.agents == {"example/1": 29, "example/2": 10, "": 1}
        assert found.complete
        assert (found.reachable, found.silent, found.unproved, found.skipped) == (1.0, 0, 0, 0)
        assert found.estimate.low <= 60
        await client.close()


async def test_contacts_that_are_dead_are_counted_as_such() -> None:
    async with loopback_network(24) as nodes:
        client = await client_of(nodes)
        for node in nodes[4:10]:
            node.protocol.close()
        (found,) = await crawl_network(client, rate=MAX_RATE, targets=2)
        alive = {node.node_id for node in nodes if not node.protocol.closed}
        assert set(found.nodes) == alive
        assert found.silent == 6
        assert found.reachable == pytest.approx(18 / 24)
        await client.close()


async def test_a_limit_ends_the_walk_and_says_so() -> None:
    async with loopback_network(30) as nodes:
        client = await client_of(nodes)
        (found,) = await crawl_network(client, limit=8, rate=MAX_RATE, targets=2)
        assert found.asked == len(found.nodes) == 8
        assert not found.complete
        assert found.skipped > 0
        assert found.estimate.high >= 20
        await client.close()


@pytest.mark.parametrize(("limit", "rate"), [(0, 1), (MAX_LIMIT + 1, 1), (1, 0), (1, MAX_RATE + 1)])
async def test_bounds_of_a_walk(limit: int, rate: float) -> None:
    client = await start_node(999, server=False)
    with pytest.raises(ValueError, match="at most"):
        await crawl_network(client, limit=limit, rate=rate)
    await client.close()


async def test_an_empty_network_is_walked_at_once() -> None:
    client = await start_node(999, server=False)
    (found,) = await crawl_network(client)
    assert (len(found.nodes), found.asked, found.reachable) == (0, 0, 0.0)
    assert found.estimate.nodes == 0
    await client.close()


def test_queries_are_spread_evenly() -> None:
    async def run() -> float:
        pacer = _Pacer(50)
        await asyncio.gather(*(pacer.wait() for _ in range(101)))
        return asyncio.get_running_loop().time()

    assert run_virtual(run) == pytest.approx(2.0)


def test_a_large_network_is_found_whole_and_estimated_right_without_a_burst() -> None:
    async def run() -> None:
        network = VirtualNetwork(5)
        await network.grow(200)
        client = network.add(server=False)
        await client.join([node.address for node in network.nodes[:3]])
        sent = Counter[int]()
        send_query = client.protocol.query

        def counted(query: Query) -> None:
            sent[int(network.loop.time())] += 1
            send_query(query)

        client.protocol.query = counted  # type: ignore[method-assign]
        estimate = await measure_size(client, client.protocol.families()[0])
        assert 120 < estimate.nodes < 320
        sent.clear()
        (found,) = await crawl_network(client, rate=20, targets=0)
        servers = {node.node_id for node in network.nodes if node.is_server}
        assert len(servers - set(found.nodes)) <= 2  # a lost datagram may hide somebody
        assert set(found.nodes) <= servers
        assert sent.total() >= 3 * len(found.nodes)
        assert max(sent.values()) <= 21
        await network.close()

    run_virtual(run)


def lie(node: DhtNode, make: Any) -> None:
    """The node tells of whoever `make` makes."""
    tell_lies(node, lambda _key, value: ([make() for _ in range(20)], value))


async def test_a_liar_that_invents_contacts_cannot_keep_the_walk_going() -> None:
    rng = random.Random(1)
    async with loopback_network(8) as nodes:
        ports = {node.address[1] for node in nodes}
        closed = [port for port in range(20_000, 21_000) if port not in ports]

        def invented() -> Contact:
            return Contact(rng.randbytes(20), "127.0.0.2", rng.choice(closed))

        lie(nodes[3], invented)
        client = await client_of(nodes)
        (found,) = await crawl_network(client, limit=60, rate=MAX_RATE, targets=1)
        assert set(found.nodes) == {node.node_id for node in nodes}
        assert found.asked <= 60
        assert found.silent == found.asked - len(found.nodes)
        await client.close()


def test_nobody_sends_the_walk_to_all_ports_of_a_victim() -> None:
    async def run() -> None:
        network = VirtualNetwork(6)
        await network.grow(10)
        liar = network.nodes[4]
        lie(liar, lambda: Contact(network.rng.randbytes(20), "99.9.9.9", network.rng.randrange(1, 2**16)))
        client = network.add(server=False)
        await client.join([node.address for node in network.nodes[:3]])
        hit = Counter[str]()
        send = client.protocol.send

        def counted(datagram: bytes, address: tuple[str, int]) -> None:
            hit[address[0]] += 1
            send(datagram, address)

        client.protocol.send = counted  # type: ignore[method-assign]
        for node in network.nodes[:10]:
            if node is not liar:
                lie(node, lambda: Contact(liar.node_id, *liar.address))
        honest = {node.node_id for node in network.nodes if node.is_server}
        for _ in range(6):
            (found,) = await crawl_network(client, rate=MAX_RATE, targets=1)
            assert set(found.nodes) <= honest
        # Each address is sent to twice at most: a ping and its retransmission; and a few by lookups.
        assert hit["99.9.9.9"] <= 6 * (2 * MAX_PER_NETWORK.client + 20)
        await network.close()

    run_virtual(run)


def test_a_node_at_several_addresses_is_one_node_and_each_address_was_asked() -> None:
    async def run() -> None:
        network = VirtualNetwork(7, loss=0)
        await network.grow(8)
        moved = network.nodes[3]
        other = network.add(identity=moved.protocol.identity)
        await other.join([network.nodes[0].address])
        addresses = itertools.cycle([moved.address, other.address])
        for node in network.nodes:
            if node not in (moved, other):
                lie(node, lambda: Contact(moved.node_id, *next(addresses)))
        client = network.add(server=False)
        await client.join([network.nodes[0].address])
        (found,) = await crawl_network(client, rate=MAX_RATE, targets=1)
        assert moved.node_id in found.nodes
        assert found.asked == len(found.nodes) + 1
        assert (found.reachable, found.silent, found.unproved) == (1.0, 0, 0)
        await network.close()

    run_virtual(run)

"""What strangers can make of the tables of others, and of the addresses that nodes are told: places taken
from outside, contacts that fall silent, newcomers and nodes surrounded, victims named.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from p2psync_dht import DhtNode, Head, holders_key
from p2psync_dht.contact import Address, Contact
from p2psync_dht.networks import PER_NETWORK
from p2psync_dht.testing.liars import tell_lies
from p2psync_dht.testing.virtual import VirtualNetwork, run_virtual
from p2psync_dht.wire import Want

from .conftest import deny, head_of, record_of

NODES = 30
PER_BUCKET = {"203.0.113.": PER_NETWORK.site, "203.0.": PER_NETWORK.provider}


async def grown(seed: int, count: int = NODES, **options: Any) -> tuple[VirtualNetwork, list[DhtNode], Head]:
    """A network, its nodes, and a head that is stored."""
    network = VirtualNetwork(seed, loss=0.0)
    nodes = await network.grow(count, **options)
    head = head_of(network)
    await nodes[0].put_head(head.raw)
    return network, list(nodes), head


async def finds(node: DhtNode, head: Head) -> bool:
    found = (await node.get_head(head.root)).best
    return found is not None and found.raw == head.raw


@pytest.mark.parametrize("prefix", PER_BUCKET)
def test_who_presses_into_a_table_from_one_network_gets_a_few_places_of_each_bucket(prefix: str) -> None:
    async def run() -> None:
        network, nodes, head = await grown(1)
        ends = (f"{n // 250}.{n % 250 + 1}" if prefix == "203.0." else str(n) for n in range(1, 31))
        attackers = [network.add(address=(prefix + end, 1)) for end in ends]
        victims = network.rng.sample(nodes, 2)
        for _ in range(5):
            for attacker, victim in itertools.product(attackers, victims):
                at = Contact(victim.node_id, *victim.address)
                attacker.protocol.find(at, random.Random(1).randbytes(20), Want.NODES, lambda _: None)
            await asyncio.sleep(10)
        for attacker in attackers:
            deny(attacker, attackers)
        taken = 0
        for victim in victims:
            for bucket in victim.protocol.router.buckets:
                theirs = sum(one.ip.startswith(prefix) for one in bucket.nodes.values())
                assert theirs <= PER_BUCKET[prefix]
                taken += theirs
            assert await finds(victim, head)
        assert taken >= len(victims), "nobody got in, so nothing was shown"
        await network.close()

    run_virtual(run)


def test_contacts_that_fall_silent_leave_the_tables_within_forty_minutes() -> None:
    async def run() -> None:
        network, nodes, head = await grown(2, 16, upkeep=True)
        fakes = await network.grow(16)
        theirs = {fake.node_id for fake in fakes}
        for fake in fakes:
            network.kill(fake)
        assert any(contact.id in theirs for node in nodes for contact in node.contacts())
        assert all([await finds(node, head) for node in nodes])
        await asyncio.sleep(2400)
        assert not any(contact.id in theirs for node in nodes for contact in node.contacts())
        await network.close()

    run_virtual(run)


@pytest.mark.parametrize("is_server", [False, True])
def test_one_honest_address_among_four_is_enough_for_a_newcomer(is_server: bool) -> None:
    async def run() -> None:
        network, nodes, head = await grown(3)
        liars = await network.grow(8)
        for liar in liars:
            deny(liar, liars)
        for _ in range(3):
            newcomer = network.add(server=is_server)
            given = [network.rng.choice(nodes), *network.rng.sample(liars, 3)]
            await newcomer.join([one.address for one in given], enough=None if is_server else 12)
            assert await finds(newcomer, head)
            network.kill(newcomer)
            await newcomer.close()
        await network.close()

    run_virtual(run)


def test_a_node_round_whose_own_id_others_have_chosen_theirs_finds_what_is_far_from_it() -> None:
    async def run() -> None:
        network, nodes, _ = await grown(4)
        victim = nodes[5]
        key = int.from_bytes(victim.node_id, "big")
        liars: list[DhtNode] = []
        while len(liars) < 20:
            identity = network.new_identity()
            if (int.from_bytes(identity.node_id, "big") ^ key) >> 153 == 0:
                liars.append(network.add(identity=identity))
        for liar in liars:
            await liar.join([victim.address])
            deny(liar, liars)
        theirs = {liar.node_id for liar in liars}
        assert sum(one.id in theirs for one in victim.protocol.router.closest(key)) >= 18
        for _ in range(4):
            head = head_of(network)
            await nodes[0].put_head(head.raw)
            assert await finds(victim, head)
        await network.close()

    run_virtual(run)


@pytest.mark.parametrize(
    "victim",
    [lambda number: ("198.51.100.1", 1000 + number), lambda number: (f"198.51.100.{number % 250 + 1}", 53)],
    ids=["a host", "a network"],
)
def test_answers_that_name_a_victim_bring_it_two_queries_of_a_read_at_most(
    victim: Callable[[int], Address],
) -> None:
    """However many liars a reader asks; the victim is a host, or a /24."""

    async def run() -> None:
        network, nodes, head = await grown(5)
        liars, numbers = nodes[:8], itertools.count()
        hit: list[Address] = []
        carry = network.carry

        def lie(key: bytes, value: Any) -> tuple[Iterable[Contact], Any]:
            ids = (key[:12] + network.rng.randbytes(8) for _ in range(24))
            return [Contact(one, *victim(next(numbers))) for one in ids], value

        def count(data: bytes, sender: Address, receiver: Address) -> None:
            if receiver[0].startswith("198."):
                hit.append(receiver)
            carry(data, sender, receiver)

        network.carry = count  # type: ignore[method-assign]
        for liar in liars:
            tell_lies(liar, lie)
        readers = nodes[8:16]
        for reader in readers:
            assert await finds(reader, head)
            await asyncio.sleep(3)
        sent_twice = 2
        assert 0 < len(hit) <= sent_twice * PER_NETWORK.site * len(readers)
        await network.close()

    run_virtual(run)


def test_an_hour_of_liars_fakes_and_churn_at_once_hides_neither_heads_nor_holders() -> None:
    """A new head every twenty minutes, which two holders store and refresh; liars tell the one before, and
    have themselves listed as holders.
    """

    async def run() -> None:
        network = VirtualNetwork(6)
        honest = await network.grow(16, upkeep=True)
        liars = await network.grow(4)
        root = network.new_identity()
        key = holders_key(root.public_key)
        holders = [network.add(server=False) for _ in range(2)]
        for holder in holders:
            await holder.join([honest[0].address])
        for seq in range(1, 4):
            older, newest = head_of(network, seq - 1, root), head_of(network, seq, root)
            for liar in liars:
                deny(liar, liars, older)
                await liar.put_holder(record_of(liar, key).raw)
            for holder in holders:
                await holder.put_head(newest.raw)
                await holder.put_holder(record_of(holder, key).raw)
            for _ in range(4):
                network.kill(honest.pop(network.rng.randrange(len(honest))))
                known = [one.address for one in (*network.rng.sample(honest, 2), liars[0])]
                fake = network.add()
                await fake.join(known)
                honest.append(network.add(upkeep=True))
                await honest[-1].join(known)
                network.loop.call_later(60, network.kill, fake)
                await asyncio.sleep(300)
                asker = network.rng.choice(honest)
                assert await finds(asker, newest)
                found = {record.node_key for record in await asker.get_holders(key)}
                assert found & {holder.identity.public_key for holder in holders}
                await holders[0].refresh_head(newest.raw, holders=2)
        await network.close()

    run_virtual(run)

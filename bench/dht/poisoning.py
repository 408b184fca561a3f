"""Measurements on the virtual network of what can be made of the tables of others: filled with an attacker's
contacts, or with silent ones; surrounded at the first contact; pointed at victims who have no part in it.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from bench.dht.adversaries import make_liar, near_identity
from bench.dht.figures import Note
from bench.dht.network import Tally, gave, heads_of, read
from p2psync_dht import DhtNode, Head
from p2psync_dht.contact import Address, Contact
from p2psync_dht.testing.liars import tell_lies
from p2psync_dht.testing.virtual import VirtualNetwork, run_virtual
from p2psync_dht.wire import Want

TABLE_NODES: Final = 100  # honest ones of a network in which tables are looked at, which takes its time
VICTIMS: Final = 10
PRESSED: Final = 10  # times that each attacker asks each victim something, to be invited
BETWEEN: Final = 30.0  # seconds between two of these rounds
TOLD: Final = 24  # contacts in an answer, as many as are believed


def tables(nodes: int, reads: int, note: Note) -> None:
    """Half as many nodes as there are honest ones do all that they can to enter the tables of some, which
    then read; the attackers deny all heads, and tell of each other only.
    """
    for where, make in NETWORKS.items():
        run_virtual(partial(_tables, min(nodes, TABLE_NODES), max(1, reads // 6), where, make, note))


def _apart(network: VirtualNetwork, _number: int) -> Address:
    return network.new_address()


NETWORKS: Final[dict[str, Callable[[VirtualNetwork, int], Address]]] = {
    "apart": _apart,
    "one /24": lambda _network, number: (f"203.0.113.{number % 250 + 1}", 1000 + number),
    "one IPv6 /64": lambda _network, number: (f"2400:1::{number + 1:x}", 1),
    "one IPv6 /48": lambda _network, number: (f"2400:1:0:{number:x}::1", 1),
    "one IPv6 /32": lambda _network, number: (f"2400:1:{number:x}::1", 1),
}


async def _tables(
    nodes: int, reads: int, where: str, make: Callable[[VirtualNetwork, int], Address], note: Note
) -> None:
    network = VirtualNetwork(11)
    if "IPv6" in where:
        for number in range(nodes):
            await _join(network, network.add(address=(f"{0x2A00 + number:x}:{number + 1:x}::1", 1)))
    else:
        await network.grow(nodes)
    honest = list(network.nodes)
    heads = await _put(network, honest)
    attackers = [network.add(address=make(network, number)) for number in range(nodes // 2)]
    victims = network.rng.sample(honest, VICTIMS)
    for _ in range(PRESSED):
        for attacker, victim in itertools.product(attackers, victims):
            _ask(attacker, victim)
        await asyncio.sleep(BETWEEN)
    theirs = {one.node_id for one in attackers}
    taken = [sum(one.id in theirs for one in victim.contacts()) for victim in victims]
    known = [len(victim.contacts()) for victim in victims]
    friends = [Contact(one.node_id, *one.address) for one in attackers]
    for one in attackers:
        make_liar(one, friends, {})
    tally = await read(network, heads, "quorum", reads, victims)
    detail = f"{sum(taken) / VICTIMS:.1f} of {sum(known) / VICTIMS:.0f} contacts"
    note(f"table {where}", 100 * sum(taken) / sum(known), detail, nodes=nodes, count=VICTIMS)
    note(f"table {where} right", tally.percent, str(tally), nodes=nodes, count=tally.count)


async def _join(network: VirtualNetwork, node: DhtNode) -> None:
    others = [one.address for one in network.nodes if one is not node]
    await node.join(network.rng.sample(others, min(3, len(others))))


def _ask(attacker: DhtNode, victim: DhtNode) -> None:
    """Ask a victim something, as a node that could be of use to it."""
    at = Contact(victim.node_id, *victim.address)
    attacker.protocol.find(at, random.randbytes(20), Want.NODES, lambda _reply: None)


def silent(nodes: int, reads: int, note: Note) -> None:
    """As many nodes as there are honest ones enter tables, and then all fall silent."""
    run_virtual(partial(_silent, min(nodes, TABLE_NODES), max(1, reads // 6), note))


async def _silent(nodes: int, reads: int, note: Note) -> None:
    network = VirtualNetwork(12)
    await network.grow(nodes, upkeep=True)
    honest = list(network.nodes)
    heads = heads_of(network, 20)
    fakes = await network.grow(nodes)
    for head in heads:
        await honest[0].put_head(head.raw)
    theirs = {one.node_id for one in fakes}
    for one in fakes:
        network.kill(one)
    for minutes, wait in ((0, 0), (30, 30), (60, 30)):
        await asyncio.sleep(60 * wait)
        tally = Tally(network)
        while tally.count < reads:
            asker, head = network.rng.choice(honest), network.rng.choice(heads)
            if asker.storage.head(head.key) is None:
                await tally.time(asker.get_head(head.root), partial(gave, head.raw))
        known = [contact.id in theirs for node in honest for contact in node.contacts()]
        note(f"silent {minutes}", tally.percent, str(tally), nodes=nodes, count=reads)
        note(f"silent {minutes} dead", 100 * sum(known) / len(known), nodes=nodes, count=len(honest))
    await network.close()


def eclipse(nodes: int, reads: int, note: Note) -> None:
    """Those who are to be cut off: newcomers of whose addresses most are an attacker's, and nodes round whose
    own ids it has chosen its own.
    """
    for given in ((1, 3), (1, 7)):
        run_virtual(partial(_newcomers, nodes, max(1, reads // 6), *given, note))
    run_virtual(partial(_surrounded, nodes, max(1, reads // 6), note))


async def _newcomers(nodes: int, reads: int, honest: int, hostile: int, note: Note) -> None:
    network = VirtualNetwork(13)
    await network.grow(nodes)
    good = list(network.nodes)
    heads = await _put(network, good)
    liars = await network.grow(nodes // 10)
    friends = [Contact(one.node_id, *one.address) for one in liars]
    for node in liars:
        make_liar(node, friends, {})
    for name, server in (("client", False), ("server", True)):
        tally, shares = Tally(network), []
        while tally.count < reads:
            newcomer = network.add(server=server)
            given = network.rng.sample(good, honest) + network.rng.sample(liars, hostile)
            await newcomer.join([one.address for one in given], enough=None if server else 12)
            theirs = {one.node_id for one in liars}
            shares.append(sum(one.id in theirs for one in newcomer.contacts()) / len(newcomer.contacts()))
            head = network.rng.choice(heads)
            await tally.time(newcomer.get_head(head.root), partial(gave, head.raw))
            network.kill(newcomer)
            await newcomer.close()
        detail = f"{100 * sum(shares) / reads:.0f} % of the table are liars, {tally}"
        note(f"bootstrap {name} {honest}:{hostile}", tally.percent, detail, nodes=nodes, count=reads)


async def _put(network: VirtualNetwork, by: list[DhtNode]) -> list[Head]:
    heads = heads_of(network, 20)
    for head in heads:
        await network.rng.choice(by).put_head(head.raw)
    return heads


async def _surrounded(nodes: int, reads: int, note: Note) -> None:
    network = VirtualNetwork(14)
    await network.grow(nodes)
    good = list(network.nodes)
    heads = await _put(network, good)
    tally = Tally(network)
    victims = network.rng.sample(good, 3)
    near = 0
    for victim in victims:
        key = int.from_bytes(victim.node_id, "big")
        liars = [network.add(identity=near_identity(network, key, nodes)) for _ in range(40)]
        friends = [Contact(one.node_id, *one.address) for one in liars]
        for one in liars:
            await one.join([victim.address])
            make_liar(one, friends, {})
        theirs = {one.node_id for one in liars}
        near += sum(one.id in theirs for one in victim.protocol.router.closest(key))
        while tally.count < reads * (victims.index(victim) + 1) // 3:
            head = network.rng.choice(heads)
            if victim.storage.head(head.key) is None:
                await tally.time(victim.get_head(head.root), partial(gave, head.raw))
    detail = f"{near / 3:.1f} of its 20 nearest contacts, {tally}"
    note("own id surrounded", tally.percent, detail, nodes=nodes, count=tally.count)


def named(nodes: int, reads: int, note: Note) -> None:
    """Every fifth node answers with addresses of victims, who are no nodes; readers ask them what they ask
    nodes.
    """
    for what, victims in NAMED.items():
        run_virtual(partial(_named, nodes, max(1, reads // 6), what, victims, note))


NAMED: Final[dict[str, Callable[[int], Address]]] = {
    "one host": lambda number: ("198.51.100.1", 1000 + number),
    "one /24": lambda number: (f"198.51.100.{number % 250 + 1}", 53),
    "many hosts": lambda number: (f"198.{number % 250}.{number // 250}.1", 53),
}


async def _named(nodes: int, reads: int, what: str, victim: Callable[[int], Address], note: Note) -> None:
    network = VirtualNetwork(15)
    await network.grow(nodes)
    heads = await _put(network, network.nodes)
    liars = network.rng.sample(network.nodes, nodes // 5)
    numbers = itertools.count()

    def lie(key: bytes, value: Any) -> tuple[Iterable[Contact], Any]:
        ids = (key[:12] + network.rng.randbytes(8) for _ in range(TOLD))
        return [Contact(one, *victim(next(numbers) % 5000)) for one in ids], value

    for node in liars:
        tell_lies(node, lie)
    hit: list[int] = []
    carry = network.carry

    def count(data: bytes, sender: Address, receiver: Address) -> None:
        if receiver[0].startswith("198."):
            hit.append(len(data))
        carry(data, sender, receiver)

    network.carry = count  # type: ignore[method-assign]
    told = sum(node.counters.bytes_out for node in liars)
    honest = [node for node in network.nodes if node not in set(liars)]
    tally = Tally(network)
    while tally.count < reads:
        asker, head = network.rng.choice(honest), network.rng.choice(heads)
        if asker.storage.head(head.key) is None:
            await tally.time(asker.get_head(head.root), partial(gave, head.raw))
    told = sum(node.counters.bytes_out for node in liars) - told
    detail = f"{sum(hit) / reads:.0f} bytes a read, {sum(hit) / told:.2f} times what the liars sent, {tally}"
    note(f"named {what}", len(hit) / reads, detail, nodes=nodes, count=reads)

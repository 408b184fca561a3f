"""Measurements on the virtual network among nodes that mean harm: colluding liars, Sybils, hostile
datagrams.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import Any, Final

from bench.dht.figures import Note
from bench.dht.network import Tally, gave, heads_of, read
from p2psync_dht import DhtNode, Head, Identity
from p2psync_dht.contact import Contact
from p2psync_dht.testing.liars import tell_lies
from p2psync_dht.testing.virtual import VirtualNetwork, run_virtual
from p2psync_dht.wire import DEFAULT_NETWORK, REPLY_BIT, Kind, encode

SYBILS: Final = 64
CROWDED_NODES: Final = 400  # of the network whose keys are crowded round
HOSTILE: Final = 100_000
LIES: Final = ("older", "none", "invented")


def liars(nodes: int, reads: int, note: Note) -> None:
    """Colluders know each other and tell of each other only. They answer with an older head, or with none,
    or with an older one and silent contacts, invented for each question, nearer to the key than anybody.
    """
    for percent in (20, 40):
        for lie in LIES:
            run_virtual(partial(_liars, nodes, max(1, reads // 3), percent, lie, note))


async def _liars(nodes: int, reads: int, percent: int, lie: str, note: Note) -> None:
    network = VirtualNetwork(3)
    await network.grow(nodes)
    heads, older = await _two_each(network)
    colluders = network.rng.sample(network.nodes, nodes * percent // 100)
    friends = [Contact(one.node_id, *one.address) for one in colluders]
    for node in colluders:
        make_liar(node, friends, {} if lie == "none" else older, network if lie == "invented" else None)
    honest = [node for node in network.nodes if node not in set(colluders)]
    tally = await read(network, heads, "quorum", reads, honest)
    note(f"liars {percent} {lie}", tally.percent, str(tally), nodes=nodes, count=tally.count)


async def _two_each(network: VirtualNetwork) -> tuple[list[Head], dict[bytes, Head]]:
    """The heads of 40 archives, which are stored, and by their keys the older ones, which are not."""
    roots = [network.new_identity() for _ in range(40)]
    older = {head.key: head for head in heads_of(network, 0, 1, roots)}
    heads = heads_of(network, 0, 2, roots)
    for head in heads:
        await network.rng.choice(network.nodes).put_head(head.raw)
    return heads, older


def newcomers(nodes: int, reads: int, note: Note) -> None:
    """Clients that join among 40 % liars with an older head, and read at once."""
    run_virtual(partial(_newcomers, nodes, max(1, reads // 3), note))


async def _newcomers(nodes: int, reads: int, note: Note) -> None:
    network = VirtualNetwork(8)
    await network.grow(nodes)
    heads, older = await _two_each(network)
    honest = network.rng.sample(network.nodes, nodes * 60 // 100)
    memories = [await _met(network, honest) for _ in range(60)]
    colluders = [node for node in network.nodes if node not in set(honest)]
    friends = [Contact(one.node_id, *one.address) for one in colluders]
    for node in colluders:
        make_liar(node, friends, older)
    for name, remembers in (("remembering", True), ("newcomers", False)):
        tally = Tally(network)
        while tally.count < reads:
            client = network.add(server=False, contacts=network.rng.choice(memories) if remembers else ())
            await client.join([network.rng.choice(honest).address], enough=12)
            head = network.rng.choice(heads)
            await tally.time(client.get_head(head.root), partial(gave, head.raw))
            await _leave(network, client)
        note(name, tally.percent, str(tally), nodes=nodes, count=tally.count)


async def _met(network: VirtualNetwork, honest: list[DhtNode]) -> list[Contact]:
    """Whom a client has met when it has joined."""
    client = network.add(server=False)
    await client.join([network.rng.choice(honest).address])
    met = client.contacts()
    await _leave(network, client)
    return met


async def _leave(network: VirtualNetwork, node: DhtNode) -> None:
    network.kill(node)
    await node.close()


def make_liar(
    node: DhtNode, colluders: list[Contact], heads: dict[bytes, Head], inventing: VirtualNetwork | None = None
) -> None:
    """Have a node answer every lookup with the nearest colluders and the head in `heads`, if any."""

    def lie(key: bytes, _value: Any) -> tuple[list[Contact], Any]:
        target = int.from_bytes(key, "big")
        nearest = sorted(colluders, key=lambda one: one.long_id ^ target)[:20]
        if inventing is not None:
            invented = (key[:12] + inventing.rng.randbytes(8) for _ in range(10))
            nearest = [Contact(one, *inventing.new_address()) for one in invented] + nearest[:10]
        head = heads.get(key)
        return nearest, None if head is None else [head.raw, 0]

    tell_lies(node, lie)


def sybils(nodes: int, reads: int, note: Note) -> None:
    """64 nodes of one /24 with ids chosen next to a key, telling of each other and denying the head."""
    run_virtual(partial(_sybils, nodes, max(1, reads // 3), note))


async def _sybils(nodes: int, reads: int, note: Note) -> None:
    network = VirtualNetwork(4)
    await network.grow(nodes)
    heads = heads_of(network, 3)
    for head in heads:
        await network.nodes[0].put_head(head.raw)
    victims = list(network.nodes)
    for index, head in enumerate(heads):
        key, made = int.from_bytes(head.key, "big"), []
        for number in range(1, SYBILS + 1):
            identity = near_identity(network, key, nodes)
            made.append(network.add(identity=identity, address=(f"203.0.{index}.{number}", 1)))
        contacts = [Contact(one.node_id, *one.address) for one in made]
        for node in made:
            await node.join([network.rng.choice(victims).address])
        for node in made:
            make_liar(node, contacts, {})
    tally = await read(network, heads, "quorum", reads, victims)
    note("sybils", tally.percent, str(tally), nodes=nodes, count=tally.count)


def crowds(_nodes: int, reads: int, note: Note, nodes: int = CROWDED_NODES) -> None:
    """Chosen ids next to a key as well, but each in a network of its own: they deny the head, or tell an
    older one.
    """
    for count in (40, 80):
        for lie in LIES[:2]:
            run_virtual(partial(_crowds, nodes, max(1, min(reads // 3, 200)), count, lie, note))


async def _crowds(nodes: int, reads: int, count: int, lie: str, note: Note) -> None:
    network = VirtualNetwork(4)
    await network.grow(nodes)
    roots = [network.new_identity() for _ in range(3)]
    older = {head.key: head for head in heads_of(network, 0, 1, roots)}
    heads = heads_of(network, 0, 2, roots)
    for head in heads:
        await network.nodes[0].put_head(head.raw)
    victims = list(network.nodes)
    for head in heads:
        key = int.from_bytes(head.key, "big")
        made = [network.add(identity=near_identity(network, key, nodes)) for _ in range(count)]
        contacts = [Contact(one.node_id, *one.address) for one in made]
        for node in made:
            await node.join([network.rng.choice(victims).address])
        for node in made:
            make_liar(node, contacts, {} if lie == "none" else older)
    tally = await read(network, heads, "quorum", reads, victims)
    note(f"crowd {count} {lie}", tally.percent, str(tally), nodes=nodes, count=tally.count)


def near_identity(network: VirtualNetwork, key: int, nodes: int) -> Identity:
    """Grind keys until the id is nearer to `key` than all honest nodes are, as a rule."""
    bits = nodes.bit_length() + 1
    while True:
        identity = network.new_identity()
        if (int.from_bytes(identity.node_id, "big") ^ key) >> (160 - bits) == 0:
            return identity


def hostile(nodes: int, _reads: int, note: Note, datagrams: int = HOSTILE) -> None:
    """Requests, replies and noise from forged sources to a node of a small network, which then looks
    things up.
    """
    run_virtual(partial(_hostile, min(nodes, 50), datagrams, note))


async def _hostile(nodes: int, datagrams: int, note: Note) -> None:
    network = VirtualNetwork(6)
    await network.grow(nodes)
    heads = heads_of(network, 20)
    for head in heads:
        await network.rng.choice(network.nodes).put_head(head.raw)
    node = network.add()
    await node.join([network.nodes[0].address])
    real = {one.node_id for one in network.nodes}
    errors: list[Any] = []
    network.loop.set_exception_handler(lambda _loop, context: errors.append(context))
    rng = random.Random(6)
    templates = [
        encode(DEFAULT_NETWORK, kind, bytes(8), rng.randbytes(20), body, is_reply=reply, pad_to=400)
        for kind in Kind
        for body in ([], [rng.randbytes(20), 1, rng.randbytes(16), None, None], [bytes(8), [bytes(99)] * 9])
        for reply in (False, True)
    ]
    kept = len(node.storage)
    for number in range(datagrams):
        datagram = bytearray(rng.choice(templates))
        for _ in range(rng.randrange(4)):
            datagram[rng.randrange(len(datagram))] = rng.randrange(256)
        datagram[5] ^= REPLY_BIT * rng.randrange(2)
        source = ".".join(str(part) for part in rng.choices(range(1, 224), k=4)), rng.randrange(1, 65536)
        try:
            node.protocol.datagram_received(bytes(datagram[: rng.randrange(1, 1400)]), source)
        except Exception as error:  # what a benchmark of robustness counts
            errors.append(error)
        if number % 100 == 99:
            await asyncio.sleep(0.01)
    await asyncio.sleep(10)
    note("hostile errors", len(errors), nodes=nodes, count=datagrams)
    strangers = sum(one.id not in real for one in node.contacts())
    note("hostile taken", strangers + len(node.storage) - kept, nodes=nodes, count=datagrams)
    right = [gave(head.raw, await node.get_head(head.root)) for head in heads]
    note("hostile alive", 100 * sum(right) / len(right), nodes=nodes, count=len(right))

"""The same measurements of the plain kademlia package, on the same virtual network, where it survives them.

Its own classes, unchanged, on a virtual transport. It has no identities, signatures or quorum: what it
finds is counted as right if it is the value that was stored last.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import umsgpack
from kademlia.network import Server
from kademlia.node import Node
from kademlia.protocol import KademliaProtocol
from kademlia.storage import ForgetfulStorage
from kademlia.utils import digest

from bench.dht.figures import Note
from bench.dht.network import DEAD, Tally
from p2psync_dht.contact import Address
from p2psync_dht.testing.virtual import VirtualNetwork, VirtualTransport, run_virtual

SETTLE: Final = 6.0  # its time-out is 5 s
STORED: Final = 100_000
SYBILS: Final = 64
RECORD_BYTES: Final = 200  # about those of a signed record


class PackageNetwork(VirtualNetwork):
    """Servers of the package on a virtual network."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.servers: list[Any] = []

    def add_server(
        self,
        node_id: bytes | None = None,
        address: Address | None = None,
        protocol_class: type[Any] = KademliaProtocol,
    ) -> Any:
        server: Any = Server(node_id=node_id or self.rng.randbytes(20))
        server.protocol_class = protocol_class
        server.protocol = server._create_protocol()
        server.transport = VirtualTransport(self, address or self.new_address(), nat=False)
        server.transport.protocol = server.protocol
        server.protocol.connection_made(server.transport)
        self.transports[server.transport.address] = server.transport
        self.servers.append(server)
        return server

    async def grow_servers(self, count: int, at_once: int = 10) -> list[Any]:
        """Add and bootstrap servers, some at a time, each through three that are there."""
        made: list[Any] = []
        while len(made) < count:
            known = [server.transport.address for server in self.servers]
            batch = [self.add_server() for _ in range(min(at_once if known else 1, count - len(made)))]
            joins = (one.bootstrap(self.rng.sample(known, min(3, len(known)))) for one in batch if known)
            await asyncio.gather(*joins)
            made += batch
        return made

    async def read(self, keys: list[str], kind: str, count: int, askers: list[Any]) -> Tally:
        """Reads (`kind`: hit or miss) by servers that do not store the value; values are `value_of` their
        keys.
        """
        tally = Tally(self, settle=SETTLE)
        while tally.count < count:
            asker, key = self.rng.choice(askers), self.rng.choice(keys)
            wanted: str | None = value_of(key)
            if kind == "miss":
                key, wanted = self.rng.randbytes(8).hex(), None
            if asker.storage.get(digest(key)) is None:
                await tally.time(asker.get(key), partial(_is, wanted))
        return tally


def _is(wanted: Any, found: Any) -> bool:
    return bool(found == wanted)


def value_of(key: str, version: int = 2) -> str:
    return f"{key} {version}".ljust(RECORD_BYTES)


def _quiet(run: Callable[[], Any]) -> Any:
    """Without the package's log lines: it writes several for each message."""
    logging.disable(logging.CRITICAL)
    try:
        return run_virtual(run)
    finally:
        logging.disable(logging.NOTSET)


async def _stored(network: PackageNetwork, count: int) -> tuple[list[str], Tally]:
    keys = [f"key {number}" for number in range(count)]
    tally = Tally(network, settle=SETTLE)
    for key in keys:
        await tally.time(network.rng.choice(network.servers).set(key, value_of(key)), bool)
    return keys, tally


def lookups(nodes: int, reads: int, note: Note) -> None:
    """As `bench.dht.network.lookups`."""
    _quiet(partial(_lookups, nodes, reads, note))


async def _lookups(nodes: int, reads: int, note: Note) -> None:
    network = PackageNetwork(1)
    await network.grow_servers(nodes)
    joins = []
    for _ in range(10):
        before = network.carried
        await network.add_server().bootstrap([network.rng.choice(network.servers[:nodes]).transport.address])
        joins.append(network.carried - before)
    note("join datagrams", statistics.mean(joins), nodes=nodes, count=len(joins))
    keys, puts = await _stored(network, 30)
    note("put p95", puts.p95, str(puts), nodes=nodes, count=puts.count)
    note("put datagrams", puts.mean_datagrams, nodes=nodes, count=puts.count)
    note("sweep datagrams", puts.mean_datagrams / 2, "a put each", nodes=nodes, count=puts.count)
    hits = await network.read(keys, "hit", reads, network.servers)
    note("hit p95", hits.p95, str(hits), nodes=nodes, count=hits.count)
    note("hit datagrams", hits.mean_datagrams, nodes=nodes, count=hits.count)
    misses = await network.read(keys, "miss", max(1, reads // 4), network.servers)
    note("miss datagrams", misses.mean_datagrams, str(misses), nodes=nodes, count=misses.count)
    for server in network.rng.sample(network.servers, int(len(network.servers) * DEAD)):
        network.servers.remove(server)
        server.transport.close()
    hits = await network.read(keys, "hit", reads, network.servers)
    note("dead found", hits.percent, str(hits), nodes=nodes, count=hits.count)
    note("dead first p95", hits.p95, nodes=nodes, count=hits.count)
    note("dead quorum p95", None, "has no quorum")
    misses = await network.read(keys, "miss", max(1, reads // 4), network.servers)
    note("dead miss p95", misses.p95, str(misses), nodes=nodes, count=misses.count)


def liars(nodes: int, reads: int, note: Note) -> None:
    """A share of the nodes answers every question with an older value. It needs no more."""
    for percent in (20, 40):
        _quiet(partial(_liars, nodes, reads, percent, note))


async def _liars(nodes: int, reads: int, percent: int, note: Note) -> None:
    network = PackageNetwork(3)
    await network.grow_servers(nodes)
    keys, _ = await _stored(network, 20)
    older = {digest(key): {"value": value_of(key, 1)} for key in keys}
    liars = network.rng.sample(network.servers, nodes * percent // 100)
    for liar in liars:
        liar.protocol.rpc_find_value = lambda _sender, _node_id, key: older[key]
    honest = [server for server in network.servers if server not in liars]
    tally = await network.read(keys, "hit", reads, honest)
    note(f"liars {percent} older", tally.percent, str(tally), nodes=nodes, count=tally.count)


def sybils(nodes: int, reads: int, note: Note) -> None:
    """64 nodes of one /24 around a key, which know each other only. Here ids are free to choose."""
    _quiet(partial(_sybils, nodes, reads, note))


async def _sybils(nodes: int, reads: int, note: Note) -> None:
    network = PackageNetwork(4)
    await network.grow_servers(nodes)
    victims = list(network.servers)
    keys, _ = await _stored(network, 1)
    target = int.from_bytes(digest(keys[0]), "big")
    made = [
        network.add_server((target ^ number).to_bytes(20, "big"), ("203.0.0." + str(number), 1))
        for number in range(1, SYBILS + 1)
    ]
    for server in made:
        await server.bootstrap([network.rng.choice(victims).transport.address])
    for server in made:
        friends = [(one.node.id, *one.transport.address) for one in made if one is not server][:20]
        server.storage = server.protocol.storage = ForgetfulStorage()
        server.protocol.rpc_find_value = lambda *_, friends=friends: friends
        server.protocol.rpc_find_node = lambda *_, friends=friends: friends
    tally = await network.read(keys, "hit", reads, victims)
    note("sybils", tally.percent, str(tally), nodes=nodes, count=tally.count)


def local(_nodes: int, _reads: int, note: Note, stored: int = STORED) -> None:
    """A new contact while 100,000 records are stored, and the memory that these take."""
    _quiet(partial(_local, stored, note))


async def _local(stored: int, note: Note) -> None:
    network = PackageNetwork(7)
    server = network.add_server()
    for _ in range(100):
        server.protocol.router.add_contact(Node(network.rng.randbytes(20), *network.new_address()))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(stored):
        server.storage[network.rng.randbytes(20)] = network.rng.randbytes(RECORD_BYTES)
    note("memory of records", (tracemalloc.get_traced_memory()[0] - before) / 1e6, count=stored)
    tracemalloc.stop()
    sent = network.carried
    stranger = Node(network.rng.randbytes(20), *network.new_address())
    began = time.process_time()
    server.protocol.welcome_if_new(stranger)
    note("new contact", (time.process_time() - began) * 1e6, count=1)
    await asyncio.sleep(0.01)
    note("new contact stores", network.carried - sent, count=1)
    for name in ("stores", "refreshes"):
        note(name, None, "verifies nothing")


def hostile(_nodes: int, _reads: int, note: Note) -> None:
    """One reply to a real socket on loopback: a contact with a port that does not exist."""
    logging.disable(logging.CRITICAL)
    try:
        survives = asyncio.run(_survives_a_reply())
    finally:
        logging.disable(logging.NOTSET)
    for name in ("hostile errors", "hostile taken", "hostile alive"):
        if survives:
            note(name, None, "not measured: it survived the first reply")
        else:
            note(name, None, "does not survive: one reply closes its socket")


class _Liar(asyncio.DatagramProtocol):
    """Answers a ping with an id, and every other question with a contact at port 99999."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        name, _ = umsgpack.unpackb(data[21:])
        answer = bytes(20) if name == "ping" else [(b"x" * 20, "127.0.0.1", 99999)]
        self.transport.sendto(b"\1" + data[1:21] + umsgpack.packb(answer), addr)


async def _survives_a_reply() -> bool:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, _context: None)
    liar, _ = await loop.create_datagram_endpoint(_Liar, local_addr=("127.0.0.1", 0))
    server = Server(node_id=b"o" * 20)
    await server.listen(0, "127.0.0.1")
    try:
        joining = asyncio.ensure_future(server.bootstrap([liar.get_extra_info("sockname")]))
        await asyncio.wait([joining], timeout=2)
        joining.cancel()
        await asyncio.gather(joining, return_exceptions=True)
        return not server.transport.is_closing()
    finally:
        server.stop()
        liar.close()

"""Defects of the kademlia package in what it believes of answers; see `package`."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
import umsgpack
from kademlia.network import Server
from kademlia.node import Node

from p2psync_dht import DhtNode
from p2psync_dht.contact import Contact
from p2psync_dht.testing.virtual import run_virtual
from p2psync_dht.wire import DEFAULT_NETWORK, Kind, decode, encode

from .conftest import identity
from .package import LIAR, PEER, PEER_ID, ROOT, OurNode, PackageNode, answer_of, both


class _Liar(asyncio.DatagramProtocol):
    """A node on a real socket that tells everybody who asks of one contact, in either protocol."""

    def __init__(self, told: Any) -> None:
        self.told = told
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if data[:4] == DEFAULT_NETWORK:
            query = decode(data, DEFAULT_NETWORK)
            body = answer_of(query, contacts=self.told) if query.kind == Kind.FIND else []
            reply = encode(DEFAULT_NETWORK, query.kind, query.transaction, LIAR.node_id, body, is_reply=True)
        else:
            name = umsgpack.unpackb(data[21:])[0]
            reply = b"\x01" + data[1:21] + umsgpack.packb(PEER_ID if name == "ping" else self.told)
        self.transport.sendto(reply, addr)


@pytest.mark.parametrize(
    "address",
    [("127.0.0.1", 99999), (None, 4000), ("127.0.0.1", "80")],
    ids=["port 99999", "no ip", "port as text"],
)
@both
async def test_one_reply_with_an_impossible_contact_ends_the_socket(address: Any, ours: bool) -> None:
    """`RPCFindResponse.get_node_list` takes any contact, and what `sendto` raises is fatal to asyncio."""
    loop = asyncio.get_running_loop()
    told = [[b"q" * 20, *address]]
    liar, _ = await loop.create_datagram_endpoint(lambda: _Liar(told), local_addr=("127.0.0.1", 0))
    where = liar.get_extra_info("sockname")
    try:
        if ours:
            async with await DhtNode.start(identity(1), "127.0.0.1", 0) as node:
                node.protocol.router.add_verified(Contact(LIAR.node_id, *where))
                assert (await node.get_head(ROOT.public_key)).best is None
                assert not node.protocol.transports[socket.AF_INET].is_closing()
                async with await DhtNode.start(identity(2), "127.0.0.1", 0) as other:
                    assert await other.join([node.address]) >= 1
            return
        loop.set_exception_handler(lambda *_: None)  # asyncio reports what it closes the socket for
        server: Any = Server()
        await server.listen(0, "127.0.0.1")
        server.protocol._wait_timeout = 0.2
        server.protocol.router.add_contact(Node(PEER_ID, *where))
        assert not server.transport.is_closing()
        assert await server.get("key") is None
        assert server.transport.is_closing()
        server.stop()
    finally:
        liar.close()


ODD_REPLIES = {
    "id too short": [[b"", "127.0.0.1", 4001]],
    "id too long": [[b"\xff" * 21, "127.0.0.1", 4001]],
    "contact without an id": [[]],
    "contact with too much": [[b"q" * 20, "127.0.0.1", 4001, 5]],
    "id as text": [["q" * 20, "127.0.0.1", 4001]],
    "a number": 7,
    "value of another name": {"other": 1},
}


@pytest.mark.parametrize("told", ODD_REPLIES.values(), ids=ODD_REPLIES.keys())
@both
def test_a_malformed_reply_makes_a_read_raise(told: Any, ours: bool) -> None:
    """`Node.__init__` and `RoutingTable.get_bucket_for` expect ids of 20 bytes, `get_node_list` three
    elements.
    """

    async def run() -> None:
        if ours:
            for answer in (
                lambda query, _: answer_of(query, contacts=told),
                lambda _query, _: [told] * 5,
            ):
                node = OurNode(answer)
                assert (await node.node.get_head(ROOT.public_key)).best is None
                assert sum(node.node.counters.drops.values()) == 1
            return
        # Whoever is told of answers as well: an id is looked at once more when its answer comes.
        node_of_package = PackageNode(lambda _name, _args, _to: told, [(PEER_ID, PEER)])
        with pytest.raises((TypeError, ValueError, AttributeError, KeyError)):
            await node_of_package.server.get("key")

    run_virtual(run)


@both
def test_a_reply_from_another_address_is_accepted(ours: bool) -> None:
    """`RPCProtocol._accept_response` compares the message id only, not the sender's address."""
    elsewhere = ("127.0.0.10", 4000)

    async def run() -> None:
        if ours:
            node = OurNode()
            read = asyncio.ensure_future(node.node.get_head(ROOT.public_key))
            await asyncio.sleep(0.001)
            query, _ = node.calls()[0]
            body = answer_of(query)
            reply = encode(DEFAULT_NETWORK, query.kind, query.transaction, LIAR.node_id, body, is_reply=True)
            node.protocol.datagram_received(reply, elsewhere)
            assert node.node.counters.drops["address"] == 1
            assert (await read).answered == 0
            return
        package = PackageNode()
        asked = asyncio.ensure_future(package.protocol.call_find_node(Node(PEER_ID, *PEER), Node(b"k" * 20)))
        await asyncio.sleep(0.001)
        message_id = package.wire.sent[0][0][1:21]
        forged = b"\x01" + message_id + umsgpack.packb([[b"q" * 20, "127.0.0.66", 1]])
        package.protocol.datagram_received(forged, elsewhere)
        happened, told = await asked
        assert happened
        assert told == [[b"q" * 20, "127.0.0.66", 1]]

    run_virtual(run)


@both
async def test_host_names_in_a_reply_are_resolved_inside_sendto(
    ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A contact may be any text, and the socket's `sendto` resolves it, on the event loop, while everything
    waits.
    """
    name = "name.invalid"
    named: list[Any] = []

    def resolve(address: Any, *_: Any) -> None:
        named.append(address)

    loop = asyncio.get_running_loop()
    told = [[b"q" * 20, name, 4001]]
    liar, _ = await loop.create_datagram_endpoint(lambda: _Liar(told), local_addr=("127.0.0.1", 0))
    where = liar.get_extra_info("sockname")
    try:
        if ours:
            async with await DhtNode.start(identity(1), "127.0.0.1", 0, server=False) as node:
                node.protocol.router.add_verified(Contact(LIAR.node_id, *where))
                transport = node.protocol.transports[socket.AF_INET]
                watch(monkeypatch, transport, resolve)
                assert (await node.get_head(ROOT.public_key)).best is None
            assert {address[0] for address in named} == {"127.0.0.1"}
            return
        server: Any = Server()
        await server.listen(0, "127.0.0.1")
        server.protocol._wait_timeout = 0.2
        server.protocol.router.add_contact(Node(PEER_ID, *where))
        watch(monkeypatch, server.transport, resolve)
        await server.get("key")
        server.stop()
        assert name in {address[0] for address in named}
    finally:
        liar.close()


def watch(monkeypatch: pytest.MonkeyPatch, transport: Any, note: Any) -> None:
    """Note the addresses that a transport hands to the operating system's `sendto`, which resolves names."""
    real = transport._sock

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def sendto(self, data: bytes, address: Any) -> int:
            note(address)
            return len(data) if address[0] != "127.0.0.1" else int(real.sendto(data, address))

    monkeypatch.setattr(transport, "_sock", Watched())

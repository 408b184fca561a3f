"""The kademlia package's own classes and ours side by side, each on a transport without a socket.

For the tests `test_package_defects_*`: each is named after a defect of the package (kademlia 2.2.3, rpcudp
5.0.1) and runs twice, on the package, where it shows the defect, and on ours, where it shows what happens
instead.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Any, Final

import pytest
import umsgpack
from kademlia.network import Server
from kademlia.node import Node
from kademlia.protocol import KademliaProtocol

from p2psync_dht import DhtNode, Head, Identity
from p2psync_dht.contact import Address, Contact
from p2psync_dht.keys import DOMAIN_CONTACT
from p2psync_dht.testing.virtual import EPOCH
from p2psync_dht.wire import DEFAULT_NETWORK, REPLY_BIT, Kind, Message, decode, encode

from .conftest import identity

both = pytest.mark.parametrize("ours", [False, True], ids=["package", "ours"])

OWN: Final = bytes(20)
PEER: Final[Address] = ("127.0.0.9", 4000)
PEER_ID: Final = b"p" * 20
LIAR: Final = identity(66)
ROOT: Final = identity(200)
NOW: Final = int(EPOCH)
SEEN: Final = bytes([127, 0, 0, 1, 1, 1])  # our address, as packed in every answer
SILENCE: Final = object()

PackageAnswer = Callable[[str, list[Any], Address], Any]
OurAnswer = Callable[[Message, Address], list[Any] | None]


def head(seq: int = 1) -> Head:
    """A head of `ROOT` on the virtual clock."""
    return Head.sign(ROOT, ROOT.public_key, epoch=0, seq=seq, payload=b"", signed_at=NOW, fresh_until=NOW)


class Wire(asyncio.DatagramTransport):
    """Keeps what is sent, and hands back what `answer` makes of it."""

    def __init__(self, answer: Callable[[bytes, Address], bytes | None]) -> None:
        super().__init__({"sockname": ("127.0.0.1", 8730)})
        self.sent: list[tuple[bytes, Address]] = []
        self.protocol: Any = None
        self._answer = answer

    def sendto(self, data: Any, addr: Any = None) -> None:
        self.sent.append((bytes(data), addr))
        reply = self._answer(bytes(data), addr)
        if reply is not None:
            asyncio.get_running_loop().call_later(0.01, self.protocol.datagram_received, reply, addr)

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass


class PackageNode:
    """The package's server and protocol, with the contacts given. `answer` returns `SILENCE` or a result."""

    def __init__(
        self, answer: PackageAnswer = lambda *_: SILENCE, contacts: Iterable[tuple[bytes, Address]] = ()
    ) -> None:
        self.server: Any = Server(node_id=OWN)
        self.protocol: Any = self.server._create_protocol()
        self.server.protocol = self.protocol
        assert type(self.protocol) is KademliaProtocol
        self.wire = Wire(lambda datagram, address: self._reply(answer, datagram, address))
        self.wire.protocol = self.protocol
        self.protocol.connection_made(self.wire)
        for node_id, address in contacts:
            self.protocol.router.add_contact(Node(node_id, *address))

    @staticmethod
    def _reply(answer: PackageAnswer, datagram: bytes, address: Address) -> bytes | None:
        if datagram[:1] != b"\0":
            return None
        name, arguments = umsgpack.unpackb(datagram[21:])
        result = answer(name, arguments, address)
        return None if result is SILENCE else b"\x01" + datagram[1:21] + umsgpack.packb(result)

    def calls(self) -> list[tuple[str, list[Any], Address]]:
        """The requests that were sent: name, arguments, to whom."""
        return [
            (*umsgpack.unpackb(datagram[21:]), address)
            for datagram, address in self.wire.sent
            if datagram[:1] == b"\0"
        ]

    async def receive(self, name: str, *arguments: Any, sender: Address = PEER) -> bytes:
        """One request from outside; the reply datagram."""
        before = len(self.wire.sent)
        self.protocol.datagram_received(package_request(name, *arguments), sender)
        await asyncio.sleep(0.001)
        return next(raw for raw, _ in self.wire.sent[before:] if raw[:1] == b"\x01")


def package_request(name: str, *arguments: Any) -> bytes:
    return b"\0" + b"m" * 20 + bytes(umsgpack.packb([name, arguments]))


class OurNode:
    """Our node with the contacts given, proved. `answer` returns None or the body of the reply."""

    def __init__(
        self,
        answer: OurAnswer = lambda *_: None,
        contacts: Iterable[tuple[Identity, Address]] = ((LIAR, PEER),),
        *,
        server: bool = False,
    ) -> None:
        self.node = DhtNode(
            identity(1), server=server, clock=lambda: EPOCH, rng=random.Random(1), network_id=DEFAULT_NETWORK
        )
        self.protocol = self.node.protocol
        self.wire = Wire(lambda datagram, address: self._reply(answer, datagram, address))
        self.wire.protocol = self.protocol
        self.node.attach(self.wire)
        self._identities = {address: who for who, address in contacts}
        for address, who in self._identities.items():
            assert self.protocol.router.add_verified(Contact(who.node_id, *address))

    def _reply(self, answer: OurAnswer, datagram: bytes, address: Address) -> bytes | None:
        if datagram[5] & REPLY_BIT:
            return None
        query = decode(datagram, DEFAULT_NETWORK)
        body = answer(query, address)
        who = self._identities.get(address, LIAR)
        if body is None:
            return None
        return encode(DEFAULT_NETWORK, query.kind, query.transaction, who.node_id, body, is_reply=True)

    def calls(self) -> list[tuple[Message, Address]]:
        """The queries that were sent, and to whom."""
        messages = [(decode(raw, DEFAULT_NETWORK), address) for raw, address in self.wire.sent]
        return [one for one in messages if not one[0].is_reply]

    def receive(
        self, kind: Kind, body: list[Any], *, sender: Address = PEER, node_id: bytes = PEER_ID, pad: int = 0
    ) -> bytes | None:
        """One request from outside; the reply datagram, if there is one."""
        before = len(self.wire.sent)
        request = encode(DEFAULT_NETWORK, kind, b"12345678", node_id, body, pad_to=pad)
        self.protocol.datagram_received(request, sender)
        return next((raw for raw, _ in self.wire.sent[before:] if raw[5] & REPLY_BIT), None)

    def token(self, address: Address = PEER) -> bytes:
        """A write token as that address would have been given."""
        return self.protocol.tokens.make(address, self.protocol.now())


def answer_of(
    query: Message, who: Identity = LIAR, *, contacts: Any = b"", value: list[Any] | None = None
) -> list[Any]:
    """The body of a true answer to a FIND, but for what is given."""
    proof = who.public_key + who.sign(
        DEFAULT_NETWORK + (query.body[2] or b"") + query.sender, domain=DOMAIN_CONTACT
    )
    return [SEEN, b"t" * 8, contacts, value, proof]

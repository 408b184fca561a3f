"""Contacts: a node id at a UDP address, their compact form, and which addresses may be contacted at all.

The compact form is BEP 5's and BEP 32's: 20 bytes of id, 4 or 16 of address, 2 of port. Whether a contact
told the truth about its id is `protocol`'s business, whether it has a place in a table `routing`'s.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Final

from kademlia.node import Node

from p2psync_dht.keys import ID_SIZE
from p2psync_dht.scope import Scope, may_tell, pack_ip, scope_of

Address = tuple[str, int]  # IP address as text, port

PORT_SIZE: Final = 2
COMPACT_SIZE: Final = {socket.AF_INET: ID_SIZE + 4 + PORT_SIZE, socket.AF_INET6: ID_SIZE + 16 + PORT_SIZE}
MAX_TOLD: Final = 24  # contacts believed of one answer: k, and a little
_FAMILY_OF_SIZE: Final = {4: socket.AF_INET, 16: socket.AF_INET6}


def pack_address(address: Address) -> bytes:
    """Address and big-endian port, 6 or 18 bytes; ValueError if it is no UDP address."""
    ip, port = address
    if not 0 < port < 65536:
        raise ValueError(f"not a port: {port}")
    return pack_ip(ip) + port.to_bytes(PORT_SIZE, "big")


def unpack_address(packed: bytes) -> Address:
    """The inverse of `pack_address`; ValueError for lengths other than 6 and 18 and for port 0."""
    family = _FAMILY_OF_SIZE.get(len(packed) - PORT_SIZE)
    port = int.from_bytes(packed[-PORT_SIZE:], "big")
    if family is None or port == 0:
        raise ValueError("not a packed address")
    return socket.inet_ntop(family, packed[:-PORT_SIZE]), port


class Contact(Node):  # type: ignore[misc]  # kademlia has no type hints, so its classes are Any
    """A node id (20 bytes) at an address. `failures` counts time-outs in a row."""

    # The base class has no slots; declaring its attributes here keeps the instance dictionary from ever
    # existing.
    __slots__ = ("failures", "id", "ip", "port", "seen")

    id: bytes
    ip: str
    port: int

    def __init__(self, node_id: bytes, ip: str, port: int) -> None:
        if len(node_id) != ID_SIZE:
            raise ValueError("a node id is 20 bytes")
        self.id = node_id
        self.ip = ip
        self.port = port
        self.failures = 0
        self.seen = 0.0

    @property
    def long_id(self) -> int:
        """The id as a number. Not kept: a table of 150 contacts would be 8 KB larger."""
        return int.from_bytes(self.id, "big")

    @property
    def address(self) -> Address:
        return self.ip, self.port

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.ip else socket.AF_INET

    def pack(self) -> bytes:
        """The compact form, 26 or 38 bytes."""
        return self.id + pack_address((self.ip, self.port))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Contact):
            return NotImplemented
        return self.id == other.id and self.ip == other.ip and self.port == other.port

    def __hash__(self) -> int:
        return hash((self.id, self.ip, self.port))

    def __repr__(self) -> str:
        return f"Contact({self.id.hex()[:12]} at {self.ip} port {self.port})"


def unpack_contact(compact: bytes, sender: Scope = Scope.LOOPBACK) -> Contact | None:
    """The contact of 26 or 38 bytes, or None if nobody should contact it.

    `sender` is the scope of whoever told of it: a host far away cannot make this one talk to its own
    networks.
    """
    packed = compact[ID_SIZE:-PORT_SIZE]
    port = int.from_bytes(compact[-PORT_SIZE:], "big")
    if port == 0 or not may_tell(sender, scope_of(packed)):
        return None
    return Contact(compact[:ID_SIZE], socket.inet_ntop(_FAMILY_OF_SIZE[len(packed)], packed), port)


def contacts_told(blob: bytes, teller: Contact) -> Iterator[Contact | None]:
    """The contacts in a node's answer, `MAX_TOLD` at most; None for each that nobody should contact. A rest
    that is too short for one is left out.
    """
    size, scope = COMPACT_SIZE[teller.family], scope_of(pack_ip(teller.ip))
    for end in range(size, min(len(blob), MAX_TOLD * size) + 1, size):
        yield unpack_contact(blob[end - size : end], scope)

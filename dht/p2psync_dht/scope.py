"""IP addresses as bytes: how far one reaches, and which ones somebody may say are its own."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

_MAPPED: Final = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96
_NAT64: Final = bytes.fromhex("0064ff9b") + bytes(
    8
)  # 64:ff9b::/96, RFC 6052: leads to the IPv4 address at its end
_EXAMPLES4: Final = (bytes((192, 0, 2)), bytes((198, 51, 100)), bytes((203, 0, 113)))
_EXAMPLE6: Final = bytes.fromhex("20010db8")
_6TO4: Final = b"\x20\x02"  # 2002::/16, RFC 3056: leads to the IPv4 address behind it


class Scope(IntEnum):
    """How far an address reaches. A node that tells of addresses nearer than its own is not believed."""

    UNUSABLE = 0
    LOOPBACK = 1
    PRIVATE = 2
    GLOBAL = 3


def scope_of(packed: bytes) -> Scope:
    """The scope of a packed address (4 or 16 bytes). Works on bytes: `ipaddress` takes ten times as long."""
    if len(packed) == 4:
        return _scope4(packed)
    if len(packed) != 16:
        return Scope.UNUSABLE
    first = packed[0]
    if not any(packed[:12]):  # With the obsolete addresses that have an IPv4 address behind zeros (RFC 4291).
        return Scope.LOOPBACK if packed[12:] == b"\0\0\0\1" else Scope.UNUSABLE
    # Multicast, link-local (means nothing without an interface) and IPv4 in disguise are no contacts.
    if first == 0xFF or (first == 0xFE and packed[1] & 0xC0 == 0x80) or packed[:12] == _MAPPED:
        return Scope.UNUSABLE
    if packed[:2] == _6TO4 or packed[:12] == _NAT64:
        inner = packed[2:6] if packed[:2] == _6TO4 else packed[12:]
        return Scope.GLOBAL if _scope4(inner) == Scope.GLOBAL else Scope.UNUSABLE
    # Unique local addresses (RFC 4193), and the site-local ones before them (RFC 3879).
    private = first & 0xFE == 0xFC or (first == 0xFE and packed[1] & 0xC0 == 0xC0)
    return Scope.PRIVATE if private else Scope.GLOBAL


def _scope4(packed: bytes) -> Scope:
    first, second = packed[0], packed[1]
    if first == 127:
        return Scope.LOOPBACK
    # "This host", link-local (where clouds have their keys), multicast, reserved, broadcast.
    if first == 0 or first >= 224 or (first == 169 and second == 254):
        return Scope.UNUSABLE
    private = (
        first == 10
        or (first == 172 and second & 0xF0 == 16)
        or (first == 192 and second == 168)
        or (first == 100 and second & 0xC0 == 64)  # RFC 6598, carrier-grade NAT
    )
    return Scope.PRIVATE if private else Scope.GLOBAL


def may_tell(teller: Scope, told: Scope) -> bool:
    """Whether an address is looked at that somebody else told of. A host far away cannot make this one talk
    to its own networks.
    """
    return told != Scope.UNUSABLE and told >= teller


def is_example(packed: bytes) -> bool:
    """Whether an address stands in documents only (RFC 5737, RFC 3849, RFC 9637): outside of laboratories,
    nobody is there.
    """
    if len(packed) == 4:
        return packed[:3] in _EXAMPLES4
    return packed[:4] == _EXAMPLE6 or (packed[:2] == b"\x3f\xff" and packed[2] < 0x10)


def may_name(teller_ip: str, ip: str) -> bool:
    """Whether an address is looked at that somebody at another one names: see `may_tell`. Those of examples
    are named from no public address but such a one.
    """
    teller, told = pack_ip(teller_ip), pack_ip(ip)
    here, there = scope_of(teller), scope_of(told)
    if is_example(told) and here == Scope.GLOBAL and not is_example(teller):
        return False
    return may_tell(here, there)


def pack_ip(ip: str) -> bytes:
    """4 or 16 bytes; ValueError if `ip` is not a numeric address."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"not an IP address: {ip!r}") from error


def may_claim(ips: Iterable[str], sender_ip: str) -> bool:
    """Whether somebody who sends from an address may say that it is reached at these (numeric; "" is none):
    at the one that it sends from, and at one of the other family, which cannot be seen here, of the same
    scope.

    So nobody names an address inside of a network that it is not in itself, and no more of others' addresses
    than a URL could.
    """
    named = {ip for ip in ips if ip}
    others = named - {sender_ip}
    if not others:
        return True
    other, here = next(iter(others)), pack_ip(sender_ip)
    return (
        len(named) == 2
        and len(others) == 1
        and (len(pack_ip(other)) != len(here) and scope_of(pack_ip(other)) == scope_of(here))
    )

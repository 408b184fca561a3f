"""IP addresses as bytes: how far one reaches, and which ones somebody may say are its own."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

_MAPPED: Final = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96


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
    if not any(packed[:15]):
        return Scope.LOOPBACK if packed[15] == 1 else Scope.UNUSABLE
    # Multicast, link-local (means nothing without an interface) and IPv4 in disguise are no contacts.
    if first == 0xFF or (first == 0xFE and packed[1] & 0xC0 == 0x80) or packed[:12] == _MAPPED:
        return Scope.UNUSABLE
    return Scope.PRIVATE if first & 0xFE == 0xFC else Scope.GLOBAL


def _scope4(packed: bytes) -> Scope:
    first, second = packed[0], packed[1]
    if first == 127:
        return Scope.LOOPBACK
    if first == 0 or first >= 224:
        return Scope.UNUSABLE
    private = (
        first == 10
        or (first == 172 and second & 0xF0 == 16)
        or (first == 192 and second == 168)
        or (first == 169 and second == 254)
        or (first == 100 and second & 0xC0 == 64)  # RFC 6598, carrier-grade NAT
    )
    return Scope.PRIVATE if private else Scope.GLOBAL


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

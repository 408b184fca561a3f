"""Which address of this machine others see."""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache
from typing import Final

from p2psync.format.url import host_port
from p2psync.network.egress import egress
from p2psync.network.resolve import resolve
from p2psync.network.server import Server
from p2psync_dht.sockets import ANY_IPV4, EVERYWHERE, family_of, own_address

__all__ = ["client_of", "family_of", "local_address", "network_of", "plain_ip", "reached_at"]

CACHED: Final = 4096
"""Clients of which it is kept in which network they are."""


async def local_address(peer: str) -> str | None:
    """Our IP address on the way to ``peer`` (HOST:PORT, or the URL of a node), or None if there is no way,
    or a proxy on it. A name is looked up off the event loop. Raises UsageError: ``peer`` is no address.
    """
    server = Server.node(peer)
    if egress().proxy_for(server) is not None:
        return None
    try:
        found = await resolve(server.host, server.port)
    except (OSError, UnicodeError):
        return None
    ways = (own_address(family, ip) for family, ip in found)
    return next((way for way in ways if way is not None), None)


def reached_at(host: str, port: int) -> list[str]:
    """HOST:PORT by which a node is reached that listens at ``host`` (an IP address): where that is
    everywhere, this machine's addresses as others see them, of each family at most one, IPv4's first; its
    loopback addresses, where it has no others.
    """
    if host not in (EVERYWHERE, ANY_IPV4):
        return [host_port(host, port)]
    families = [socket.AF_INET] if host == ANY_IPV4 else [socket.AF_INET, socket.AF_INET6]
    own = [own_address(family) for family in families]
    found = [ip for ip in own if ip is not None and not ip.startswith("fe80:")]
    return [host_port(ip, port) for ip in found or ["127.0.0.1"]]


def plain_ip(text: str) -> str:
    """One spelling for an address: IPv4 that came through an IPv6 socket is IPv4; scope ids are left out."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


@lru_cache(CACHED)
def network_of(client: str) -> str:
    """The network that a client (``client_of``) is in, as addresses are given to customers and sites: a /24
    of IPv4, a /48 of IPv6 (RFC 6177); of what is no address, itself.
    """
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    return str(ipaddress.ip_network((client, 24 if address.version == 4 else 48), strict=False))


def client_of(ip: str) -> str:
    """Whose an address is, where addresses are counted: an IPv6 client has all of a /64 (RFC 6177), IPv4
    addresses stand for themselves.
    """
    address = ipaddress.ip_address(plain_ip(ip))
    if isinstance(address, ipaddress.IPv4Address) or address.is_loopback:
        return str(address)
    return str(ipaddress.IPv6Network((address, 64), strict=False).network_address)

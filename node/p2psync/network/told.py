"""Which addresses that others name are looked at: a stranger must not make this machine knock at its own
doors, or at those of its network.

How far an address reaches is the DHT's to say (``p2psync_dht.scope``); what is done at one that may be looked
at is decided by those who ask.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from p2psync.errors import UsageError
from p2psync.network.here import family_of, plain_ip
from p2psync.network.resolve import resolve
from p2psync.network.server import Server
from p2psync_dht.scope import Scope, may_name, pack_ip, scope_of
from p2psync_dht.sockets import own_address

_SITES: Final = tuple(
    ipaddress.ip_network(block)
    for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
)
"""Private IPv4 networks (RFC 1918, RFC 6598): the same addresses stand for other machines at the next site.
"""
SITE_BITS: Final = 48
"""Of a unique local IPv6 address, those that name the site (RFC 4193)."""


SOMEWHERE: Final = "192.0.2.1"
"""An address that nobody has (RFC 5737), as far away as any: for a teller of whom none is known."""


async def teller_at(name: str) -> str:
    """The IP address of who tells something at ``name`` (HOST:PORT or a URL), looked up off the event
    loop.
    """
    try:
        server = Server.node(name)
        found = await resolve(server.host, server.port)
    except (OSError, UnicodeError, UsageError):
        return SOMEWHERE
    return plain_ip(found[0][1]) if found else SOMEWHERE


def may_look_at(ip: str, teller: str | None) -> bool:
    """Whether a numeric address is looked at that the one at the numeric address ``teller`` named; None: that
    is what this machine knows from before, or was checked by who was told.

    Private addresses must be of the teller's site, or of one that this machine is in: what is private to
    somebody else is here perhaps another machine.
    """
    told = scope_of(pack_ip(ip))
    if told == Scope.UNUSABLE or not (teller is None or may_name(teller, ip)):
        return False
    if told != Scope.PRIVATE:
        return True
    ours = own_address(family_of(ip), ip)
    return any(other is not None and _site(other) == _site(ip) for other in (teller, ours))


def _site(ip: str) -> object:
    """Something that is equal for private addresses of one site; None for others."""
    address = ipaddress.ip_address(plain_ip(ip))
    if scope_of(address.packed) != Scope.PRIVATE:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return ipaddress.IPv6Network((address, SITE_BITS), strict=False)
    return next((block for block in _SITES if address in block), None)

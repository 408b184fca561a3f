"""Names of machines, looked up where they are this machine's to look up: what is dialled by a proxy, the
proxy looks up, and nobody else is told of it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket

from p2psync.network.egress import egress
from p2psync.network.server import Server


async def resolve(
    host: str, port: int, *, family: socket.AddressFamily = socket.AF_UNSPEC
) -> list[tuple[socket.AddressFamily, str]]:
    """The IP addresses of ``host``, each with its family, in the resolver's order, off the event loop.

    Raises OSError: it has none, or is a name, and servers there are dialled by a proxy; UnicodeError.
    """
    if not is_numeric(host) and egress().proxy_for(Server(host, port, False, host)) is not None:
        raise OSError("its name is left to the proxy")
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host.encode(), port, family=family, type=socket.SOCK_STREAM)
    return [(each[0], str(each[4][0])) for each in found]


def is_numeric(host: str) -> bool:
    """Whether a host is written as an IP address."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True

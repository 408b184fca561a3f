"""Which address of this machine others see."""

from __future__ import annotations

import asyncio
import socket

from p2psync.format.url import host_and_port


async def local_address(peer: str) -> str | None:
    """Our IP address on the way to ``peer`` (HOST:PORT), or None if there is no way. A name is looked up off
    the event loop. Raises UsageError: ``peer`` is no address.

    Connecting a datagram socket sends nothing; it makes the kernel choose the address (ip(7)).
    """
    host, port = host_and_port(peer)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        family, _, _, _, address = found[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError:
        return None


def family_of(ip: str) -> socket.AddressFamily:
    """The address family of an IP address."""
    return socket.AF_INET6 if ":" in ip else socket.AF_INET

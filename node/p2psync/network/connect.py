"""A connection to a server on the event loop, directly or by a proxy: name, address and TCP, within a time.
(``dial`` does the same in a thread, with TLS, which here is the transport's.)
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import partial
from typing import Protocol

from p2psync.network.dial import Handle, to_proxy
from p2psync.network.dialled import (
    Dialled,
    cannot_connect,
    connect_timeout,
    may_tunnel,
    note_refusal,
    set_up,
    tls_failed,
)
from p2psync.network.egress import Egress
from p2psync.network.proxy import Kind, Proxy
from p2psync.network.server import ADDRESSES_MAX, Server
from p2psync.network.tunnel import ProxyRefused, pass_through_async
from p2psync.state.off_loop import off_loop


class MakeSocket(Protocol):
    """Makes a socket that does not block, as `socket.socket` does; or from a descriptor."""

    def __call__(self, family: int, kind: int, protocol: int, fileno: int | None = None) -> socket.socket: ...


async def connect(
    server: Server, make: MakeSocket, way: Egress, *, seconds: float, limited: bool = False
) -> Dialled:
    """A connection to ``server``, without the TLS that it may have. ``seconds``: for all of it.
    ``limited``: as for `dial`.

    Raises:
        ConnectTimeout: nobody accepted in time.
        NetworkError: as the message says, which names the server, and the proxy if there is one.
    """
    proxy = way.proxy_for(server)
    try:
        async with asyncio.timeout(seconds):
            if proxy is None:
                return Dialled(await _connect(server.host, server.port, make, seconds, limited))
            return await _by_proxy(server, proxy, make, way, seconds, limited)
    except TimeoutError:
        raise connect_timeout(server, proxy, seconds) from None
    except ssl.SSLError as error:
        raise tls_failed(server, error) from None
    except (OSError, UnicodeError) as error:
        raise cannot_connect(server, proxy, error) from None


async def _by_proxy(
    server: Server, proxy: Proxy, make: MakeSocket, way: Egress, seconds: float, limited: bool
) -> Dialled:
    made = await _to_proxy(proxy, make, way, seconds, limited)
    try:
        if may_tunnel(server, way):
            try:
                await pass_through_async(made, proxy, server)
                return Dialled(made)
            except ProxyRefused as refused:
                if not note_refusal(server, proxy, way, refused):
                    raise
            made.close()
            made = await _to_proxy(proxy, make, way, seconds, limited)
        return Dialled(made, proxy)
    except BaseException:
        made.close()
        raise


async def _to_proxy(
    proxy: Proxy, make: MakeSocket, way: Egress, seconds: float, limited: bool
) -> socket.socket:
    if proxy.kind is not Kind.HTTPS:
        return await _connect(proxy.host, proxy.port, make, seconds, limited)
    handle = Handle()
    plain = await off_loop(
        partial(to_proxy, proxy, way, handle, seconds, limited),
        stop=handle.interrupt,
        lost=lambda made: made.close(),
    )
    made = make(plain.family, plain.type, plain.proto, plain.detach())
    made.setblocking(False)
    return made


async def _connect(host: str, port: int, make: MakeSocket, seconds: float, limited: bool) -> socket.socket:
    """Try the addresses of the name in the resolver's order, each with its share of the time."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM)
    addresses = found[:ADDRESSES_MAX]
    last: OSError = OSError("the name has no address")
    for family, kind, protocol, _, address in addresses:
        try:
            made = make(family, kind, protocol)
        except OSError as error:  # A kernel without IPv6, and a name that has it.
            last = error
            continue
        try:
            made.setblocking(False)
            set_up(made, limited=limited)
            try:
                async with asyncio.timeout(seconds / len(addresses)):
                    await loop.sock_connect(made, address)
            except TimeoutError as error:
                if len(addresses) == 1:
                    raise
                last = OSError(str(error) or "timed out")
                made.close()
                continue
            return made
        except OSError as error:
            last = error
            made.close()
        except BaseException:
            made.close()
            raise
    raise last

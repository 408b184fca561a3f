"""What comes of dialling, whichever way it is done: a connection, or an error in words; and which way a
proxy is used.
"""

from __future__ import annotations

import socket
import ssl
from typing import NamedTuple

from p2psync.errors import ConnectTimeout, NetworkError
from p2psync.network.egress import Egress
from p2psync.network.proxy import Proxy
from p2psync.network.server import RECEIVE_BUFFER, Server, large_buffers, why
from p2psync.network.tunnel import NO_TUNNELS, ProxyRefused


class Dialled(NamedTuple):
    """A connection. ``forward``: the proxy at its other end, which takes requests to hand them on; None: it
    is the server's.
    """

    sock: socket.socket
    forward: Proxy | None = None


def set_up(made: socket.socket, *, limited: bool) -> None:
    """Set a TCP socket's options. ``limited``: there is a bandwidth limit, which large buffers would run
    ahead of.
    """
    if not limited and large_buffers():
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def may_tunnel(server: Server, way: Egress) -> bool:
    """Whether a tunnel to a server is worth asking for. With TLS there is no other way."""
    return server.tls or server.port not in way.forwarded


def note_refusal(server: Server, proxy: Proxy, way: Egress, refused: ProxyRefused) -> bool:
    """Whether requests to a server can be handed to a proxy that makes no tunnel to it; if so, those to other
    servers at this port will be.
    """
    if server.tls or not proxy.speaks_http or refused.status not in NO_TUNNELS:
        return False
    way.forwarded.add(server.port)
    return True


def connect_timeout(server: Server, proxy: Proxy | None, timeout: float) -> ConnectTimeout:
    by = "" if proxy is None else f" by the proxy {proxy}"
    return ConnectTimeout(f"{server.name}: no connection{by} within {timeout:.0f} s")


def tls_failed(server: Server, error: ssl.SSLError) -> NetworkError:
    reason = getattr(error, "verify_message", "") or error.reason or str(error)
    return NetworkError(f"{server.name}: TLS failed: {reason}")


def cannot_connect(server: Server, proxy: Proxy | None, error: Exception) -> NetworkError:
    if proxy is None:
        return NetworkError(f"{server.name}: cannot connect: {why(error)}")
    return NetworkError(f"{server.name}: the proxy {proxy} cannot be used: {why(error)}")

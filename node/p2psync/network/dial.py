"""A blocking connection to a server, directly or by a proxy: name, address, TCP and TLS, within a time, and
given up at once when another thread says so. (``connect`` does the same on the event loop.)
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import threading
import time
from typing import Any, Final

from p2psync.errors import P2psyncError
from p2psync.network.dialled import (
    Dialled,
    cannot_connect,
    connect_timeout,
    may_tunnel,
    note_refusal,
    set_up,
    tls_failed,
)
from p2psync.network.egress import Egress, egress
from p2psync.network.proxy import Kind, Proxy
from p2psync.network.server import ADDRESSES_MAX, Server
from p2psync.network.splice import spliced
from p2psync.network.tunnel import ProxyRefused, pass_through

TICK: Final = 0.25
"""Seconds between looks at the clock, and at whether anybody still wants it, while a thread waits for a
server.
"""


class Handle:
    """A socket that another thread may shut down, whatever this one is doing with it.

    Closing a descriptor while another thread uses it would let the kernel hand its number to somebody else;
    so shutting down and closing exclude each other.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self.interrupted = False

    def hold(self, made: socket.socket) -> None:
        """From now on ``interrupt`` and ``close`` mean this socket."""
        with self._lock:
            self._socket = made

    def interrupt(self) -> None:
        """Let whoever waits for the socket wake up; it can be read and written no more."""
        with self._lock:
            self.interrupted = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    # The plain one: TLS would want to say farewell first.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None


def dial(
    server: Server,
    handle: Handle,
    *,
    timeout: float,
    limited: bool = False,
    ssl_context: ssl.SSLContext | None = None,
    way: Egress | None = None,
) -> Dialled:
    """A connection, held by ``handle``; with TLS and the certificate checked if the server has it.

    Args:
        timeout: seconds for all of it; looking up a name alone is bounded by the resolver.
        limited: there is a bandwidth limit, which large buffers would run ahead of.
        ssl_context: in place of the default one, which verifies certificates and names.
        way: in place of `egress`.

    Raises:
        ConnectTimeout: nobody accepted in time.
        NetworkError: as the message says, which names the server, and the proxy if there is one.
    """
    deadline = time.monotonic() + timeout
    way = way or egress()
    proxy = way.proxy_for(server)
    made: socket.socket
    forward: Proxy | None = None
    try:
        if proxy is None:
            made = _connect(server.host, server.port, handle, deadline, limited)
        else:
            made, forward = _by_proxy(server, proxy, way, handle, deadline, limited)
        if server.tls:
            made = _with_tls(made, ssl_context or way.context, server.host, handle, deadline)
        return Dialled(made, forward)
    except TimeoutError:
        handle.close()
        raise connect_timeout(server, proxy, timeout) from None
    except ssl.SSLError as error:
        handle.close()
        raise tls_failed(server, error) from None
    except (OSError, UnicodeError) as error:
        handle.close()
        raise cannot_connect(server, proxy, error) from None
    except P2psyncError:
        handle.close()
        raise


def _by_proxy(
    server: Server, proxy: Proxy, way: Egress, handle: Handle, deadline: float, limited: bool
) -> tuple[socket.socket, Proxy | None]:
    """A connection to a server by a proxy or, where that makes no tunnel there, to the proxy."""
    made = to_proxy(proxy, way, handle, deadline - time.monotonic(), limited)
    if may_tunnel(server, way):
        try:
            pass_through(made, proxy, server, deadline)
            made.settimeout(None)
            return made, None
        except ProxyRefused as refused:
            if not note_refusal(server, proxy, way, refused):
                raise
        handle.close()
        made = to_proxy(proxy, way, handle, deadline - time.monotonic(), limited)
    made.settimeout(None)
    return made, proxy


def to_proxy(proxy: Proxy, way: Egress, handle: Handle, timeout: float, limited: bool) -> socket.socket:
    """A blocking connection to a proxy, with the TLS that it may have; a plain socket in any case. Raises
    OSError; TimeoutError.
    """
    deadline = time.monotonic() + timeout
    made = _connect(proxy.host, proxy.port, handle, deadline, limited)
    if proxy.kind is not Kind.HTTPS:
        return made
    plain = spliced(_with_tls(made, way.context, proxy.host, handle, deadline))
    handle.hold(plain)
    return plain


def _with_tls(
    connected: socket.socket, context: ssl.SSLContext, host: str, handle: Handle, deadline: float
) -> ssl.SSLSocket:
    connected.settimeout(max(deadline - time.monotonic(), 0.001))
    made = context.wrap_socket(connected, server_hostname=host, do_handshake_on_connect=False)
    handle.hold(made)
    if handle.interrupted:
        raise ConnectionAbortedError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))
    made.do_handshake()
    return made


def _connect(host: str, port: int, handle: Handle, deadline: float, limited: bool) -> socket.socket:
    """Try the addresses of the name in the resolver's order, each with its share of the time."""
    addresses = _resolve(host, port)[:ADDRESSES_MAX]
    last: OSError = OSError("the name has no address")
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        try:
            made = socket.socket(family, kind, protocol)
        except OSError as error:  # A kernel without IPv6, and a name that has it.
            last = error
            continue
        handle.hold(made)
        try:
            set_up(made, limited=limited)
            share = (deadline - time.monotonic()) / (len(addresses) - index)
            _connect_one(made, address, time.monotonic() + share, handle)
            return made
        except OSError as error:
            made.close()
            last = error
            if handle.interrupted:
                break
    raise last


def _resolve(host: str, port: int) -> list[Any]:
    """The addresses of ``host``; one that is written as an address asks nobody."""
    with contextlib.suppress(OSError):
        return socket.getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return socket.getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM)


def _connect_one(made: socket.socket, address: Any, deadline: float, handle: Handle) -> None:
    made.setblocking(False)
    failure = made.connect_ex(address)
    if failure == errno.EINPROGRESS:
        waiting = select.poll()
        waiting.register(made, select.POLLOUT)
        while not waiting.poll(1000 * max(min(TICK, deadline - time.monotonic()), 0.001)):
            if handle.interrupted:
                break
            if time.monotonic() >= deadline:
                raise TimeoutError("timed out")
        failure = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if handle.interrupted:
        failure = errno.ECONNABORTED
    if failure:
        raise OSError(failure, os.strerror(failure))
    made.setblocking(True)

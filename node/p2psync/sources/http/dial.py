"""A blocking connection to a server: name, address, TCP and TLS, within a time, and given up at once when
another thread says so.
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

from p2psync.errors import ConnectTimeout, NetworkError
from p2psync.sources.http.rate import RateLimiter
from p2psync.sources.http.server import ADDRESSES_MAX, RECEIVE_BUFFER, Server, large_buffers, why

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
    limiter: RateLimiter | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> socket.socket:
    """A connected socket, held by ``handle``; with TLS and the certificate checked if the server has it.

    Args:
        timeout: seconds for all of it; looking up the name alone is bounded by the resolver.
        ssl_context: in place of the default one, which verifies certificates and names.

    Raises:
        ConnectTimeout: nobody accepted in time.
        NetworkError: as the message says, which names the server.
    """
    deadline = time.monotonic() + timeout
    try:
        connected = _connect(server, handle, deadline, limiter)
        if not server.tls:
            return connected
        connected.settimeout(max(deadline - time.monotonic(), 0.001))
        context = ssl_context or ssl.create_default_context()
        made = context.wrap_socket(connected, server_hostname=server.host, do_handshake_on_connect=False)
        handle.hold(made)
        if handle.interrupted:
            raise ConnectionAbortedError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))
        made.do_handshake()
        return made
    except TimeoutError:
        handle.close()
        raise ConnectTimeout(f"{server.name}: no connection within {timeout:.0f} s") from None
    except ssl.SSLError as error:
        handle.close()
        reason = getattr(error, "verify_message", "") or error.reason or str(error)
        raise NetworkError(f"{server.name}: TLS failed: {reason}") from None
    except (OSError, UnicodeError) as error:
        handle.close()
        raise NetworkError(f"{server.name}: cannot connect: {why(error)}") from None


def _connect(server: Server, handle: Handle, deadline: float, limiter: RateLimiter | None) -> socket.socket:
    """Try the addresses of the name in the resolver's order, each with its share of the time."""
    addresses = _resolve(server.host, server.port)[:ADDRESSES_MAX]
    last: OSError = OSError("the name has no address")
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        try:
            made = socket.socket(family, kind, protocol)
        except OSError as error:  # A kernel without IPv6, and a name that has it.
            last = error
            continue
        handle.hold(made)
        try:
            if (limiter is None or limiter.rate is None) and large_buffers():
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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

"""The connections to one server: opened when needed, a few at most, with requests pipelined on each.

A request goes to the connection that has the fewest under way; a second one is pipelined before a second
connection is opened, since most runs ask no more than a head and who is there. One that was dropped before
its response began, as servers do with idle connections, is sent again on a new one, unless this server has
never answered anything: it may be no server of this kind, and not want to be one. Every byte that any of
the sockets received is counted, TLS records and handshakes included.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any, Final, TypedDict

from p2psync.errors import NetworkError
from p2psync.network.connect import connect
from p2psync.network.dialled import cannot_connect, connect_timeout, tls_failed
from p2psync.network.egress import egress
from p2psync.network.server import ATTEMPTS_MAX, CONNECT_TIMEOUT, IDLE_TIMEOUT, Server
from p2psync.sources.http.connection import Connection, Dropped
from p2psync.sources.http.forward import Forward
from p2psync.sources.http.head import ResponseHead, render_request_head
from p2psync.sources.http.rate import RateLimiter
from p2psync.sources.http.sinks import Sink

CONNECTIONS_MAX: Final = 4
"""Connections to one server: enough to fill a link whose packets get lost, few enough for servers that
count them."""
PIPELINE_DEPTH: Final = 4
"""Requests under way on one connection: hides the server's delay between responses; more would only be lost
when it breaks."""


class Traffic:
    """What the sockets of one pool received, in bytes."""

    __slots__ = ("received",)

    def __init__(self) -> None:
        self.received = 0


class _CountingSocket(socket.socket):
    """A socket that counts what is read from it: below TLS, so nothing is missed."""

    traffic: Traffic

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        count = super().recv_into(*args, **kwargs)
        self.traffic.received += count
        return count

    def recv(self, *args: Any, **kwargs: Any) -> bytes:
        data = super().recv(*args, **kwargs)
        self.traffic.received += len(data)
        return data


class _Slot:
    """Room for one connection."""

    __slots__ = ("alone", "connection", "lock", "pending")

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.lock = asyncio.Lock()
        self.alone = asyncio.Lock()
        self.pending = 0

    @property
    def rank(self) -> tuple[int, bool, int]:
        """The least is the best to send the next request on."""
        opens = not self.pending and (self.connection is None or self.connection.closed)
        return max(self.pending, 1), opens, self.pending


class Settings(TypedDict, total=False):
    """The keyword arguments of ``Pool``, which every source takes as well. Seconds, and counts."""

    connections: int
    depth: int
    limiter: RateLimiter | None
    connect_timeout: float
    idle_timeout: float
    ssl_context: ssl.SSLContext | None


class Pool:
    """Up to ``connections`` connections to ``server``, each with up to ``depth`` requests under way.

    ``limiter`` is shared with other pools. ``ssl_context`` replaces the default one, which verifies
    certificates and names.
    """

    def __init__(
        self,
        server: Server,
        *,
        connections: int = CONNECTIONS_MAX,
        depth: int = PIPELINE_DEPTH,
        limiter: RateLimiter | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        idle_timeout: float = IDLE_TIMEOUT,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.server = server
        self._traffic = Traffic()
        self._limiter = limiter
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._ssl_context = ssl_context
        self._way = egress()
        self._slots = [_Slot() for _ in range(connections)]
        self._permits = asyncio.Semaphore(connections * depth)
        self._closed = False
        self._has_answered = False

    @property
    def received(self) -> int:
        """Bytes read from this pool's sockets so far."""
        return self._traffic.received

    async def request(
        self,
        method: str,
        target: str,
        sink: Sink,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> ResponseHead:
        """One request; waits for a free place in a pipeline first. The sink has the body when this returns.

        Raises:
            ConnectTimeout, TransferTimeout, NetworkError: as named; the message names the server.
            FormatError: the server does not keep to the protocol.
        """
        head = render_request_head(method, target, self.server.authority, headers, len(body))
        async with self._permits:
            for attempt in range(1, ATTEMPTS_MAX + 1):
                slot = min(self._slots, key=lambda slot: slot.rank)
                slot.pending += 1
                try:
                    connection = await self._connected(slot)
                    if connection.forward is None:
                        answer = await connection.request(head, body, sink, bodiless=method == "HEAD")
                    else:
                        # Proxies end connections, and some take a second request for the rest of the first.
                        async with slot.alone:
                            connection = await self._connected(slot)
                            answer = await connection.request(head, body, sink, bodiless=method == "HEAD")
                    self._has_answered = True
                    return answer
                except Dropped as error:
                    if attempt == ATTEMPTS_MAX or self._closed or not self._has_answered:
                        raise NetworkError(str(error)) from None
                finally:
                    slot.pending -= 1
        raise AssertionError("the loop above returns or raises")

    async def close(self) -> None:
        """Close all connections; requests under way fail with NetworkError."""
        self._closed = True
        connections = [slot.connection for slot in self._slots if slot.connection is not None]
        await asyncio.gather(*(connection.close() for connection in connections))

    async def _connected(self, slot: _Slot) -> Connection:
        async with slot.lock:
            if slot.connection is None or slot.connection.closed:
                if self._closed:
                    raise NetworkError(f"{self.server.name}: this source was closed")
                slot.connection = await self._connect()
            return slot.connection

    def _make(self, family: int, kind: int, protocol: int, fileno: int | None = None) -> socket.socket:
        made = _CountingSocket(family, kind, protocol, fileno)
        made.traffic = self._traffic
        return made

    async def _connect(self) -> Connection:
        limited = self._limiter is not None and self._limiter.rate is not None
        deadline = time.monotonic() + self._connect_timeout
        dialled = await connect(
            self.server, self._make, self._way, seconds=self._connect_timeout, limited=limited
        )
        context = (self._ssl_context or self._way.context) if self.server.tls else None
        connection: Connection | None = None
        forward = None if dialled.forward is None else Forward(dialled.forward, self.server)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(
                        self.server.name,
                        idle_timeout=self._idle_timeout,
                        limiter=self._limiter,
                        forward=forward,
                    ),
                    sock=dialled.sock,
                    ssl=context,
                    server_hostname=self.server.host if context is not None else None,
                )
        except TimeoutError:
            raise connect_timeout(
                self.server, self._way.proxy_for(self.server), self._connect_timeout
            ) from None
        except ssl.SSLError as error:
            raise tls_failed(self.server, error) from None
        except OSError as error:
            raise cannot_connect(self.server, self._way.proxy_for(self.server), error) from None
        finally:
            if connection is None:
                dialled.sock.close()
        return connection

    async def __aenter__(self) -> Pool:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

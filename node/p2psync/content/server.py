"""The content server: an aiohttp application, its socket, and who may connect.

Connections are bounded in total and for each address, and must send a request soon. What is answered is
``api``'s and ``pages``'.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, cast

from aiohttp import web

from p2psync.content.api import Api
from p2psync.content.library import Library
from p2psync.content.nominate import CALLBACK_TIMEOUT, Nominations, plain_ip
from p2psync.content.pages import Pages
from p2psync.content.send import Counters
from p2psync.errors import FormatError, NetworkError
from p2psync.sources.wire import BATCH_BODY_MAX, INFO_ARCHIVES_MAX, Info
from p2psync_dht import node_id_of

CONNECTIONS_MAX: Final = 1024
"""Connections at once: each may hold a descriptor of a file besides its own."""
CONNECTIONS_PER_ADDRESS: Final = 64
"""Of one address: a site behind one NAT may fetch with several clients; one client uses about four."""
FIRST_REQUEST_TIMEOUT: Final = 30.0
"""Seconds from the connection to the end of its first request's head."""
KEEPALIVE_TIMEOUT: Final = 75.0
"""Seconds from a response to the end of the next request's head."""
LINGERING_TIME: Final = 2.0
"""Seconds for which the rest of a refused request's body is read, so that its sender sees the refusal and
not a reset."""
SHUTDOWN_TIMEOUT: Final = 5.0
"""Seconds that responses under way get when the server is closed."""
THREADS: Final = 4
"""Threads for the index and the disk: enough to keep a disk busy while another waits for the index."""
REQUEST_LINE_MAX: Final = 16 << 10
"""Bytes of a request line: a path of 4,095 bytes, each percent-encoded, fits."""


class Admission:
    """Who may connect: counts connections and cuts off those that send no request."""

    def __init__(self, connections: int, per_address: int, first_request_timeout: float) -> None:
        self._connections = connections
        self._per_address = per_address
        self._timeout = first_request_timeout
        self._waiting: dict[asyncio.BaseTransport, asyncio.TimerHandle] = {}
        self._open: dict[str, set[asyncio.BaseTransport]] = {}
        self.refused = 0

    def admit(self, transport: asyncio.Transport) -> bool:
        """Count a new connection. False: there are too many."""
        peer = transport.get_extra_info("peername")
        address = plain_ip(peer[0]) if peer else ""
        held = self._open.setdefault(address, set())
        self._forget(held)
        if len(held) >= self._per_address or self._total() >= self._connections:
            self.refused += 1
            return False
        self._open.setdefault(address, held).add(transport)
        loop = asyncio.get_running_loop()
        self._waiting[transport] = loop.call_later(self._timeout, self._late, transport)
        return True

    def heard(self, transport: asyncio.BaseTransport | None) -> None:
        """A request has come on this connection."""
        if transport is not None and (handle := self._waiting.pop(transport, None)) is not None:
            handle.cancel()

    def close(self) -> None:
        for handle in self._waiting.values():
            handle.cancel()
        self._waiting.clear()

    def _late(self, transport: asyncio.Transport) -> None:
        self._waiting.pop(transport, None)
        transport.abort()

    def _total(self) -> int:
        if sum(map(len, self._open.values())) >= self._connections:
            for held in self._open.values():
                self._forget(held)
            self._open = {address: held for address, held in self._open.items() if held}
        return sum(map(len, self._open.values()))

    def _forget(self, held: set[asyncio.BaseTransport]) -> None:
        """Leave out the connections that have ended."""
        for ended in [each for each in held if each.is_closing()]:
            held.discard(ended)
            self.heard(ended)


class _Door(asyncio.Protocol):
    """Stands in for the HTTP protocol until a connection is admitted."""

    def __init__(self, admission: Admission, behind: Callable[[], asyncio.BaseProtocol]) -> None:
        self._admission = admission
        self._behind = behind

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = cast(asyncio.Transport, transport)
        if self._admission.admit(made):
            protocol = self._behind()
            made.set_protocol(protocol)
            protocol.connection_made(made)
        else:
            made.abort()


_ADMISSION: Final = web.AppKey("admission", Admission)


@web.middleware
async def _guard(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    if (admission := request.app.get(_ADMISSION)) is not None:
        admission.heard(request.transport)
    try:
        return await handler(request)
    except FormatError as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from None


def create_app(
    library: Library,
    *,
    node_key: bytes,
    counters: Counters | None = None,
    admission: Admission | None = None,
    callback_timeout: float = CALLBACK_TIMEOUT,
) -> web.Application:
    """The application that serves ``library`` as the node with the public key ``node_key`` (32 bytes)."""
    counted = counters if counters is not None else Counters()
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="content")
    version = importlib.metadata.version("p2psync")

    def info() -> Info:
        archives = library.archives()[:INFO_ARCHIVES_MAX]
        return Info(node_id_of(node_key).hex(), node_key, version, tuple(archives))

    async def stop(_: web.Application) -> None:
        # Those who close the library next must not meet a thread that still reads it.
        await asyncio.to_thread(threads.shutdown, wait=True, cancel_futures=True)

    async def count(_: web.Request, __: web.StreamResponse) -> None:
        counted.requests += 1

    app = web.Application(middlewares=[_guard], client_max_size=BATCH_BODY_MAX)
    if admission is not None:
        app[_ADMISSION] = admission
    nominations = Nominations(library, own_key=node_key, callback_timeout=callback_timeout)
    app.add_routes(Api(library, info, nominations, counted, threads).routes())
    app.add_routes(Pages(library, counted, threads).routes())
    app.on_response_prepare.append(count)
    app.on_cleanup.append(stop)
    return app


class ContentServer:
    """A running content server. Made by ``start``; close it."""

    def __init__(
        self, runner: web.AppRunner, server: asyncio.Server, admission: Admission, counters: Counters
    ) -> None:
        self._runner = runner
        self._server = server
        self._admission = admission
        self.counters = counters

    @classmethod
    async def start(
        cls,
        library: Library,
        host: str,
        port: int,
        *,
        node_key: bytes,
        connections: int = CONNECTIONS_MAX,
        per_address: int = CONNECTIONS_PER_ADDRESS,
        first_request_timeout: float = FIRST_REQUEST_TIMEOUT,
        callback_timeout: float = CALLBACK_TIMEOUT,
    ) -> ContentServer:
        """Listen at ``host`` (an IP address) and ``port`` (0: the kernel picks one).

        Raises NetworkError: the address cannot be listened at.
        """
        counters = Counters()
        admission = Admission(connections, per_address, first_request_timeout)
        app = create_app(
            library,
            node_key=node_key,
            counters=counters,
            admission=admission,
            callback_timeout=callback_timeout,
        )
        runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=KEEPALIVE_TIMEOUT,
            lingering_time=LINGERING_TIME,
            shutdown_timeout=SHUTDOWN_TIMEOUT,
            auto_decompress=False,  # a compressed body is a small request that takes much memory
            max_line_size=REQUEST_LINE_MAX,
        )
        await runner.setup()
        protocols = cast(Callable[[], asyncio.BaseProtocol], runner.server)
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(partial(_Door, admission, protocols), host, port, backlog=256)
        except OSError as error:
            await runner.cleanup()
            raise NetworkError(
                f"cannot listen at {host} port {port}: {error.strerror or error}; "
                "choose another address with --listen"
            ) from None
        return cls(runner, server, admission, counters)

    @property
    def connections_refused(self) -> int:
        """Connections that were one too many."""
        return self._admission.refused

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    async def close(self) -> None:
        """Stop listening, let responses under way end for ``SHUTDOWN_TIMEOUT``, then close the
        connections."""
        self._server.close()
        self._admission.close()
        await self._runner.cleanup()
        await self._server.wait_closed()

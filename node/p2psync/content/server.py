"""The content server: its socket, the threads for bulk bytes, and an aiohttp application for all else.

Who may connect is ``admission``'s, where a request goes is ``door``'s, and what is answered is ``answers``',
``api``'s and ``pages``'.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final, cast

from aiohttp import web
from aiohttp.http import HttpProcessingError

from p2psync.content.admission import (
    CONNECTIONS_MAX,
    CONNECTIONS_PER_ADDRESS,
    IDLE_GRACE,
    Admission,
    Ticket,
    ticket_now,
)
from p2psync.content.api import Api
from p2psync.content.bulk import THREADS, Bulk
from p2psync.content.counters import Counters
from p2psync.content.debts import REQUEST, Debts
from p2psync.content.door import Answered, Door, House, come_back
from p2psync.content.gate import Gate, pass_now
from p2psync.content.gateway import Gateway
from p2psync.content.interface import Library
from p2psync.content.listening import bound, listening
from p2psync.content.nominate import CALLBACK_TIMEOUT, Nominations
from p2psync.content.pages import Pages
from p2psync.content.redirect import Redirects
from p2psync.content.subscribers import Subscribers
from p2psync.content.threads import Threads, client_now
from p2psync.content.tls_door import TlsDoor
from p2psync.content.visitors import Visitors
from p2psync.errors import FormatError, NetworkError
from p2psync.network.here import client_of
from p2psync.network.protocols import Network
from p2psync.sources.wire import BATCH_BODY_MAX, INFO_ARCHIVES_MAX, Info, head_tag
from p2psync_dht import node_id_of

FIRST_REQUEST_TIMEOUT: Final = 30.0
"""Seconds from the connection to the end of its first request's head."""
KEEPALIVE_TIMEOUT: Final = 75.0
"""Seconds from a response to the end of the next request's head."""
LINGERING_TIME: Final = 2.0
"""Seconds for which the rest of a refused request's body is read, so that its sender sees the refusal and
not a reset."""
SHUTDOWN_TIMEOUT: Final = 5.0
"""Seconds that responses under way get when the server is closed."""
REST: Final = 2.0
"""Seconds between looks at what is open and unused: after twice as long without requests nothing is, and a
disk can be unmounted.
"""
OWING_AT_ONCE: Final = 4
"""Requests of clients that owe something (`debts`) that handlers begin on at once: in between, the event
loop is there for others.
"""
REQUEST_LINE_MAX: Final = 16 << 10
"""Bytes of a request line: a path of 4,095 bytes, each percent-encoded, fits."""


WORK: Final = 2 * OWING_AT_ONCE * REQUEST
"""Seconds for which a request counts as work of its pass: so the passes together leave most of the event
loop's time to others.
"""


SUBSCRIBERS: Final = web.AppKey("subscribers", Subscribers)
"""Where an application keeps those who wait for newer heads."""


class _NotOfClients(logging.Filter):
    """Lets through what may be a defect: not what clients send that is no HTTP, nor that they go. Anybody
    could fill a log with that.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError | ConnectionError)


log: Final = logging.getLogger("p2psync.content.http")
"""Where the HTTP library tells what went wrong."""
log.addFilter(_NotOfClients())


def create_app(
    library: Library,
    *,
    node_key: bytes,
    counters: Counters | None = None,
    callback_timeout: float = CALLBACK_TIMEOUT,
    debts: Debts | None = None,
    visitors: Visitors | None = None,
    heard: Callable[[], None] | None = None,
    gateway: Gateway | None = None,
    redirects: Redirects | None = None,
) -> web.Application:
    """The application that serves ``library`` as the node with the public key ``node_key`` (32 bytes).
    ``heard`` is called when somebody has handed on a newer head. ``redirects``: which readers of files are
    sent to mirrors.
    """
    counted = counters if counters is not None else Counters()
    owed = debts if debts is not None else Debts()
    known = visitors if visitors is not None else Visitors()
    threads = Threads(owed)
    gate = Gate(owed, CONNECTIONS_MAX, OWING_AT_ONCE)
    version = importlib.metadata.version("p2psync")

    def info(archives: Sequence[bytes]) -> Info:
        return Info(node_id_of(node_key).hex(), node_key, version, tuple(archives[:INFO_ARCHIVES_MAX]))

    @web.middleware
    async def guard(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        client = client_of(request.remote) if request.remote else ""
        client_now.set(client)
        door = None if request.transport is None else request.transport.get_protocol()
        ticket_now.set(door.ticket if isinstance(door, Door) else None)
        refused = known.refusal(client, request.method, request.headers)
        if refused is not None:
            return web.Response(status=refused.status, text=refused.text)
        passed = await gate.enter(client)
        pass_now.set(passed)
        owed.charge(client, REQUEST)
        try:
            return await handler(request)
        except FormatError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None
        finally:
            passed.leave(WORK)

    async def stop(_: web.Application) -> None:
        # Those who close the library next must not meet a thread that still reads it.
        await threads.close()

    async def leave_nobody_waiting(_: web.Application) -> None:
        subscribers.close()

    async def count(_: web.Request, __: web.StreamResponse) -> None:
        counted.note(requests=1)
        if (passed := pass_now.get()) is not None:
            passed.leave(WORK)  # how long the client takes for the answer is its own affair

    app = web.Application(middlewares=[guard], client_max_size=BATCH_BODY_MAX)
    nominations = Nominations(library, threads, own_key=node_key, callback_timeout=callback_timeout)
    subscribers = Subscribers(library, threads, head_tag)
    app[SUBSCRIBERS] = subscribers
    app.add_routes(Api(library, info, nominations, counted, threads, subscribers, heard).routes())
    app.add_routes((gateway or Gateway(owed)).routes())
    app.add_routes(Pages(library, counted, threads, redirects).routes())
    app.on_response_prepare.append(count)
    app.on_shutdown.append(leave_nobody_waiting)
    app.on_cleanup.append(stop)
    return app


async def _rest(library: Library) -> None:
    """Until cancelled."""
    while True:
        await asyncio.sleep(REST)
        library.rest()


class ContentServer:
    """A running content server. Made by ``start``; close it."""

    def __init__(
        self,
        runner: web.AppRunner,
        servers: Sequence[asyncio.Server],
        house: House,
        counters: Counters,
        library: Library,
        subscribers: Subscribers,
        gateway: Gateway,
    ) -> None:
        self._gateway = gateway
        self._runner = runner
        self._servers = servers
        self._house = house
        self.counters = counters
        self._tls_doors: list[TlsDoor] = []
        self._resting = asyncio.create_task(_rest(library))
        self._subscribers = subscribers

    @classmethod
    async def start(
        cls,
        library: Library,
        host: str,
        port: int,
        *,
        node_key: bytes,
        names: Iterable[str] = (),
        connections: int = CONNECTIONS_MAX,
        per_address: int = CONNECTIONS_PER_ADDRESS,
        idle_grace: float = IDLE_GRACE,
        first_request_timeout: float = FIRST_REQUEST_TIMEOUT,
        keepalive_timeout: float = KEEPALIVE_TIMEOUT,
        callback_timeout: float = CALLBACK_TIMEOUT,
        bulk_threads: int = THREADS,
        heard: Callable[[], None] | None = None,
        redirects: Redirects | None = None,
    ) -> ContentServer:
        """Listen at ``host`` (an IP address; "::" is everywhere) and ``port`` (0: the kernel picks one).
        ``names``: those by which a proxy on this machine may ask. ``heard`` is called when somebody has
        handed on a newer head. ``redirects``: which readers of files are sent to mirrors.

        Raises NetworkError: the address cannot be listened at.
        """
        counters = Counters()
        debts = Debts()
        visitors = Visitors(names)
        gateway = Gateway(debts)
        app = create_app(
            library,
            node_key=node_key,
            counters=counters,
            callback_timeout=callback_timeout,
            debts=debts,
            visitors=visitors,
            heard=heard,
            gateway=gateway,
            redirects=redirects,
        )
        runner = web.AppRunner(
            app,
            access_log=logging.getLogger(__name__),
            access_log_class=Answered,
            logger=log,
            keepalive_timeout=keepalive_timeout,
            tcp_keepalive=False,  # who is gone is found out sooner by our own timeouts
            lingering_time=LINGERING_TIME,
            shutdown_timeout=SHUTDOWN_TIMEOUT,
            auto_decompress=False,  # a compressed body is a small request that takes much memory
            max_line_size=REQUEST_LINE_MAX,
        )
        await runner.setup()
        coming_back: set[asyncio.Task[None]] = set()

        def give_back(sock: socket.socket, held: bytes, ticket: Ticket) -> None:
            task = asyncio.ensure_future(come_back(house, sock, held, ticket))
            coming_back.add(task)
            task.add_done_callback(coming_back.discard)

        house = House(
            Admission(connections, per_address, idle_grace),
            Bulk(library, counters, give_back, keepalive_timeout, debts, visitors, bulk_threads),
            cast(Callable[[], asyncio.Protocol], runner.server),
            first_request_timeout,
            keepalive_timeout,
        )
        try:
            servers = await listening(partial(Door, house), host, port)
        except NetworkError:
            await runner.cleanup()
            raise
        return cls(runner, servers, house, counters, library, app[SUBSCRIBERS], gateway)

    def open_gateway(self, network: Network) -> None:
        """From now on ask the DHT for those who ask here."""
        self._gateway.network = network

    async def open_tls(self, host: str, port: int, context: ssl.SSLContext) -> tuple[str, int]:
        """Serve within TLS too; where. Raises NetworkError: the address cannot be listened at."""
        door = TlsDoor(self._house, await bound(host, port, option="--tls-listen"), context)
        self._tls_doors.append(door)
        return door.address

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return self._house.admission.connections

    @property
    def peers(self) -> int:
        """Addresses that they are from."""
        return self._house.admission.addresses

    @property
    def connections_refused(self) -> int:
        """Connections that were one too many."""
        return self._house.admission.refused

    @property
    def subscribers(self) -> int:
        """Requests that wait for a newer head."""
        return self._subscribers.count

    def look(self) -> None:
        """Heads may have become newer: those who wait for that hear of it at once."""
        self._subscribers.look()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; everywhere is "::", or "0.0.0.0" where there is IPv4 alone."""
        host, port = self._servers[-1].sockets[0].getsockname()[:2]
        return host, port

    async def close(self) -> None:
        """Stop listening, let responses under way end for ``SHUTDOWN_TIMEOUT``, then close the
        connections."""
        for server in self._servers:
            server.close()
        await asyncio.gather(*(door.close() for door in self._tls_doors))
        self._resting.cancel()
        await asyncio.gather(self._house.bulk.close(SHUTDOWN_TIMEOUT), self._runner.cleanup())
        self._house.admission.close()
        for server in self._servers:
            await server.wait_closed()

"""Bulk bytes of one server: a thread that blocks on one connection, receives whole answers straight into the
arena, and verifies them before anybody hears of them.

What an order is in HTTP is the ``Dialect``'s (a node's in ``p2psync.sources.node_content``, a web server's in
``p2psync.sources.web_content``); connecting is ``dial``'s, reading ``link``'s. Which source gets which order
is decided in the event loop; here no order is refused, put off or preferred.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Callable

from p2psync.errors import FormatError, NetworkError, P2psyncError, TransferTimeout
from p2psync.network.dial import Handle, dial
from p2psync.network.egress import egress
from p2psync.network.server import ATTEMPTS_MAX, CONNECT_TIMEOUT, IDLE_TIMEOUT, Server
from p2psync.sources.compress import Compress, Packing
from p2psync.sources.http.asks import Ask, Asks
from p2psync.sources.http.bell import Bell
from p2psync.sources.http.body import Body
from p2psync.sources.http.connection import Dropped
from p2psync.sources.http.dialect import Dialect
from p2psync.sources.http.forward import Forward
from p2psync.sources.http.head import ResponseHead
from p2psync.sources.http.link import Link
from p2psync.sources.http.rate import RateLimiter
from p2psync.sources.orders import Answer, Order, failure, wrong_checks


class GivenUp(NetworkError):
    """Nobody wanted the answer any more, or the source was closed."""


class BulkThread:
    """The bulk side of ``server``. See ``p2psync.sources.orders.Bulk`` for the methods.

    Neither a connection nor a thread is there before the first order. Orders are answered in the order in
    which they were asked. After silence, or where no connection comes about, all that were asked so far are
    answered with that error; one that only had its place behind a broken answer is sent again.

    Args:
        memory: of the arena that the orders' extents are in.
        limiter: shared with other sources.
        connect_timeout, idle_timeout: seconds.
        ssl_context: in place of the default one, which verifies certificates and names.
        packing: says when answers are asked for compressed; None: never.
    """

    def __init__(
        self,
        server: Server,
        dialect: Dialect,
        memory: memoryview,
        *,
        limiter: RateLimiter | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        idle_timeout: float = IDLE_TIMEOUT,
        ssl_context: ssl.SSLContext | None = None,
        packing: Packing | None = None,
    ) -> None:
        self._packing = packing or Packing(Compress.OFF)
        self._server = server
        self._dialect = dialect
        self._memory = memory
        self._limiter = limiter
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._ssl_context = ssl_context
        self._way = egress()
        self._received = 0
        # Shared by both threads, under the lock of the asks.
        self._asks = Asks(dialect.ahead)
        self._handle = Handle()
        self._bell: Bell | None = None
        self._closed = False
        # The event loop's.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ended: asyncio.Future[None] | None = None
        # The thread's.
        self._link: Link | None = None
        self._answers = 0
        """On this connection."""
        self._free_at = 0.0
        """When the last answer was complete."""

    @property
    def name(self) -> str:
        return self._server.name

    @property
    def received(self) -> int:
        return self._received

    @property
    def spans_max(self) -> int:
        return self._dialect.spans_max

    @property
    def by_path(self) -> bool:
        return self._dialect.by_path

    def ask(self, order: Order, tell: Callable[[Answer], None]) -> None:
        loop = asyncio.get_running_loop()
        dialect = self._dialect
        request: bytes | None = None
        if self._dialect.packed is not None and self._packing.wanted():
            dialect = self._dialect.packed
            request = dialect.request(order)
        if request is None:
            dialect = self._dialect
            request = dialect.request(order)
        if request is None:
            loop.call_soon(tell, Answer(order.token, [-1] * len(order.spans), [], 0.0))
            return
        with self._asks.news:
            if self._closed:
                loop.call_soon(tell, failure(order, self._closed_error()))
                return
            self._asks.add(Ask(order, request, tell, dialect))
            if self._bell is not None:
                self._bell.ring()
        if self._thread is None:
            self._loop = loop
            self._ended = loop.create_future()
            self._bell = Bell()
            self._thread = threading.Thread(target=self._run, name=f"bulk {self.name}", daemon=False)
            self._thread.start()

    def cancel(self, token: int) -> None:
        with self._asks.news:
            ask = self._asks.withdraw(token)
            if ask is not None:
                answer = failure(ask.order, self._cancelled_error())
                asyncio.get_running_loop().call_soon(ask.tell, answer)
            elif self._asks.mark_cancelled(token):
                self._handle.interrupt()  # What comes of it would only take the place of other bytes.
                self._asks.news.notify()

    async def close(self) -> None:
        with self._asks.news:
            self._closed = True
            self._handle.interrupt()
            self._asks.news.notify()
        if self._thread is not None and self._ended is not None:
            await self._ended
            self._thread.join()  # It has told so with its last breath.

    def _cancelled_error(self) -> GivenUp:
        return GivenUp(f"{self.name}: the request was given up")

    def _closed_error(self) -> GivenUp:
        return GivenUp(f"{self.name}: this source was closed")

    # The thread.

    def _run(self) -> None:
        try:
            while self._wait():
                self._turn()
        finally:
            self._hang_up()
            with self._asks.news:
                self._closed = True
                left = self._asks.take_all()
                if self._bell is not None:
                    self._bell.close()
                    self._bell = None
            for ask in left:
                self._tell(ask, failure(ask.order, self._closed_error()))
            if self._loop is not None and self._ended is not None:
                self._loop.call_soon_threadsafe(self._ended.set_result, None)

    def _wait(self) -> bool:
        """Until there is something to do; False: no more."""
        with self._asks.news:
            self._asks.news.wait_for(lambda: self._closed or self._asks)
            return not self._closed

    def _turn(self) -> None:
        """Send what may be sent, and receive one answer."""
        try:
            if self._link is None or not (self._asks.under_way or self._link.fresh()):
                self._connect()
        except NetworkError as error:
            self._all_failed(error)
            return
        assert self._link is not None  # noqa: S101 - connected, or raised
        try:
            self._push()
            front = self._asks.front
            if front is not None:
                self._receive(self._link, front)
        except Dropped as error:
            self._dropped(NetworkError(f"{self.name}: {error}"))
        except TransferTimeout as error:
            self._all_failed(TransferTimeout(f"{self.name}: {error}"))
        except NetworkError as error:
            self._front_failed(NetworkError(f"{self.name}: {error}"))
        except FormatError as error:
            self._front_failed(FormatError(f"{self.name}: {error}"))

    def _connect(self) -> None:
        self._hang_up()
        self._answers = 0
        assert self._bell is not None  # noqa: S101 - there as long as the thread is
        handle = Handle()
        with self._asks.news:
            self._handle = handle
            if self._closed:
                handle.interrupt()
        dialled = dial(
            self._server,
            handle,
            timeout=self._connect_timeout,
            limited=self._limiter is not None and self._limiter.rate is not None,
            ssl_context=self._ssl_context,
            way=self._way,
        )
        if dialled.forward is not None:  # Some proxies take a second request for the rest of the first.
            self._asks.ahead = 1
        self._link = Link(
            dialled.sock,
            handle,
            idle_timeout=self._idle_timeout,
            limiter=self._limiter,
            bell=self._bell,
            count=self._count,
            between=self._push,
            pause=self._pause,
            forward=None if dialled.forward is None else Forward(dialled.forward, self._server),
        )

    def _push(self) -> None:
        """Send requests as long as there is room on the wire, without waiting while answers are due."""
        link = self._link
        if link is None:
            return
        while True:
            if not link.sending:
                ask = self._asks.to_send()
                if ask is None:
                    return
                ask.sent_at = time.monotonic()
                link.send(ask.request)
            link.push(wait=self._asks.under_way == 1)
            if link.sending:
                return

    def _receive(self, link: Link, front: Ask) -> None:
        order = front.order
        head = link.head()
        body = Body(link, head)
        outcome: list[int] | P2psyncError
        if front.cancelled:
            outcome = self._cancelled_error()
        else:
            extent = order.extent
            room = self._memory[extent.offset : extent.offset + extent.size]
            outcome = front.dialect.receive(order, head, body, room)
        begun, self._free_at = max(front.sent_at, self._free_at), time.monotonic()
        self._asks.answered()
        self._answers += 1
        if isinstance(outcome, list):
            positions = [at if at < 0 else order.extent.offset + at for at in outcome]
            wrong = wrong_checks(order, positions, self._memory)
            self._note(front, head, self._free_at - begun)
            self._tell(front, Answer(order.token, positions, wrong, self._free_at - begun))
        else:
            if front.dialect is not self._dialect:
                self._packing.refused()
            self._tell(front, failure(order, outcome))
        if not body.reusable():
            if not head.keep_alive:  # What is sent behind the last answer is lost, and may take that along.
                self._asks.ahead = min(self._asks.ahead, self._answers)
            self._send_again()

    def _note(self, ask: Ask, head: ResponseHead, seconds: float) -> None:
        """An answer came: so fast is the link, and so much was gained."""
        size = sum([span.length for span in ask.order.spans])
        received = size if head.length is None else head.length
        self._packing.came(size, received, seconds, packed=ask.dialect is not self._dialect)

    # What goes wrong.

    def _dropped(self, error: NetworkError) -> None:
        """The connection ended before the first answer: servers do that with idle ones."""
        front = self._asks.front
        if front is not None and front.attempts + 1 == ATTEMPTS_MAX:
            self._all_failed(error)
        else:
            self._send_again()

    def _front_failed(self, error: P2psyncError) -> None:
        begun = self._link is not None and self._link.begun
        self._hang_up()
        self._fail(self._asks.answered(), error, begun=begun)
        self._send_again()

    def _all_failed(self, error: P2psyncError) -> None:
        front = self._asks.front if self._link is not None and self._link.begun else None
        self._hang_up()
        for ask in self._asks.take_all():
            self._fail(ask, error, begun=ask is front)

    def _send_again(self) -> None:
        """What is under way is lost with the connection, and goes onto the next one."""
        self._hang_up()
        for ask in self._asks.connection_lost():
            self._fail(ask, self._cancelled_error())

    def _fail(self, ask: Ask, error: P2psyncError, *, begun: bool = False) -> None:
        if self._closed:
            error = self._closed_error()
        elif ask.cancelled:
            error = self._cancelled_error()
        self._tell(ask, failure(ask.order, error, begun=begun))

    def _tell(self, ask: Ask, answer: Answer) -> None:
        assert self._loop is not None  # noqa: S101 - set before the thread began
        self._loop.call_soon_threadsafe(ask.tell, answer)

    def _hang_up(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def _count(self, count: int) -> None:
        self._received += count

    def _pause(self, seconds: float) -> None:
        """The bandwidth limit wants it."""
        with self._asks.news:
            self._asks.news.wait_for(lambda: self._closed or self._handle.interrupted, seconds)

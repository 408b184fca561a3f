"""Connections that ask for bulk bytes, served by a few threads that block on nothing but the disk.

A connection is with a thread only while it can go on. Where it waits for its client, it waits with the event
loop and costs no thread; where others wait for a thread, it queues up again after each request. What asks for
something else goes back to the event loop (``door``), with the bytes that were read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mmap
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final

from p2psync.content.admission import Ticket
from p2psync.content.answers import TextAnswer
from p2psync.content.counters import Counters
from p2psync.content.debts import Debts
from p2psync.content.interface import Library
from p2psync.content.line import After, Desk, Line
from p2psync.content.rows import ROOM
from p2psync.content.turns import Turns
from p2psync.content.visitors import LOOPBACK, Visitors
from p2psync.state.off_loop import off_loop

THREADS: Final = 3
"""Threads for bulk bytes: one that sends, and others that a slow disk may hold up. More only wait for the
interpreter: with eight clients, a file of 25 kB costs two threads 22 us, and eight 27. Each has a buffer of
up to 8 MiB."""

BODIES_MAX: Final = 32 << 20
"""Bytes of requests whose ends have not come yet, of all connections: a hundred of the longest. Those that
began first make room: an honest one is here within moments.
"""

NOT_PACED: Final = b"reno"
"""Congestion control that sends as soon as it may; Linux lets every process choose it (tcp(7))."""

_log: Final = logging.getLogger(__name__)


class Bulk:
    """The threads, and the connections that are theirs."""

    def __init__(
        self,
        library: Library,
        counters: Counters,
        give_back: Callable[[socket.socket, bytes, Ticket], None],
        keepalive_timeout: float,
        debts: Debts,
        visitors: Visitors,
        threads: int = THREADS,
    ) -> None:
        """``give_back`` takes a connection that asks for something else."""
        self._give_back = give_back
        self._keepalive = keepalive_timeout
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="bulk")
        self._local = threading.local()
        self._debts = debts
        self._turns = Turns[Line](debts)
        self._closing = False
        self._desk = Desk(library, counters, self._turns.wanted, lambda: self._closing, self._room, visitors)
        self._lines: set[Line] = set()
        self._waiting: dict[Line, asyncio.TimerHandle] = {}
        self.bodies: dict[Line, int] = {}
        """The bytes that are here of requests whose ends are not."""
        self._empty = asyncio.Event()

    def take(self, sock: socket.socket, received: bytes, ticket: Ticket) -> None:
        """Serve a connection whose next request, in ``received``, is for bulk bytes. The socket, which does
        not block, is ours now.
        """
        if ticket.address.startswith(LOOPBACK):
            _do_not_pace(sock)
        line = Line(sock, received, ticket, time.monotonic() + self._keepalive)
        ticket.cut = lambda: self._cut(line)
        self._lines.add(line)
        if self._closing:
            self._end(line)
        else:
            ticket.busy()
            self._queue(line)

    async def close(self, grace: float) -> None:
        """End connections that wait for requests; answers under way get ``grace`` seconds."""
        self._closing = True
        for line in [line for line in self._waiting if line.answer is None]:
            self._end(line)
        if self._lines:
            self._empty.clear()
            try:
                async with asyncio.timeout(grace):
                    await self._empty.wait()
            except TimeoutError:
                for line in list(self._lines):
                    self._cut(line)
                await self._empty.wait()
        await off_loop(partial(self._threads.shutdown, wait=True))

    # In the event loop's thread.

    def _goes_on(self, line: Line, after: After) -> None:
        """A thread let go of a connection."""
        if after is After.WAIT and not (self._closing and line.answer is None):
            self._wait(line)
        elif after is After.OTHER and not self._closing:
            self._lines.discard(line)
            self._give_back(line.sock, bytes(line.received), line.ticket)
        else:
            self._end(line)

    def _wait(self, line: Line) -> None:
        """Until the client takes, or sends, more."""
        if line.answer is not None or line.body_due is not None:
            line.ticket.begin_waiting()
        if line.answer is not None:
            due = line.slice_due
            self._loop.add_writer(line.sock.fileno(), self._ready, line)
        else:
            due = line.head_due if line.body_due is None else line.body_due
            if line.body_due is None:
                line.ticket.waits()
            else:
                self.bodies[line] = len(line.received)
            self._loop.add_reader(line.sock.fileno(), self._ready, line)
        self._waiting[line] = self._loop.call_later(max(0.0, due - time.monotonic()), self._late, line)
        while sum(self.bodies.values()) > BODIES_MAX and len(self.bodies) > 1:
            self._end(min(self.bodies, key=lambda each: each.body_due or 0.0))

    def _stop_waiting(self, line: Line) -> None:
        if (timer := self._waiting.pop(line, None)) is not None:
            timer.cancel()
            self.bodies.pop(line, None)
            self._loop.remove_reader(line.sock.fileno())
            self._loop.remove_writer(line.sock.fileno())

    def _ready(self, line: Line) -> None:
        self._stop_waiting(line)
        line.ticket.end_waiting()
        if line.ticket.too_slow:
            self._end(line)
            return
        line.ticket.busy()
        self._queue(line)

    def _late(self, line: Line) -> None:
        if line.body_due is None:
            self._end(line)
            return
        self._stop_waiting(line)
        line.refuse(TextAnswer(408, "the body did not come in time\n"))
        self._queue(line)

    def _end(self, line: Line) -> None:
        self._stop_waiting(line)
        line.close()
        line.ticket.release()
        self._lines.discard(line)
        if not self._lines:
            self._empty.set()

    def _cut(self, line: Line) -> None:
        """End it now; if a thread has it, by way of the socket."""
        if line in self._waiting:
            self._end(line)
            return
        try:
            line.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has ended by itself, and its thread will find out

    # In any thread.

    def _queue(self, line: Line) -> None:
        self._turns.put(line.ticket.address, line)
        self._threads.submit(self._turn).add_done_callback(_report)

    # In a thread of the pool.

    def _turn(self) -> None:
        """As many as can be had: one that could not when it was asked for is had when another has ended."""
        while (turn := self._turns.take()) is not None:
            line = turn.item
            began, sent = time.thread_time(), line.sent
            after = After.END
            try:
                after = line.go_on(self._desk, self._keepalive)
            except OSError:
                after = After.END
            finally:
                line.park()
                took = time.thread_time() - began
                self._debts.charge(turn.client, took, line.sent - sent)
                if after is After.QUEUE:
                    self._turns.put(turn.client, line)
                else:
                    self._loop.call_soon_threadsafe(self._goes_on, line, after)
                time.sleep(self._turns.rest_of(turn, took))
                self._turns.done(turn)

    def _room(self) -> memoryview:
        room: memoryview | None = getattr(self._local, "room", None)
        if room is None:
            # Memory that the kernel gives when it is written to: few answers fill it.
            room = self._local.room = memoryview(mmap.mmap(-1, ROOM, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        return room


def _do_not_pace(sock: socket.socket) -> None:
    """Between programs on one machine (a reverse proxy, a tunnel) nothing is lost and no queue builds up:
    pacing, as BBR does it, only costs the timers that it needs (0.3 s of CPU for a GiB).
    """
    option = getattr(socket, "TCP_CONGESTION", None)  # Linux and FreeBSD
    if option is not None:
        with contextlib.suppress(OSError):  # It only serves speed.
            sock.setsockopt(socket.IPPROTO_TCP, option, NOT_PACED)


def _report(done: Future[None]) -> None:
    """A turn has ended: a defect is told, not swallowed."""
    if not done.cancelled() and (error := done.exception()) is not None:
        _log.error("a request could not be answered", exc_info=error)

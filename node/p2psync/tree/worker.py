"""The event loop's side of the writer: orders go in, facts come out, nothing blocks.

    async with open_writer(dest, spared, arena) as writer:
        writer.on_fact = take
        writer.send(order)
        await writer.room()

Where the writer works is a choice of cost: in a process of its own (a second processor; 30 ms to start), in a
thread, or in the loop itself, one order at a turn (tests whose clock stands still meanwhile). Orders are
carried out and answered in the order in which they were sent.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, Literal

from p2psync.arena import Arena
from p2psync.tree.maker import NOTHING_DONE, TreeWriter
from p2psync.tree.orders import (
    Broken,
    DressDirectories,
    Fact,
    FinishObject,
    Land,
    MakeFiles,
    MakeLinks,
    MayReplace,
    Order,
    Remove,
    SetAttributes,
    WorkIn,
    WriteObject,
)

ROWS_AHEAD: Final = 4096
"""Rows of orders that are under way before ``room`` makes its caller wait: some 100 ms of work, and some
hundred KiB of memory.
"""
WriterKind = Literal["process", "thread", "inline"]


class Writer(ABC):
    """Where orders are sent. Use it from the event loop that it was opened in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.on_fact: Callable[[Fact], None] = _ignore
        """Called in the loop with each fact; set it before the first order is sent."""
        self._sent: deque[tuple[int, int]] = deque()
        self._waiting: list[asyncio.Future[None]] = []
        self._closing = False
        self.backlog = 0
        """Rows of orders that were sent and are not answered yet."""
        self.broken: Broken | None = None
        """Why nothing is done any more: what ``on_fact`` was told."""

    def send(self, order: Order) -> None:
        """Have ``order`` carried out after all that were sent before. Whoever sends many awaits ``room``
        first. After a ``Broken`` the order is dropped, and answered by the same ``Broken`` again.
        """
        if self._closing:
            raise ValueError("the writer is closed")
        if self.broken is not None:
            # Whoever sends this may not have been there to hear it.
            self._loop.call_soon(self._repeat, self.broken)
            return
        if not isinstance(order, MayReplace | WorkIn):
            rows = rows_of(order)
            self._sent.append((order.token, rows))
            self.backlog += rows
        self._send(order)

    def _repeat(self, broken: Broken) -> None:
        self.on_fact(broken)

    async def room(self) -> None:
        """Wait until fewer than ``ROWS_AHEAD`` rows are under way."""
        while self.backlog >= ROWS_AHEAD:
            waiting = self._loop.create_future()
            self._waiting.append(waiting)
            await waiting

    def _deliver(self, fact: Fact) -> None:
        if isinstance(fact, Broken):
            self._forget_sent()
            self.broken = fact
        else:
            self.backlog -= self._sent.popleft()[1]
        if self.backlog < ROWS_AHEAD:
            self._wake()
        self.on_fact(fact)

    def _forget_sent(self) -> None:
        self._sent.clear()
        self.backlog = 0

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()

    def _died(self) -> None:
        """The writer ended without having been told to."""
        if self.broken is None:
            token = self._sent[0][0] if self._sent else NOTHING_DONE
            self._deliver(Broken(token, 0, b"", "writing"))

    async def close(self) -> None:
        """Wait until all orders are carried out, then end the writer."""
        if not self._closing:
            self._closing = True
            await self._end()

    async def cancel(self) -> None:
        """End the writer after the order that it is at; those after it are dropped without a fact."""
        self._closing = True
        await self._stop()
        self._forget_sent()
        self._wake()

    @abstractmethod
    def _send(self, order: Order) -> None: ...

    @abstractmethod
    async def _end(self) -> None: ...

    @abstractmethod
    async def _stop(self) -> None: ...


class InlineWriter(Writer):
    """Carries out orders in the event loop, one at a turn."""

    def __init__(self, root: bytes, spared: frozenset[bytes], arena: Arena | None) -> None:
        super().__init__()
        self._writer = TreeWriter(root, spared, None if arena is None else arena.view)
        self._orders: deque[Order] = deque()
        self._scheduled = False

    def _send(self, order: Order) -> None:
        self._orders.append(order)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self._orders and self.broken is None:
            fact = self._writer.carry_out(self._orders.popleft())
            if self._orders:
                self._scheduled = True
                self._loop.call_soon(self._turn)
            if fact is not None:
                self._deliver(fact)

    async def _end(self) -> None:
        while self._orders and self.broken is None:
            self._turn()
        self._writer.close()

    async def _stop(self) -> None:
        self._orders.clear()
        self._writer.close()


@contextlib.asynccontextmanager
async def open_writer(
    root: bytes, spared: frozenset[bytes], arena: Arena | None, kind: WriterKind = "process"
) -> AsyncIterator[Writer]:
    """A writer for the directory ``root``. When the block ends, all orders have been carried out; if it
    fails, those that had begun. ``spared``: paths below it that are left alone. ``arena``: where the bytes of
    files lie.

    A process is a thread where the arena cannot be shared with one. A directory that cannot be worked in is
    reported like everything else that ends the work, by a ``Broken``.
    """
    # Each starts what it works in; the loop must not load or start what is not asked for.
    if kind == "inline":
        writer: Writer = InlineWriter(root, spared, arena)
    elif kind == "thread" or (arena is not None and arena.fd < 0):
        from p2psync.tree.worker_thread import ThreadWriter  # noqa: PLC0415

        writer = ThreadWriter(root, spared, arena)
    else:
        from p2psync.tree.worker_process import ProcessWriter  # noqa: PLC0415

        writer = await ProcessWriter.start(root, spared, arena)
    try:
        yield writer
        await writer.close()
    except BaseException:
        await writer.cancel()
        raise


def rows_of(order: Order) -> int:
    """How much work an order is, in rows, at least one."""
    match order:
        case MakeFiles() | SetAttributes():
            rows = len(order.files)
        case MakeLinks():
            rows = len(order.links)
        case WriteObject():
            rows = len(order.parts)
        case FinishObject():
            rows = len(order.targets)
        case Land():
            rows = len(order.landings)
        case Remove():
            rows = len(order.names)
        case DressDirectories():
            rows = len(order.directories)
        case _:
            rows = 1
    return max(rows, 1)


def _ignore(_: Fact) -> None:
    return

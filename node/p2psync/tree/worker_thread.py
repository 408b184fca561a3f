"""A writer in a thread of this process."""

from __future__ import annotations

import threading
from collections import deque
from queue import SimpleQueue

from p2psync.arena import Arena
from p2psync.tree.maker import LOCK_SECONDS, TreeWriter
from p2psync.tree.orders import Broken, Fact, Order
from p2psync.tree.worker import Writer


class ThreadWriter(Writer):
    """Carries out orders in a thread of its own."""

    def __init__(self, root: bytes, spared: frozenset[bytes], arena: Arena | None) -> None:
        super().__init__()
        view = None if arena is None else arena.view
        self._writer = TreeWriter(root, spared, view, wait=LOCK_SECONDS)
        self._orders: SimpleQueue[Order | None] = SimpleQueue()
        self._facts: deque[Fact] = deque()
        self._dropping = False
        self._ended = self._loop.create_future()
        threading.Thread(target=self._run, name="writer", daemon=True).start()

    def _send(self, order: Order) -> None:
        self._orders.put(order)

    def _run(self) -> None:
        try:
            while (order := self._orders.get()) is not None and not self._dropping:
                fact = self._writer.carry_out(order)
                if fact is not None:
                    self._facts.append(fact)
                    if len(self._facts) == 1:  # Otherwise the loop is on its way to take them.
                        self._loop.call_soon_threadsafe(self._take)
                if isinstance(fact, Broken):
                    break
        finally:
            try:
                self._writer.close()
            finally:
                self._loop.call_soon_threadsafe(self._over)

    def _take(self) -> None:
        while self._facts:
            try:
                self._deliver(self._facts[0])
            finally:
                self._facts.popleft()

    def _over(self) -> None:
        self._take()
        if not self._closing or (self._sent and not self._dropping):
            self._died()
        self._ended.set_result(None)

    async def _end(self) -> None:
        self._orders.put(None)
        await self._ended

    async def _stop(self) -> None:
        self._dropping = True
        self._orders.put(None)
        await self._ended

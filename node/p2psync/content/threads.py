"""Threads for the index and the disk, in which the event loop has done what would hold it up, in turns
(`gate`).

A request may be given up while a thread works for it, when the server is closed. What the thread reads stays
open until it has ended, and what it has opened by then is closed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from typing import Final, ParamSpec, TypeVar

from p2psync.content.debts import Debts
from p2psync.content.gate import Gate
from p2psync.state.off_loop import off_loop, to_its_end
from p2psync.tree.opener import FileContent

INDEX_THREADS: Final = 4
"""Enough to keep a disk busy while another thread waits for the index."""
OWING_THREADS: Final = 1
"""Of these for clients that owe something: more would only share the interpreter with the others."""

P = ParamSpec("P")
T = TypeVar("T")

client_now: Final[ContextVar[str]] = ContextVar("client_now", default="")
"""For whom a task works: a client as ``network.here.client_of`` has it."""


class Threads:
    """The threads of one server. What they do is charged to the client for whom it is done."""

    def __init__(self, debts: Debts) -> None:
        self._debts = debts
        self._pool = ThreadPoolExecutor(INDEX_THREADS, thread_name_prefix="content")
        self._gate = Gate(debts, INDEX_THREADS, OWING_THREADS)

    async def do(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a call returns or raises, made in a thread. Who is cancelled is so when the call has ended."""
        client = client_now.get()
        turn = await self._gate.enter(client)
        took = 0.0

        def charged() -> T:
            nonlocal took
            began = time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                took = time.thread_time() - began
                self._debts.charge(client, took)

        try:
            working = asyncio.get_running_loop().run_in_executor(self._pool, charged)
            return await to_its_end(working, lost=_close)
        finally:
            turn.leave(took)

    def sent(self, count: int) -> None:
        """So many bytes went out to the client for whom this task works."""
        self._debts.charge(client_now.get(), 0.0, count)

    async def close(self) -> None:
        """Begin nothing more; when this returns, nothing is under way."""
        await off_loop(partial(self._pool.shutdown, wait=True, cancel_futures=True))


def _close(result: object) -> None:
    if isinstance(result, FileContent):
        result.close()

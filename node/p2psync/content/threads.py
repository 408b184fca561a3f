"""Threads for the index and the disk, in which the event loop has done what would hold it up.

A request may be given up while a thread works for it, when the server is closed. What the thread reads stays
open until it has ended, and what it has opened by then is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, ParamSpec, TypeVar

from p2psync.state.off_loop import off_loop, to_its_end
from p2psync.tree.opener import FileContent

INDEX_THREADS: Final = 4
"""Enough to keep a disk busy while another thread waits for the index."""

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """The threads of one server."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(INDEX_THREADS, thread_name_prefix="content")

    async def do(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a call returns or raises, made in a thread. Who is cancelled is so when the call has ended."""
        loop = asyncio.get_running_loop()
        working = loop.run_in_executor(self._pool, lambda: call(*args, **kwargs))
        return await to_its_end(working, lost=_close)

    async def close(self) -> None:
        """Begin nothing more; when this returns, nothing is under way."""
        await off_loop(partial(self._pool.shutdown, wait=True, cancel_futures=True))


def _close(result: object) -> None:
    if isinstance(result, FileContent):
        result.close()

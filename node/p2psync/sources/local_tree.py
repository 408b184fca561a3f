"""A source of content that is a directory on this machine: files by their path in the archive. Nothing of it
is believed, since whoever filled it may have been lied to.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from p2psync.errors import NetworkError
from p2psync.sources.orders import Answer, Order, failure, wrong_checks

SCHEME: Final = "file://"
"""How names of such sources begin; the path of the directory follows as it is, from the root on."""


class LocalContent:
    """Files below ``folder``. See ``p2psync.sources.orders.Bulk`` for the methods."""

    spans_max: Final = 1
    by_path: Final = True
    received: Final = 0
    """Nothing comes from a socket."""

    def __init__(self, name: str, memory: memoryview) -> None:
        self.name = name
        self._folder = os.fsencode(name.removeprefix(SCHEME))
        self._memory = memory
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="local tree")
        self._reading: set[asyncio.Task[None]] = set()
        self._under_way: set[int] = set()
        self._cancelled: set[int] = set()
        """Tokens of orders."""

    def ask(self, order: Order, tell: Callable[[Answer], None]) -> None:
        self._under_way.add(order.token)
        task = asyncio.get_running_loop().create_task(self._answer(order, tell))
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _answer(self, order: Order, tell: Callable[[Answer], None]) -> None:
        answer = await asyncio.get_running_loop().run_in_executor(self._thread, self._carry_out, order)
        self._under_way.discard(order.token)
        if order.token in self._cancelled:
            self._cancelled.discard(order.token)
            answer = failure(order, NetworkError(f"{self.name}: the request was given up"))
        tell(answer)

    def _carry_out(self, order: Order) -> Answer:
        begin = order.spans[0].offset
        end = order.spans[-1].offset + order.spans[-1].length
        room = self._memory[order.extent.offset : order.extent.offset + end - begin]
        positions = [-1] * len(order.spans)
        if self._read(order.spans[0].path, order.spans[0].size, begin, room):
            positions = [order.extent.offset + span.offset - begin for span in order.spans]
        return Answer(order.token, positions, wrong_checks(order, positions, self._memory), 0.0)

    def _read(self, path: bytes | None, size: int | None, offset: int, room: memoryview) -> bool:
        """Fill ``room``; False: no regular file of this size is there, behind no link."""
        if path is None:
            return False
        place = os.path.join(self._folder, path)
        if os.path.realpath(place) != place:
            return False
        try:
            fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or size not in (None, status.st_size):
                return False
            return os.preadv(fd, [room], offset) == len(room)
        except OSError:
            return False
        finally:
            os.close(fd)

    def cancel(self, token: int) -> None:
        if token in self._under_way:
            self._cancelled.add(token)

    async def close(self) -> None:
        await asyncio.gather(*self._reading)
        self._thread.shutdown()


class LocalTree:
    """Such a directory as a source: content, and nothing else."""

    heads: Final = None
    metadata: Final = None
    tracker: Final = None
    others: Final[Collection[str]] = ()
    has_files: Final = True
    received: Final = 0

    def __init__(self, name: str, memory: memoryview) -> None:
        self.name = name
        self.content = LocalContent(name, memory)

    async def close(self) -> None:
        await self.content.close()

"""A source that is a directory on this machine: files by their path in the archive, and perhaps static files
with its metadata. Nothing of it is believed, since whoever filled it may have been lied to.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from p2psync.errors import NetworkError
from p2psync.format.pack import FOLDERS
from p2psync.sources.interfaces import Heads, Metadata
from p2psync.sources.orders import Answer, Order, failure, wrong_checks
from p2psync.sources.static import StaticFiles
from p2psync.sources.web_files import Part
from p2psync.state.off_loop import off_loop

SCHEME: Final = "file://"
"""How names of such sources begin; the path of the directory follows as it is, from the root on."""


class _File(NamedTuple):
    fd: int
    size: int


@contextlib.contextmanager
def _opened(folder: bytes, path: bytes) -> Iterator[_File | None]:
    """A regular file below ``folder``, no link and behind none; None where there is none."""
    place = os.path.join(folder, path)
    if os.path.realpath(place) != place:
        yield None
        return
    try:
        fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        status = os.fstat(fd)
        yield _File(fd, status.st_size) if stat.S_ISREG(status.st_mode) else None
    finally:
        os.close(fd)


class LocalFiles:
    """Files below the directory, for ``p2psync.sources.static``."""

    pages: Final = False
    received: Final = 0

    def __init__(self, name: str) -> None:
        self.name = name
        self._folder = os.fsencode(name.removeprefix(SCHEME))

    async def get(self, path: str, limit: int) -> bytes | None:
        raw = await off_loop(lambda: self._read(path, 0, limit + 1))
        return None if raw is None or len(raw) > limit else raw

    async def part(self, path: str, offset: int, length: int) -> Part | None:
        raw = await off_loop(lambda: self._read(path, offset, length))
        return None if raw is None else Part(raw, whole=False)

    def _read(self, path: str, offset: int, length: int) -> bytes | None:
        with _opened(self._folder, os.fsencode(path)) as file:
            try:
                return None if file is None else os.pread(file.fd, length, offset)
            except OSError:
                return None


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
        """Fill ``room``; False: no such file of this size is there."""
        if path is None:
            return False
        with _opened(self._folder, path) as file:
            if file is None or size not in (None, file.size):
                return False
            try:
                return os.preadv(file.fd, [room], offset) == len(room)
            except OSError:
                return False

    def cancel(self, token: int) -> None:
        if token in self._under_way:
            self._cancelled.add(token)

    async def close(self) -> None:
        await asyncio.gather(*self._reading)
        self._thread.shutdown()


def _has_more_than_static(folder: bytes) -> bool:
    try:
        return any(os.fsdecode(name) not in FOLDERS for name in os.listdir(folder))
    except OSError:
        return False


class LocalTree:
    """Such a directory as a source."""

    tracker: Final = None
    delta: Final = None
    others: Final[Collection[str]] = ()
    received: Final = 0

    def __init__(self, name: str, memory: memoryview) -> None:
        self.name = name
        self.has_files = _has_more_than_static(os.fsencode(name.removeprefix(SCHEME)))
        self.content = LocalContent(name, memory)
        self._static = StaticFiles(LocalFiles(name))

    @property
    def heads(self) -> Heads:
        return self._static

    @property
    def metadata(self) -> Metadata | None:
        return self._static if self._static.found else None

    async def close(self) -> None:
        await self.content.close()

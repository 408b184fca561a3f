"""Helpers for tests of bulk sources: memory to receive into, orders, and answers to wait for."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from blake3 import blake3

from p2psync.arena import Extent
from p2psync.network.server import Server
from p2psync.sources.http.bulk import BulkThread
from p2psync.sources.node_content import NodeDialect
from p2psync.sources.orders import ROW_HEAD, Answer, Check, Order
from p2psync.sources.source import Span
from p2psync.sources.web_content import WebDialect

MEMORY_BYTES = 16 << 20
UNTOUCHED = 0xA5
"""What the memory is full of before anything is received."""
D = b"\x11" * 32


class Asker:
    """A bulk source and the memory it receives into."""

    def __init__(self, bulk: BulkThread, memory: bytearray) -> None:
        self.bulk = bulk
        self.memory = memory
        self._tokens = itertools.count(1)
        self._room = 0

    def order(self, spans: Sequence[Span], digests: Sequence[bytes] | None = None) -> Order:
        """An order with one check for each span; without ``digests`` for those of no bytes."""
        size = sum(span.length + ROW_HEAD for span in spans)
        extent = Extent(self._room, size)
        self._room += size
        assert self._room <= len(self.memory)
        ids = digests or [b"?" * 32] * len(spans)
        checks = [Check(i, 0, span.length, ids[i]) for i, span in enumerate(spans)]
        return Order(next(self._tokens), list(spans), checks, extent)

    def ask(self, order: Order) -> asyncio.Future[Answer]:
        made: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.bulk.ask(order, made.set_result)
        return made

    async def get(self, *spans: Span, digests: Sequence[bytes] | None = None) -> Answer:
        return await self.ask(self.order(spans, digests))

    def bytes_of(self, answer: Answer, spans: Sequence[Span]) -> list[bytes | None]:
        """What came of each span."""
        return [
            None if at < 0 else bytes(self.memory[at : at + span.length])
            for at, span in zip(answer.positions, spans, strict=True)
        ]


@asynccontextmanager
async def node_bulk(address: str, **options: Any) -> AsyncIterator[Asker]:
    """The bulk side of the node at ``address``."""
    server = Server.peer(address)
    async with _asker(server, NodeDialect(server), options) as made:
        yield made


@asynccontextmanager
async def web_bulk(url: str, **options: Any) -> AsyncIterator[Asker]:
    """The bulk side of the web server at ``url``."""
    server = Server.web(url)
    async with _asker(server, WebDialect(server), options) as made:
        yield made


@asynccontextmanager
async def _asker(
    server: Server, dialect: NodeDialect | WebDialect, options: dict[str, Any]
) -> AsyncIterator[Asker]:
    memory = bytearray([UNTOUCHED]) * MEMORY_BYTES
    settings = {"connect_timeout": 5.0, "idle_timeout": 5.0} | options
    bulk = BulkThread(server, dialect, memoryview(memory), **settings)
    try:
        yield Asker(bulk, memory)
    finally:
        await bulk.close()


def digest(data: bytes) -> bytes:
    return blake3(data).digest()


def threads_and_descriptors() -> set[str]:
    """Those of this process. Some that were there before may go meanwhile; none may come that stays."""
    made = {f"thread {thread.ident} {thread.name}" for thread in threading.enumerate()}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that the list itself was read from
            made.add(os.readlink(f"/proc/self/fd/{number}"))
    return made

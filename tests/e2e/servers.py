"""Servers that stand between p2psync processes in the end-to-end tests, or play one: slow, silent, lying,
recording, hostile.

They run in a thread with an event loop of its own, since tests wait for processes by blocking.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp
from aiohttp import web
from tests.node.simulator import Publisher

from p2psync.content.interface import BytesContent, Found, Taken
from p2psync.content.server import ContentServer
from p2psync.sources.wire import BATCH_PATH, NOT_HERE, ROW_LENGTH, Have, Row
from p2psync_dht import Endpoint, HolderRecord, Identity

T = TypeVar("T")
HOST = "127.0.0.1"
BLOCK = 16 << 10


class Background:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._stack = ExitStack()
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Enter an asynchronous context there until ``close``."""
        made = self.call(manager.__aenter__())
        self._stack.callback(lambda: self.call(manager.__aexit__(None, None, None)))
        return made

    def close(self) -> None:
        self._stack.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@contextmanager
def background() -> Iterator[Background]:
    made = Background()
    try:
        yield made
    finally:
        made.close()


# A TCP proxy.


@dataclass
class Proxy:
    """Passes TCP on to ``target`` (set it before anybody connects), slowly if wanted, and counts."""

    address: str
    target: str = ""
    rate: float | None = None
    """Bytes a second towards clients, over all connections."""
    sent: int = 0
    """Bytes passed to clients."""
    requests: list[str] = field(default_factory=list)
    """The HTTP request lines that passed."""
    _next: float = 0.0

    async def pace(self, size: int) -> None:
        if self.rate is None:
            return
        now = time.monotonic()
        self._next = max(self._next, now) + size / self.rate
        await asyncio.sleep(self._next - now)


@asynccontextmanager
async def proxy(target: str = "", rate: float | None = None, at: str = HOST) -> AsyncIterator[Proxy]:
    """A TCP proxy at a port of its own, of the address ``at``."""
    tasks: set[asyncio.Task[Any]] = set()

    async def downwards(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(BLOCK):
            await made.pace(len(data))
            made.sent += len(data)
            writer.write(data)
            await writer.drain()

    async def upwards(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(BLOCK):
            for line in data.split(b"\r\n"):
                if line.endswith(b" HTTP/1.1"):
                    made.requests.append(line.rpartition(b" ")[0].decode(errors="replace"))
            writer.write(data)
            await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            host, _, port = made.target.rpartition(":")
            to_reader, to_writer = await asyncio.open_connection(host, int(port))
            ways = [
                asyncio.ensure_future(downwards(to_reader, writer)),
                asyncio.ensure_future(upwards(reader, to_writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                to_writer.close()
        writer.close()
        tasks.discard(task)

    server = await asyncio.start_server(serve, at, 0)
    made = Proxy(_address(server), target, rate)
    try:
        yield made
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _address(server: asyncio.Server) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return f"{host}:{port}"


@asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """Accepts connections, reads what comes, never says anything; its address."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while await reader.read(BLOCK):
                pass

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield _address(server)
    finally:
        server.close()
        for writer in writers:
            writer.close()


# A liar in front of an honest node.


def flip(data: bytes) -> bytes:
    """The same, but for one byte in the middle."""
    changed = bytearray(data)
    if changed:
        changed[len(changed) // 2] ^= 1
    return bytes(changed)


def flip_rows(body: bytes) -> bytes:
    """The answer to a batch with one byte of each row flipped."""
    made: list[bytes] = []
    position = 0
    while position < len(body):
        (length,) = struct.unpack_from(">I", body, position)
        made.append(body[position : position + 4])
        position += 4
        if length != NOT_HERE:
            made.append(flip(body[position : position + length]))
            position += length
    return b"".join(made)


@dataclass
class Liar:
    address: str
    lies: int = 0


@asynccontextmanager
async def liar(target: str, *, recipes: bool = False) -> AsyncIterator[Liar]:
    """A content server that sends what the one at ``target`` does, with bytes flipped in every object, and
    in recipes if wanted. It keeps to itself who else has the archive.
    """
    made = Liar("")

    def changed(request: web.Request, body: bytes) -> bytes:
        if request.path == BATCH_PATH:
            made.lies += 1
            return flip_rows(body)
        if "/object/" in request.path or (recipes and "/recipe/" in request.path):
            made.lies += 1
            return flip(body)
        return body

    async def handle(request: web.Request) -> web.Response:
        if request.path.endswith("/holders"):
            return web.Response(body=b"\x90", content_type="application/vnd.msgpack")  # an empty array
        headers = {"Range": request.headers["Range"]} if "Range" in request.headers else {}
        sent = await request.read()
        url = f"http://{target}{request.path_qs}"
        async with session.request(request.method, url, headers=headers, data=sent) as answer:
            body = await answer.read()
            kept = {k: v for k, v in answer.headers.items() if k in ("Content-Type", "Content-Range", "ETag")}
            if answer.status in (200, 206):
                body = changed(request, body)
            return web.Response(status=answer.status, body=body, headers=kept)

    app = web.Application(client_max_size=1 << 20)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    async with aiohttp.ClientSession() as session:
        await runner.setup()
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        made.address = f"{host}:{port}"
        try:
            yield made
        finally:
            await runner.cleanup()


# A node that serves whatever a publisher in memory made.


class MemoryLibrary:
    """A library of what a simulated publisher has, true or not."""

    def __init__(self, publisher: Publisher, asked: Callable[[bytes], None]) -> None:
        self._publisher = publisher
        self._asked = asked

    def rest(self) -> None:
        pass

    def archives(self) -> list[bytes]:
        return [self._publisher.archive]

    def head(self, archive: bytes) -> bytes | None:
        return self._publisher.head.raw if archive == self._publisher.archive else None

    def known_archives(self) -> list[bytes]:
        return self.archives()

    def known_head(self, archive: bytes) -> bytes | None:
        return self.head(archive)

    def put_head(self, archive: bytes, raw: bytes) -> bool:
        return False

    def open(self, digest: bytes) -> BytesContent | None:
        self._asked(digest)
        data = self._publisher.objects.get(digest)
        return None if data is None else BytesContent(data)

    def gather(self, rows: Sequence[Row], room: memoryview) -> Taken:
        lengths: list[int] = []
        at = 0
        for digest, offset, length in rows:
            content = self.open(digest)
            begin = at + ROW_LENGTH.size
            is_here = content is not None and content.read_into(offset, room[begin : begin + length])
            ROW_LENGTH.pack_into(room, at, length if is_here else NOT_HERE)
            lengths.append(ROW_LENGTH.size + (length if is_here else 0))
            at += lengths[-1]
        return Taken(lengths, [None] * len(lengths))

    def recipe(self, digest: bytes) -> bytes | None:
        return self._publisher.recipes.get(digest)

    def have(self, digests: Sequence[bytes]) -> list[Have]:
        return [digest in self._publisher.objects for digest in digests]

    def holders(self, archive: bytes) -> list[bytes]:
        return []

    def mirrors(self, archive: bytes) -> None:
        return None

    def keep_holder(self, archive: bytes, record: HolderRecord, place: Endpoint | None) -> bool:
        return True

    def browse(self, archive: bytes, path: Sequence[bytes]) -> Found | None:
        return None


@dataclass
class Serving:
    """A simulated publisher's node."""

    address: str
    asked: int = 0
    """Objects that were asked for, each time."""


@asynccontextmanager
async def serving(publisher: Publisher) -> AsyncIterator[Serving]:
    """A content server over what ``publisher`` has."""

    def count(_: bytes) -> None:
        made.asked += 1

    made = Serving("")
    key = Identity.generate().public_key
    server = await ContentServer.start(MemoryLibrary(publisher, count), HOST, 0, node_key=key)
    made.address = f"{server.address[0]}:{server.address[1]}"
    try:
        yield made
    finally:
        await server.close()

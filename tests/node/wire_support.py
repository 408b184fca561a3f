"""Helpers for tests of the wire: scripted servers on real sockets, and a content server over a published
tree."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from p2psync.content.counters import Counters
from p2psync.content.library import StateLibrary
from p2psync.content.server import ContentServer
from p2psync.format.listing import Entry
from p2psync.format.url import archive_text
from p2psync.publish import publish
from p2psync.sources.node import PeerSource
from p2psync.state import State
from p2psync_dht import Identity

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Scripted:
    """A server that says what a test wants it to say."""

    host: str
    port: int
    connections: int = 0

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"


@asynccontextmanager
async def scripted(talk: Talk, host: str = "127.0.0.1") -> AsyncIterator[Scripted]:
    """Run ``talk`` for each connection."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await talk(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, host, 0, limit=1 << 20)
    made = Scripted(host, server.sockets[0].getsockname()[1])
    try:
        yield made
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def says(*answers: bytes) -> Talk:
    """Answers one request after another with these bytes, then ends the connection."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()

    return talk


@dataclass
class Served:
    """A published tree and the server that serves it."""

    tree: Path
    state: State
    library: StateLibrary
    server: ContentServer
    archive: bytes
    identity: Identity

    @property
    def address(self) -> str:
        host, port = self.server.address
        return f"{host}:{port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}/{archive_text(self.archive)}"

    async def counted(self, number: int) -> Counters:
        """What is counted once ``number`` bytes are: a thread counts what it sent, perhaps after the client
        has it.
        """
        async with asyncio.timeout(20):
            while self.server.counters.bytes_sent < number:  # noqa: ASYNC110 - counting sets no event
                await asyncio.sleep(0.001)
        return self.server.counters

    def entry(self, path: bytes) -> Entry:
        found = self.library.browse(self.archive, path.split(b"/"))
        assert found is not None
        return found.entry


@asynccontextmanager
async def served(tmp_path: Path, tree: Path, **options: float) -> AsyncIterator[Served]:
    """Publish ``tree`` and serve it."""
    state = State.open(tmp_path / "served-state")
    published = publish(state, tree)
    library = StateLibrary(state)
    identity = state.identity()
    server = await ContentServer.start(
        library,
        "127.0.0.1",
        0,
        node_key=identity.public_key,
        **options,  # type: ignore[arg-type]  # tests pass what the server takes
    )
    try:
        yield Served(tree, state, library, server, published.archive, identity)
    finally:
        await server.close()
        library.close()
        state.close()


@pytest.fixture
async def peer(node: Served) -> AsyncIterator[PeerSource]:
    """A source that takes from the fixture ``node`` of the file."""
    source = PeerSource(node.address)
    yield source
    await source.close()


def program(name: str, package: str) -> str:
    """The path of a program that these tests need; they fail without it."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing; install the Debian package {package}")
    return found


async def run(*command: str | bytes | Path) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end without stopping the loop that serves it."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        out, error = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return subprocess.CompletedProcess(list(command), process.returncode or 0, out, error)

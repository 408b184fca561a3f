"""A proxy for tests, in this process: CONNECT, requests that are handed on, and SOCKS5, by their first
byte. It knows the names of hosts that no resolver knows, and what it was asked for.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

SOCKS = 5


@dataclass
class TestProxy:
    """``hosts``: where a name and port lead to. ``connect``: the answer to CONNECT where it is refused."""

    __test__ = False

    hosts: Mapping[str, str] = field(default_factory=dict)
    """``NAME:PORT`` to the ``HOST:PORT`` that is meant; others are as they are."""
    connect: bytes = b""
    longest: int = 0
    """Bytes that it lets through before it ends a connection, counted anew with each request; 0: all."""
    login: str = ""
    """USER:PASSWORD that is wanted."""
    get_only: int = 0
    """The status that it answers to requests which it is to hand on, and are no GET; 0: it hands them on."""
    cuts: int = 0
    """How often it did so."""
    asked: list[str] = field(default_factory=list)
    """``CONNECT``, ``GET``, ... or ``SOCKS5``, and what for."""
    address: str = ""

    def url(self, scheme: str = "http", login: str = "") -> str:
        return f"{scheme}://{login + '@' if login else ''}{self.address}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            first = await reader.readexactly(1)
            await (self._socks(reader, writer) if first[0] == SOCKS else self._http(first, reader, writer))
        writer.close()

    async def _http(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = first + await reader.readuntil(b"\r\n\r\n")
        method, target = head.split(b" ", 2)[:2]
        self.asked.append(f"{method.decode()} {target.decode()}")
        if self.login and b"\r\nProxy-Authorization: Basic " + self._basic() + b"\r\n" not in head:
            writer.write(
                b"HTTP/1.1 407 Login\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n"
            )
            return
        if method not in (b"CONNECT", b"GET") and self.get_only:
            writer.write(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % self.get_only)
        elif method != b"CONNECT":
            rest = target.removeprefix(b"http://")
            where, slash, path = rest.partition(b"/")
            other = await self._reach(where.decode())
            lines = head.replace(target, slash + path, 1)
            other[1].write(lines)
            await self._carry(reader, writer, *other)
        elif self.connect:
            writer.write(self.connect)
        else:
            other = await self._reach(target.decode())
            writer.write(b"HTTP/1.1 200 Here you are\r\nX: y\r\n\r\n")
            await self._carry(reader, writer, *other)

    def _basic(self) -> bytes:
        return base64.b64encode(self.login.encode())

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        writer.write(bytes([SOCKS, 2 if self.login else 0]))
        if self.login:
            assert 2 in methods
            await reader.readexactly(1)
            said = [await reader.readexactly((await reader.readexactly(1))[0]) for _ in range(2)]
            wrong = b":".join(said).decode() != self.login
            writer.write(bytes([1, wrong]))
            if wrong:
                return
        _, _, _, kind = await reader.readexactly(4)
        size = {1: 4, 4: 16}.get(kind) or (await reader.readexactly(1))[0]
        raw = await reader.readexactly(size)
        host = ".".join(map(str, raw)) if kind == 1 else raw.decode() if kind == 3 else raw.hex()
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append(f"SOCKS5 {host}:{port}")
        if self.connect:
            writer.write(bytes([SOCKS, 2, 0, 1]) + bytes(6))
            return
        other = await self._reach(f"{host}:{port}")
        writer.write(bytes([SOCKS, 0, 0, 1]) + bytes(6))
        await self._carry(reader, writer, *other)

    async def _reach(self, where: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = self.hosts.get(where, where).rpartition(":")
        return await asyncio.open_connection(host, int(port))

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        other_reader: asyncio.StreamReader,
        other_writer: asyncio.StreamWriter,
    ) -> None:
        came = [0]

        async def there() -> None:
            while data := await reader.read(1 << 16):
                came[0] = 0
                other_writer.write(data)
            other_writer.close()

        async def back() -> None:
            while data := await other_reader.read(1 << 16):
                came[0] += len(data)
                if self.longest and came[0] > self.longest:
                    self.cuts += 1
                    break
                writer.write(data)
                await writer.drain()
            writer.close()
            other_writer.close()

        with contextlib.suppress(OSError):
            await asyncio.gather(there(), back())


@contextlib.asynccontextmanager
async def proxy_server(proxy: TestProxy, tls: ssl.SSLContext | None = None) -> AsyncIterator[TestProxy]:
    """``proxy`` at a port of its own; its address is known within."""
    under_way: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    server = await asyncio.start_server(begin, "127.0.0.1", 0, ssl=tls)
    host, port = server.sockets[0].getsockname()[:2]
    proxy.address = f"{'localhost' if tls else host}:{port}"
    try:
        yield proxy
    finally:
        server.close()
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

"""The DHT, asked for those whose UDP does not pass (docs/spec/wire.md). A look-up takes some fifty
datagrams for one request, so they are few at once, fewer for each client, and an answer is kept for a
while.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from p2psync.content.debts import Debts
from p2psync.errors import P2psyncError, UsageError
from p2psync.format.url import parse_archive_text
from p2psync.network.gateways import NOTHING, PATH, encode_records
from p2psync.network.here import client_of
from p2psync.network.protocols import Network
from p2psync.sources.wire import MSGPACK, OCTETS
from p2psync_dht import Head
from p2psync_dht.keys import ID_SIZE

LOOKUPS_MAX: Final = 16
"""Look-ups under way for others."""
LOOKUPS_PER_CLIENT: Final = 2
"""Of these, for one client: a fetch asks for a head and for holders."""
LOOKUP_SECONDS: Final = 5.0
LOOKUP_COST: Final = 0.02
"""Seconds of processor time that one is charged with: what fifty datagrams take."""
KEPT_SECONDS: Final = 20.0
"""Seconds for which an answer is kept: a crowd behind one firewall asks for the same."""
KEPT_MAX: Final = 1024
"""Answers that are kept, of 50 KB at most."""
KEPT_BYTES: Final = 8 << 20
"""Bytes that they may have together."""
BUSY: Final = "too many are asking the DHT by way of this node\n"


class Gateway:
    """Answers for a network, once there is one."""

    def __init__(self, debts: Debts) -> None:
        self._debts = debts
        self.network: Network | None = None
        """Through which is asked; None: nothing is."""
        self._clients: Counter[str] = Counter()
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(f"{PATH}/head/{{archive}}", self.get_head),
            web.get(f"{PATH}/mirrors/{{archive}}", self.get_mirrors_head),
            web.get(f"{PATH}/holders/{{key}}", self.get_holders),
        ]

    async def get_head(self, request: web.Request) -> web.Response:
        return await self._head(request, self._open().get_head)

    async def get_mirrors_head(self, request: web.Request) -> web.Response:
        return await self._head(request, self._open().get_mirrors_head)

    async def _head(
        self, request: web.Request, ask: Callable[[bytes], Awaitable[Head | None]]
    ) -> web.Response:
        try:
            archive = parse_archive_text(request.match_info["archive"])
        except UsageError as error:
            raise web.HTTPNotFound(text=f"{error}\n") from None

        async def look() -> bytes:
            head = await ask(archive)
            return b"" if head is None else head.raw

        return await self._answer(request, look, OCTETS)

    async def get_holders(self, request: web.Request) -> web.Response:
        network = self._open()
        try:
            key = bytes.fromhex(request.match_info["key"])
        except ValueError:
            key = b""
        if len(key) != ID_SIZE or key.hex() != request.match_info["key"]:
            raise web.HTTPNotFound(text=f"a key is {2 * ID_SIZE} hex digits in lower case\n")

        async def look() -> bytes:
            records = await network.get_holders(key)
            return encode_records([record.raw for record in records]) if records else b""

        return await self._answer(request, look, MSGPACK)

    def _open(self) -> Network:
        if self.network is None or not self.network.way.contacts:
            raise web.HTTPNotFound(text="this node does not ask the DHT for others\n")
        return self.network

    async def _answer(
        self, request: web.Request, look: Callable[[], Awaitable[bytes]], kind: str
    ) -> web.Response:
        body = self._remembered(request.path)
        if body is None:
            body = await self._look_up(client_of(request.remote) if request.remote else "", look)
            self._keep(request.path, body)
        headers = {"Cache-Control": "no-store"}
        if not body:
            return web.Response(status=NOTHING, headers=headers)
        return web.Response(body=body, content_type=kind, headers=headers)

    async def _look_up(self, client: str, look: Callable[[], Awaitable[bytes]]) -> bytes:
        if self._clients.total() >= LOOKUPS_MAX or self._clients[client] >= LOOKUPS_PER_CLIENT:
            raise web.HTTPServiceUnavailable(text=BUSY, headers={"Retry-After": "1"})
        self._debts.charge(client, LOOKUP_COST)
        self._clients[client] += 1
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                return await look()
        except (TimeoutError, P2psyncError):
            raise web.HTTPServiceUnavailable(text="the DHT did not answer in time\n") from None
        finally:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]

    def _remembered(self, path: str) -> bytes | None:
        known = self._kept.get(path)
        return known[1] if known is not None and known[0] > time.monotonic() else None

    def _keep(self, path: str, body: bytes) -> None:
        self._forget(path)
        self._kept[path] = time.monotonic() + KEPT_SECONDS, body
        self._bytes += len(body)
        while len(self._kept) > KEPT_MAX or self._bytes > KEPT_BYTES:
            self._forget(next(iter(self._kept)))

    def _forget(self, path: str) -> None:
        known = self._kept.pop(path, None)
        if known is not None:
            self._bytes -= len(known[1])

"""Small files, and parts of files, of a plain web server, over the event loop: wherever it leads to, and
whether it knows Range or not. Bulk content is ``web_content``'s.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, NamedTuple, Unpack
from urllib.parse import urlsplit

from p2psync.errors import NetworkError
from p2psync.network.server import Server
from p2psync.sources.http.head import ResponseHead
from p2psync.sources.http.pool import Pool, Settings
from p2psync.sources.http.sinks import PartSink
from p2psync.sources.web_answers import (
    BUSY,
    GONE,
    REDIRECTS,
    REDIRECTS_MAX,
    base_of,
    duplicates,
    elsewhere,
    later,
    url_path,
)

WHOLE_MAX: Final = 16 << 20
"""Bytes of a file that is taken whole from a server that ignores Range."""
SERVERS_MAX: Final = 4
"""Servers that one leads to whose connections are kept."""
DUPLICATES_MAX: Final = 16
"""Other trees that are remembered of those that a server names."""
HTML: Final = "text/html"


class Part(NamedTuple):
    """What came of a file."""

    data: bytes
    whole: bool
    """It is all of the file, whatever was asked for."""


class WebFiles:
    """Files below ``url``."""

    def __init__(self, url: str, **settings: Unpack[Settings]) -> None:
        """Raises UsageError: it is no URL of a web mirror."""
        Server.web(url)
        self.name = url
        self.base = f"{url.rstrip('/')}/"
        """Where the files are: another URL than was given if that leads there."""
        self.others: dict[str, None] = {}
        """URLs of trees that have the same files, in the server's words."""
        self.pages = False
        """It has answered with a web page where there was to be a file."""
        self._settings = settings
        self._pools: dict[Server, Pool] = {}
        self._received = 0

    @property
    def received(self) -> int:
        """Every byte read from its sockets so far."""
        return self._received + sum(pool.received for pool in self._pools.values())

    async def get(self, path: str, limit: int) -> bytes | None:
        """A file of at most ``limit`` bytes; None: it is not there, or longer. Raises NetworkError,
        FormatError.
        """
        sink = PartSink(0, limit, limit)
        head = await self._ask(path, sink, [])
        return None if sink.body is None or head.status != 200 else bytes(sink.body)

    async def part(self, path: str, offset: int, length: int) -> Part | None:
        """``length`` bytes of a file from ``offset`` on, or fewer where it ends, or all of it; None: it is
        not there, or the server does not give parts of a file of this size. Raises NetworkError,
        FormatError.
        """
        sink = PartSink(offset, length, WHOLE_MAX)
        await self._ask(path, sink, [("Range", f"bytes={offset}-{offset + length - 1}")])
        return None if sink.body is None else Part(bytes(sink.body), sink.whole)

    async def close(self) -> None:
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))

    async def _ask(self, path: str, sink: PartSink, headers: list[tuple[str, str]]) -> ResponseHead:
        url = self.base + path
        for _ in range(REDIRECTS_MAX + 1):
            parts = urlsplit(url)
            server = Server.web(f"{parts.scheme}://{parts.netloc}/")
            target = (url_path(url) or "/") + (f"?{parts.query}" if parts.query else "")
            pool = await self._pool(server._replace(name=self.name))
            head = await pool.request("GET", target, sink, headers=headers)
            if head.status not in REDIRECTS:
                return self._judged(url, path, head)
            location = head.headers.get("location", "")
            led = elsewhere(url, location)
            if led is None:
                raise NetworkError(f"{self.name}: leads to {location[:200]!r}, which is not followed")
            url = led
        raise NetworkError(f"{self.name}: leads round in circles, or further than {REDIRECTS_MAX} times")

    def _judged(self, url: str, path: str, head: ResponseHead) -> ResponseHead:
        """The answer for the file at ``path``, which came from ``url``."""
        if head.status in BUSY:
            raise later(self.name, head, time.time())
        if head.status in (200, 206):
            self.pages |= head.headers.get("content-type", "").lower().startswith(HTML)
            for other in duplicates(url, path, head):
                if len(self.others) < DUPLICATES_MAX and other != self.base:
                    self.others[other] = None
            self.base = base_of(url, path) or self.base
        elif head.status not in GONE:
            raise NetworkError(f"{self.name}: answered with HTTP status {head.status}")
        return head

    async def _pool(self, server: Server) -> Pool:
        if server not in self._pools:
            while len(self._pools) >= SERVERS_MAX:
                pool = self._pools.pop(next(iter(self._pools)))
                self._received += pool.received
                await pool.close()
            self._pools[server] = Pool(server, **self._settings)
        return self._pools[server]

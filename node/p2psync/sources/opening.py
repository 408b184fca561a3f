"""From the name of a source to what it offers. The only place that knows which names mean which kind."""

from __future__ import annotations

import asyncio
import ssl
from typing import NamedTuple

from p2psync.sources.http.bulk import BulkThread
from p2psync.sources.http.dialect import Dialect
from p2psync.sources.http.rate import RateLimiter
from p2psync.sources.http.server import CONNECT_TIMEOUT, IDLE_TIMEOUT, Server
from p2psync.sources.interfaces import Metadata, Tracker
from p2psync.sources.node import PeerSource
from p2psync.sources.node_content import NodeDialect
from p2psync.sources.orders import Bulk
from p2psync.sources.web_content import WebDialect


class SourceSettings(NamedTuple):
    """What all sources of a run have in common. Times in seconds."""

    memory: memoryview
    """Of the arena that content is received into; empty where only metadata is wanted."""
    limiter: RateLimiter | None = None
    connect_timeout: float = CONNECT_TIMEOUT
    idle_timeout: float = IDLE_TIMEOUT
    ssl_context: ssl.SSLContext | None = None
    """In place of the default one, which verifies certificates and names."""


class OpenSource:
    """One source. See ``p2psync.sources.interfaces.Source`` for the methods.

    Open costs nothing: connections and threads come with the first question.
    """

    def __init__(self, content: Bulk, node: PeerSource | None) -> None:
        """``node`` answers for all but content, over the event loop; None: this is a plain web server."""
        self.content = content
        self._node = node

    @property
    def name(self) -> str:
        return self.content.name

    @property
    def received(self) -> int:
        return self.content.received + (0 if self._node is None else self._node.received)

    @property
    def metadata(self) -> Metadata | None:
        return self._node

    @property
    def tracker(self) -> Tracker | None:
        return self._node

    async def close(self) -> None:
        await asyncio.gather(self.content.close(), *([] if self._node is None else [self._node.close()]))


def open_source(name: str, settings: SourceSettings) -> OpenSource:
    """The source of that name: ``HOST:PORT`` of a node, or the URL of a web server with the archive's tree.

    Raises UsageError for a name that is neither.
    """
    dialect: Dialect
    node: PeerSource | None = None
    if name.startswith(("http://", "https://")):
        server = Server.web(name)
        dialect = WebDialect(server)
    else:
        server = Server.peer(name)
        node = PeerSource(
            name,
            limiter=settings.limiter,
            connect_timeout=settings.connect_timeout,
            idle_timeout=settings.idle_timeout,
            ssl_context=settings.ssl_context,
        )
        dialect = NodeDialect(server)
    content = BulkThread(
        server,
        dialect,
        settings.memory,
        limiter=settings.limiter,
        connect_timeout=settings.connect_timeout,
        idle_timeout=settings.idle_timeout,
        ssl_context=settings.ssl_context,
    )
    return OpenSource(content, node)

"""From the name of a source to what it offers. The only place that knows which names mean which kind."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

from p2psync.sources.http.bulk import BulkThread
from p2psync.sources.http.dialect import Dialect
from p2psync.sources.http.rate import RateLimiter
from p2psync.sources.http.server import CONNECT_TIMEOUT, IDLE_TIMEOUT, Server
from p2psync.sources.interfaces import Metadata, Tracker
from p2psync.sources.node import PeerSource
from p2psync.sources.node_content import NodeDialect
from p2psync.sources.orders import Bulk
from p2psync.sources.web_content import WebDialect


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """What all sources of a run have in common. Times in seconds."""

    memory: memoryview
    """Of the arena that content is received into; empty where only metadata is wanted."""
    limiter: RateLimiter | None = None
    connect_timeout: float = CONNECT_TIMEOUT
    idle_timeout: float = IDLE_TIMEOUT
    ssl_context: ssl.SSLContext | None = None
    """In place of the default one, which verifies certificates and names."""


class OpenSource:
    """One source: content, and metadata and a tracker where it has them.

    Open costs nothing: connections and threads come with the first question.
    """

    def __init__(
        self,
        content: Bulk,
        metadata: Metadata | None = None,
        tracker: Tracker | None = None,
        control: PeerSource | None = None,
    ) -> None:
        """``control``: who carries the metadata and the tracker, to be counted and closed."""
        self.content = content
        self.metadata = metadata
        self.tracker = tracker
        self._control = control

    @property
    def name(self) -> str:
        """``HOST:PORT`` or the URL, as people are shown it."""
        return self.content.name

    @property
    def received(self) -> int:
        """Every byte read from its sockets so far."""
        return self.content.received + (self._control.received if self._control is not None else 0)

    async def close(self) -> None:
        """Close its connections and end its thread; what is under way is answered with an error."""
        if self._control is None:
            await self.content.close()
        else:
            await asyncio.gather(self.content.close(), self._control.close())


def open_source(name: str, settings: SourceSettings) -> OpenSource:
    """The source of that name: ``HOST:PORT`` of a node, or the URL of a web server with the archive's tree.

    Raises UsageError for a name that is neither.
    """
    if name.startswith(("http://", "https://")):
        server = Server.web(name)
        return OpenSource(_content(server, WebDialect(server), settings))
    server = Server.peer(name)
    node = PeerSource(
        name,
        limiter=settings.limiter,
        connect_timeout=settings.connect_timeout,
        idle_timeout=settings.idle_timeout,
    )
    return OpenSource(_content(server, NodeDialect(server), settings), node, node, node)


def _content(server: Server, dialect: Dialect, settings: SourceSettings) -> BulkThread:
    return BulkThread(
        server,
        dialect,
        settings.memory,
        limiter=settings.limiter,
        connect_timeout=settings.connect_timeout,
        idle_timeout=settings.idle_timeout,
        ssl_context=settings.ssl_context,
    )

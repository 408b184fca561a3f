"""From the name of a source to what it offers. The only place that knows which names mean which kind."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from p2psync.network.server import CONNECT_TIMEOUT, IDLE_TIMEOUT, Server
from p2psync.sources.http.bulk import BulkThread
from p2psync.sources.http.dialect import Dialect
from p2psync.sources.http.pool import Settings
from p2psync.sources.http.rate import RateLimiter
from p2psync.sources.interfaces import Heads, Metadata, Tracker
from p2psync.sources.local_tree import SCHEME as LOCAL
from p2psync.sources.local_tree import LocalTree
from p2psync.sources.node import PeerSource
from p2psync.sources.node_content import NodeDialect
from p2psync.sources.orders import Bulk
from p2psync.sources.static import StaticFiles
from p2psync.sources.web_content import WebDialect
from p2psync.sources.web_files import WebFiles


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
    """A node. See ``p2psync.sources.interfaces.Source`` for the methods.

    Open costs nothing: connections and threads come with the first question.
    """

    others: Final[Collection[str]] = ()
    has_files: Final = True

    def __init__(self, content: Bulk, node: PeerSource) -> None:
        """``node`` answers for all but content, over the event loop."""
        self.content = content
        self._node = node

    @property
    def name(self) -> str:
        return self.content.name

    @property
    def received(self) -> int:
        return self.content.received + self._node.received

    @property
    def heads(self) -> Heads:
        return self._node

    @property
    def metadata(self) -> Metadata:
        return self._node

    @property
    def tracker(self) -> Tracker:
        return self._node

    async def close(self) -> None:
        await asyncio.gather(self.content.close(), self._node.close())


class WebSource:
    """A web server with the archive's tree, and perhaps static files beside it."""

    tracker: Final = None

    def __init__(
        self, url: str, files: WebFiles, static: StaticFiles, open_content: Callable[[str], Bulk]
    ) -> None:
        """``open_content`` makes the content of the tree at a URL."""
        self.name = url
        self._files = files
        self._static = static
        self._open_content = open_content
        self._base = files.base
        self._contents = [open_content(url)]

    @property
    def content(self) -> Bulk:
        if self._base != self._files.base:  # It leads there, as was seen when it was asked for the head.
            self._base = self._files.base
            self._contents.append(self._open_content(self._base))
        return self._contents[-1]

    @property
    def received(self) -> int:
        return self._files.received + sum(content.received for content in self._contents)

    @property
    def has_files(self) -> bool:
        return not self._static.is_alone

    @property
    def heads(self) -> Heads:
        return self._static

    @property
    def metadata(self) -> Metadata | None:
        return self._static if self._static.found else None

    @property
    def others(self) -> Collection[str]:
        return self._files.others

    async def close(self) -> None:
        await asyncio.gather(self._files.close(), *(content.close() for content in self._contents))


def open_source(name: str, settings: SourceSettings) -> OpenSource | WebSource | LocalTree:
    """The source of that name: ``HOST:PORT`` of a node, the URL of a web server with the archive's tree, or
    ``file://`` and a directory that has it.

    Raises UsageError for a name that is none.
    """
    if name.startswith(LOCAL):
        return LocalTree(name, settings.memory)
    asking: Settings = {
        "limiter": settings.limiter,
        "connect_timeout": settings.connect_timeout,
        "idle_timeout": settings.idle_timeout,
        "ssl_context": settings.ssl_context,
    }

    def bulk(server: Server, dialect: Dialect) -> BulkThread:
        return BulkThread(
            server,
            dialect,
            settings.memory,
            limiter=settings.limiter,
            connect_timeout=settings.connect_timeout,
            idle_timeout=settings.idle_timeout,
            ssl_context=settings.ssl_context,
        )

    if not name.startswith(("http://", "https://")):
        server = Server.peer(name)
        return OpenSource(bulk(server, NodeDialect(server)), PeerSource(name, **asking))
    files = WebFiles(name, **asking)
    static = StaticFiles(files)

    def content(url: str) -> BulkThread:
        server = Server.web(url)
        return bulk(server, WebDialect(server, files.others, lambda: not static.is_alone))

    return WebSource(name, files, static, content)

"""From the name of a source to what it offers. The only place that knows which names mean which kind."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from p2psync.errors import FormatError, NetworkError
from p2psync.network.server import CONNECT_TIMEOUT, IDLE_TIMEOUT, Server, is_root
from p2psync.sources.compress import Compress, Gains, Packing
from p2psync.sources.http.bulk import BulkThread
from p2psync.sources.http.dialect import Dialect
from p2psync.sources.http.pool import Settings
from p2psync.sources.http.rate import RateLimiter
from p2psync.sources.interfaces import Delta, Heads, Metadata, Tracker
from p2psync.sources.local_tree import SCHEME as LOCAL
from p2psync.sources.local_tree import LocalTree
from p2psync.sources.node import PeerSource
from p2psync.sources.node_content import NodeDialect
from p2psync.sources.orders import Bulk
from p2psync.sources.posts import Posts
from p2psync.sources.source import NotHere
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
    compress: Compress = Compress.OFF
    gains: Gains | None = None
    """What compressing has gained of late."""


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
    def delta(self) -> Delta:
        return self._node

    @property
    def tracker(self) -> Tracker:
        return self._node

    async def close(self) -> None:
        await asyncio.gather(self.content.close(), self._node.close())


class WebSource:
    """A web server with the archive's tree, and perhaps static files beside it."""

    tracker: Final = None
    delta: Final = None

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


class UrlSource:
    """A server at a URL without a path: a node, or a web server with the archive's tree at its root. Who it
    is is seen when it is asked for the head; until then it is taken for the latter.
    """

    def __init__(self, node: OpenSource, web: WebSource) -> None:
        self.name = web.name
        self._node = node
        self._web = web
        self._is_node: bool | None = None

    @property
    def _chosen(self) -> OpenSource | WebSource:
        return self._node if self._is_node else self._web

    @property
    def received(self) -> int:
        return self._node.received + self._web.received

    @property
    def content(self) -> Bulk:
        return self._chosen.content

    @property
    def heads(self) -> Heads:
        return self

    @property
    def metadata(self) -> Metadata | None:
        return self._chosen.metadata

    @property
    def delta(self) -> Delta | None:
        return self._chosen.delta

    @property
    def tracker(self) -> Tracker | None:
        return self._chosen.tracker

    @property
    def others(self) -> Collection[str]:
        return self._chosen.others

    @property
    def has_files(self) -> bool:
        return self._chosen.has_files

    async def head(self, archive: bytes) -> bytes | None:
        raw = await self._chosen.heads.head(archive)
        if raw is not None or self._is_node is not None or self._web.metadata is not None:
            return raw
        self._is_node = await self._find_out()
        return await self._node.heads.head(archive) if self._is_node else None

    async def earlier(self, archive: bytes) -> list[bytes]:
        return await self._chosen.heads.earlier(archive)

    async def _find_out(self) -> bool | None:
        """Whether a node says who it is; None: nothing can be said."""
        try:
            await self._node.tracker.info()
        except (NotHere, FormatError):
            return False
        except NetworkError:  # It is silent, or a web server that answers in another way.
            return None
        return True

    async def close(self) -> None:
        await asyncio.gather(self._node.close(), self._web.close())


def open_source(name: str, settings: SourceSettings) -> OpenSource | WebSource | UrlSource | LocalTree:
    """The source of that name: ``HOST:PORT`` of a node, the URL of a web server with the archive's tree or,
    at its root, of a node, or ``file://`` and a directory that has it.

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
            packing=Packing(settings.compress, settings.gains),
        )

    def node() -> OpenSource:
        server, posts = Server.node(name), Posts()
        return OpenSource(bulk(server, NodeDialect(server, posts)), PeerSource(name, posts, **asking))

    if not name.startswith(("http://", "https://")):
        return node()
    files = WebFiles(name, **asking)
    static = StaticFiles(files)

    def content(url: str) -> BulkThread:
        server = Server.web(url)
        return bulk(server, WebDialect(server, files.others, lambda: not static.is_alone))

    web = WebSource(name, files, static, content)
    return UrlSource(node(), web) if is_root(name) else web

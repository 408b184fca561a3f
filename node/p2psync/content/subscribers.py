"""Requests for a head that wait until there is a newer one: so whoever mirrors an archive hears of a new
snapshot at once, also from behind a firewall that lets nobody in.

One that waits costs its connection and some hundred bytes. Its place is the first to be given to somebody
else where connections run short (``admission``), and it counts as no request that is being worked on
(``gate``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from contextvars import Context
from typing import Final

from p2psync.content.admission import ticket_now
from p2psync.content.gate import pass_now
from p2psync.content.interface import Library
from p2psync.content.threads import Threads
from p2psync.errors import P2psyncError
from p2psync.network.here import client_of
from p2psync_dht.networks import Caps, NetworkQuota

WAITING_MAX: Final = 512
"""Requests that wait at once: half of the connections that a node has, so that as many are left for content.
"""
WAITING_PER_CLIENT: Final = 32
"""Of these, such as one client may have: half of its connections."""
WAITING_PER_NETWORK: Final = Caps(client=WAITING_PER_CLIENT, site=64, provider=128)
"""The same for public networks: four providers fill what there is."""
LOOK: Final = 0.5
"""Seconds between looks at the index while somebody waits, where nobody says that something is new."""


class _Waiting:
    """One request."""

    def __init__(self, tag: str, gone: Callable[[], bool]) -> None:
        self.tag = tag
        self.gone = gone
        self.answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

    def tell(self, raw: bytes | None) -> None:
        if not self.answer.done():
            self.answer.set_result(raw)


class Subscribers:
    """Those who wait for newer heads of what a library has."""

    def __init__(self, library: Library, threads: Threads, tag_of: Callable[[bytes], str]) -> None:
        """``tag_of`` names a head, as ETag does."""
        self._library = library
        self._threads = threads
        self._tag_of = tag_of
        self._waiting: dict[bytes, set[_Waiting]] = {}
        self._clients: Counter[str] = Counter()
        self._quota = NetworkQuota(caps=WAITING_PER_NETWORK)
        self._news = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def count(self) -> int:
        """How many wait."""
        return self._clients.total()

    def look(self) -> None:
        """Something may be new."""
        self._news.set()

    async def newer(
        self, archive: bytes, tag: str, seconds: float, address: str, gone: Callable[[], bool]
    ) -> tuple[bytes | None, bool]:
        """Wait for ``seconds`` at most until the head of an archive has another name than ``tag``: the
        head, or None, and whether there was a place to wait at. ``gone`` says whether the client at the IP
        ``address`` still is there.
        """
        client = client_of(address)
        if self._closed or self.count >= WAITING_MAX or self._clients[client] >= WAITING_PER_CLIENT:
            return None, False
        if not self._quota.admit(address):
            return None, False
        self._clients[client] += 1
        waiting = _Waiting(tag, gone)
        self._waiting.setdefault(archive, set()).add(waiting)
        if (passed := pass_now.get()) is not None:
            passed.leave()
        if (ticket := ticket_now.get()) is not None:
            ticket.waits()
        try:
            if self._looking is None or self._looking.done():
                # In a context of its own: what it reads is charged to none of those who wait.
                self._looking = Context().run(asyncio.ensure_future, self._look())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    return await waiting.answer, True
            return None, True
        finally:
            if ticket is not None:
                ticket.busy()
            self._forget(archive, waiting, client, address)

    def _forget(self, archive: bytes, waiting: _Waiting, client: str, address: str) -> None:
        others = self._waiting[archive]
        others.discard(waiting)
        if not others:
            del self._waiting[archive]
        self._clients -= Counter({client: 1})
        self._quota.release(address)

    def close(self) -> None:
        """Let nobody wait any more."""
        self._closed = True
        for waiting in [each for some in self._waiting.values() for each in some]:
            waiting.tell(None)
        if self._looking is not None:
            self._looking.cancel()

    async def _look(self) -> None:
        """While anybody waits."""
        while self._waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._news.wait()
            self._news.clear()
            for archive in list(self._waiting):
                # An index that cannot be read now is asked again, and those who wait have their time-outs.
                with contextlib.suppress(P2psyncError):
                    await self._look_at(archive)

    async def _look_at(self, archive: bytes) -> None:
        raw = self._library.known_head(archive) or await self._threads.do(self._library.head, archive)
        tag = None if raw is None else self._tag_of(raw)
        for waiting in list(self._waiting.get(archive, ())):
            if tag != waiting.tag or waiting.gone():
                waiting.tell(raw)

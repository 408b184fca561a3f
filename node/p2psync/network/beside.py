"""The network for a command that looks up and fetches: a DHT node opened beside its work.

Whoever was given a source begins with that, and the DHT comes when it comes. Where nothing leads into it but
those sources themselves, whose UDP may well be silent, it is opened only when a fetch lasts: many are over
before a node would have met anybody, and what such a node takes to load would be half of their time.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Collection, Sequence
from typing import TYPE_CHECKING, Final

from p2psync.errors import NetworkError
from p2psync.network.egress import egress
from p2psync.network.fallback import PATIENCE, UdpMark, WithGateways
from p2psync.network.gateways import Gateways, gateways_of
from p2psync.network.seeds.query import split
from p2psync.network.way import Way
from p2psync.state import State
from p2psync.text import duration
from p2psync_dht import Head, HolderRecord

if TYPE_CHECKING:
    from p2psync.network.dht import Entry
    from p2psync.network.protocols import Network

log = logging.getLogger(__name__)

HINTS_PAUSE: Final = 0.4
"""Seconds until sources that were given are tried as nodes of the DHT, if nothing else leads into it."""


@contextlib.asynccontextmanager
async def open_network(
    state: State,
    archive: bytes,
    *,
    bootstrap: Sequence[str] = (),
    peers: Sequence[str] = (),
    gateways: Sequence[str] = (),
    has_source: bool = False,
) -> AsyncIterator[Network]:
    """The network, joined by ``bootstrap`` and what the state directory remembers, or by ``peers``:
    HOST:PORT of nodes given as sources. With ``has_source`` it may still be on its way: whoever asks
    something then waits for it. ``gateways``: further places (HOST:PORT, URLs) of nodes that may ask the
    DHT for us, as those of ``bootstrap`` and ``peers`` may. Where UDP may not be used (`egress`), or was
    found not to pass, they alone are asked.

    Raises:
        NetworkError: UDP cannot be used. UsageError: a bootstrap address is none. TrustError: there are only
        seeds that must not be believed.
    """
    way, mark = egress(), UdpMark(state.path)
    servers = gateways_of([*split(bootstrap)[0], *gateways, *peers])
    if not way.udp:
        way.say_no_udp()
        yield Gateways(servers, Way(closed=way.why_no_udp))
        return
    age = mark.age(time.time()) if servers and not way.wants_udp else None
    if age is not None:
        why = f"UDP did not pass {duration(age)} ago, and the DHT is not asked by it (--udp tries again)"
        yield Gateways(servers, Way(closed=why))
        return
    made = Beside(state, archive, bootstrap, peers, Gateways(servers, Way()), mark)
    try:
        if not has_source:
            await made.entered()
        yield made
    finally:
        await made.close()


class Beside:
    """A `protocols.Network` that is opened by a task of its own. Made on a running event loop; see
    `open_network`.
    """

    def __init__(
        self,
        state: State,
        archive: bytes,
        bootstrap: Sequence[str],
        peers: Sequence[str],
        gateways: Gateways,
        mark: UdpMark,
    ) -> None:
        self._state = state
        self._archive = archive
        self._bootstrap = bootstrap
        self._peers = peers
        self._gateways = gateways
        self._mark = mark
        self._network: Network | None = None
        self._sure = bool(bootstrap) or not peers or state.contacts_path.exists()
        self._open = asyncio.Event()
        self._closing = asyncio.Event()
        self._awaited = False
        self._task = asyncio.ensure_future(self._run())

    @property
    def reachable(self) -> bool:
        return self._sure if self._network is None else self._network.reachable

    @property
    def way(self) -> Way:
        return Way() if self._network is None else self._network.way

    @property
    def received(self) -> int:
        return 0 if self._network is None else self._network.received

    def observed(self, family: socket.AddressFamily) -> str | None:
        return None if self._network is None else self._network.observed(family)

    async def entered(self) -> Network:
        """The network, once it is open. Raises as `open_network`."""
        self._awaited = True
        opened = asyncio.ensure_future(self._open.wait())
        try:
            await asyncio.wait([opened, self._task], return_when=asyncio.FIRST_COMPLETED)
        finally:
            opened.cancel()
        if self._network is None:
            self._task.result()
            raise NetworkError("the command ended before it had joined the network")
        return self._network

    async def get_head(self, archive: bytes) -> Head | None:
        return await (await self.entered()).get_head(archive)

    async def get_mirrors_head(self, archive: bytes) -> Head | None:
        return await (await self.entered()).get_mirrors_head(archive)

    async def put_head(self, raw: bytes) -> int:
        return await (await self.entered()).put_head(raw)

    async def refresh_head(self, raw: bytes) -> int:
        return await (await self.entered()).refresh_head(raw)

    async def get_holders(self, key: bytes) -> list[HolderRecord]:
        return await (await self.entered()).get_holders(key)

    async def announce(self, raws: Collection[bytes]) -> dict[bytes, int]:
        return await (await self.entered()).announce(raws)

    async def close(self) -> None:
        """Leave the network, or give up the way to it; say why that failed if nobody else has heard of it."""
        self._closing.set()
        if self._network is None:
            self._task.cancel()
        for outcome in await asyncio.gather(self._task, return_exceptions=True):
            if isinstance(outcome, Exception) and not self._awaited:
                log.warning("the network could not be joined: %s", outcome)

    async def _wait_for(self, entry: Entry) -> None:
        """Until the way in was found, or for as long as there is no better one. Raises as `Entry.entered`."""
        entering = asyncio.ensure_future(entry.entered())
        try:
            await asyncio.wait([entering], timeout=PATIENCE if self._gateways.reachable else None)
            if entering.done():
                entering.result()
        finally:
            entering.cancel()

    async def _run(self) -> None:
        if not self._sure:
            await asyncio.sleep(HINTS_PAUSE)
        # kademlia and what it needs: loaded here, off the loop, and not by those whom a source is enough for.
        began = time.monotonic()
        dht = await asyncio.to_thread(importlib.import_module, "p2psync.network.dht")
        async with dht.start_dht(
            self._state, bootstrap=self._bootstrap, peers=self._peers, archive=self._archive
        ) as entry:
            if entry.sure:
                await self._wait_for(entry)
            self._network = WithGateways(entry.network, self._gateways, self._mark, began)
            self._open.set()
            await self._closing.wait()

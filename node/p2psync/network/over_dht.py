"""The network's two protocols, spoken by a DHT node of one's own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection, Sequence
from typing import Final

from p2psync.config import DEFAULT_PORT
from p2psync.format.url import host_and_port, host_port
from p2psync.network.way import Way
from p2psync_dht import DhtNode, Head, HolderRecord
from p2psync_dht.server import SILENT

SWEEP_FROM: Final = 8
"""Holder records from which on one sweep of the key space is cheaper than a lookup for each."""


def way_of(node: DhtNode, bootstrap: Sequence[str]) -> Way:
    """What came of a node's way into the network, with ``bootstrap`` (HOST[:PORT]) given to join by."""
    given = dict.fromkeys(host_and_port(text, DEFAULT_PORT) for text in bootstrap)
    unheard = {address: what for address, what in node.unheard.items() if address in given}
    said = {address: f"{host_port(*address)} {what}" for address, what in unheard.items()}
    return Way(
        len(node.contacts()),
        tuple(said[address] for address in said if unheard[address] == SILENT),
        tuple(said[address] for address in said if unheard[address] != SILENT),
        len(node.remembered),
    )


class DhtNetwork:
    """A `protocols.Network` over a node.

    While the node is on its way into the network (``entering``), what is announced waits for the end of that:
    only then is it known what the node is. Questions wait as well, if the way is ``sure`` to lead there;
    where it is a guess, whoever is known by then is asked.
    """

    def __init__(
        self,
        node: DhtNode,
        entering: asyncio.Future[None] | None = None,
        *,
        sure: bool = True,
        bootstrap: Sequence[str] = (),
    ) -> None:
        """``bootstrap``: HOST[:PORT] that were given to join by, for messages."""
        self._bootstrap = bootstrap
        self._node = node
        self._entering = entering
        self._sure = sure

    @property
    def reachable(self) -> bool:
        return self._is_waited_for() or bool(self._node.contacts())

    @property
    def way(self) -> Way:
        return way_of(self._node, self._bootstrap)

    @property
    def received(self) -> int:
        return self._node.counters.bytes_in

    async def get_head(self, archive: bytes) -> Head | None:
        if self._is_waited_for():
            await self._entered()
        return (await self._node.get_head(archive)).best

    async def get_mirrors_head(self, archive: bytes) -> Head | None:
        if self._is_waited_for():
            await self._entered()
        return (await self._node.get_mirrors_head(archive)).best

    async def put_head(self, raw: bytes) -> int:
        await self._entered()
        return await self._node.put_head(raw)

    async def refresh_head(self, raw: bytes) -> int:
        await self._entered()
        return await self._node.refresh_head(raw)

    async def get_holders(self, key: bytes) -> list[HolderRecord]:
        if self._is_waited_for():
            await self._entered()
        return await self._node.get_holders(key)

    async def announce(self, raws: Collection[bytes]) -> dict[bytes, int]:
        await self._entered()
        if len(raws) >= SWEEP_FROM:
            return await self._node.announce_sweep(raws)
        copies = await asyncio.gather(*(self._node.put_holder(raw) for raw in raws))
        return dict(zip(raws, copies, strict=True))

    def observed(self, family: socket.AddressFamily) -> str | None:
        """Our IP address of a family as most other nodes see it; None before anybody answered."""
        seen = self._node.observed_address(family)
        return None if seen is None else seen[0]

    def _is_waited_for(self) -> bool:
        return self._sure and self._entering is not None and not self._entering.done()

    async def _entered(self) -> None:
        """Wait without ending the way in when the waiting ends. Raises what it failed with."""
        if self._entering is not None:
            await asyncio.wait([self._entering])
            self._entering.result()

"""Heads and holders of one archive, as the DHT has them."""

from __future__ import annotations

import asyncio
from typing import Final

from p2psync.network.protocols import Network
from p2psync.network.way import Way
from p2psync_dht import holders_key

SHARED_FOR: Final = 5.0
"""Seconds for which whoever asks for holders gets the answer that was asked for before: the head is looked
for among them, and right after that the content.
"""


class InDht:
    """What ``network`` knows of ``archive``."""

    def __init__(self, network: Network, archive: bytes) -> None:
        self._network = network
        self._archive = archive
        self._asking: asyncio.Task[list[bytes]] | None = None
        self._asked_at = 0.0

    @property
    def reachable(self) -> bool:
        """Whether it is worth asking."""
        return self._network.reachable

    @property
    def way(self) -> Way:
        """What came of the way into it."""
        return self._network.way

    async def head(self) -> bytes | None:
        """The newest head that was found, as it was signed."""
        head = await self._network.get_head(self._archive)
        return None if head is None else head.raw

    async def holders(self) -> list[bytes]:
        """Holder records as they were signed; asked for once by all who want them within ``SHARED_FOR``."""
        now = asyncio.get_running_loop().time()
        if self._asking is None or (self._asking.done() and now - self._asked_at >= SHARED_FOR):
            self._asked_at = now
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask(self) -> list[bytes]:
        return [record.raw for record in await self._network.get_holders(holders_key(self._archive))]

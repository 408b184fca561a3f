"""Heads and holders of one archive, as the DHT has them."""

from __future__ import annotations

from p2psync.network.protocols import Network
from p2psync.network.way import Way
from p2psync_dht import holders_key


class InDht:
    """What ``network`` knows of ``archive``."""

    def __init__(self, network: Network, archive: bytes) -> None:
        self._network = network
        self._archive = archive

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
        """Holder records as they were signed."""
        return [record.raw for record in await self._network.get_holders(holders_key(self._archive))]

"""The network where UDP may not be used: nobody is known there, and nothing is told. It says once that it is
so.
"""

from __future__ import annotations

from collections.abc import Collection

from p2psync.network.way import Way
from p2psync_dht import Head, HolderRecord


class Without:
    """A `protocols.Network` that is closed. ``why``: a clause for people."""

    reachable = False
    received = 0

    def __init__(self, why: str) -> None:
        self.way = Way(closed=why)

    async def get_head(self, archive: bytes) -> Head | None:
        return None

    async def get_mirrors_head(self, archive: bytes) -> Head | None:
        return None

    async def put_head(self, raw: bytes) -> int:
        return 0

    async def refresh_head(self, raw: bytes) -> int:
        return 0

    async def get_holders(self, key: bytes) -> list[HolderRecord]:
        return []

    async def announce(self, raws: Collection[bytes]) -> dict[bytes, int]:
        return dict.fromkeys(raws, 0)

"""What a content server gives to others, told now and then to whoever watches."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from p2psync.events import Teller

if TYPE_CHECKING:
    from p2psync.content.server import ContentServer

LOOK: Final = 0.5
"""Seconds between looks: as fast as a person reads figures."""


async def tell_served(server: ContentServer, tell: Teller) -> None:
    """Tell what ``server`` sends, and to how many, until cancelled."""
    told = connected = 0
    try:
        while True:
            sent, peers = server.counters.bytes_sent, server.peers
            if (sent, peers) != (told, connected):
                tell.served(sent - told, peers)
                told, connected = sent, peers
            await asyncio.sleep(LOOK)
    finally:
        tell.served(server.counters.bytes_sent - told, 0)

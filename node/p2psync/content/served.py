"""What a content server gives to others, told now and then to whoever watches."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from p2psync.events import Teller

if TYPE_CHECKING:
    from p2psync.content.server import ContentServer

LOOK: Final = 0.5
"""Seconds between looks: as fast as a person reads figures."""
LOOK_AT_REST: Final = 2.0
"""Seconds until the next look where nobody was served: a node at rest wakes as seldom as it can."""


async def tell_served(server: ContentServer, tell: Teller) -> None:
    """Tell what ``server`` sends, and to how many, until cancelled."""
    told = connected = 0
    try:
        while True:
            sent, peers = server.counters.bytes_sent, server.peers
            if (sent, peers) != (told, connected):
                tell.served(sent - told, peers)
                told, connected, pause = sent, peers, LOOK
            else:
                pause = LOOK if connected else LOOK_AT_REST
            await asyncio.sleep(pause)
    finally:
        tell.served(server.counters.bytes_sent - told, 0)

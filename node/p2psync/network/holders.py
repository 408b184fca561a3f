"""Where the other holders of an archive are, as far as the state directory knows."""

from __future__ import annotations

import time
from typing import Final

from p2psync.state import State

ASKED_HOLDERS: Final = 16
"""Known holders that are asked: a few of them answer, and some are gone."""


def holder_addresses(state: State, archive: bytes) -> list[str]:
    """HOST:PORT of some of the other holders that are known of an archive, those whom this machine has dealt
    with first. A node's DHT has the port number of its content server.
    """
    own_key = state.identity().public_key
    others = [each for each in state.holders.ordered(archive, time.time()) if each.node_key != own_key]
    chosen = others[:ASKED_HOLDERS]
    return [str(endpoint) for each in chosen for endpoint in each.endpoints if endpoint.ip]

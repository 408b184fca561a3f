"""Where the other holders of an archive are, as far as the state directory knows."""

from __future__ import annotations

import time
from typing import Final

from p2psync.state import State

ASKED_HOLDERS: Final = 16
"""Known holders that are asked: a few of them answer, and some are gone."""


def holder_addresses(state: State, archive: bytes) -> list[str]:
    """HOST:PORT of some of the other holders that are known of an archive. A node's DHT has the port number
    of its content server.
    """
    made: list[str] = []
    own_key = state.identity().public_key
    for record in state.holders.present(archive, time.time())[:ASKED_HOLDERS]:
        if record.node_key != own_key:
            made += [str(endpoint) for endpoint in record.endpoints if endpoint.ip]
    return made

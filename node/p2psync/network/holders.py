"""Where the other holders of an archive are, as far as the state directory knows."""

from __future__ import annotations

import time
from typing import Final

from p2psync.state import State

ASKED_HOLDERS: Final = 16
"""Known holders that are asked: a few of them answer, and some are gone."""


def holder_places(state: State, archive: bytes) -> list[tuple[str, bytes]]:
    """HOST:PORT of some of the other holders that are known of an archive, and the key that is said to be
    there; those whom this machine has dealt with first.
    """
    own_key = state.identity().public_key
    others = [each for each in state.holders.ordered(archive, time.time()) if each.node_key != own_key]
    chosen = others[:ASKED_HOLDERS]
    return [(str(end), each.node_key) for each in chosen for end in each.endpoints if end.ip]


def holder_addresses(state: State, archive: bytes) -> list[str]:
    """The addresses alone. A node's DHT has the port number of its content server."""
    return [name for name, _ in holder_places(state, archive)]

"""Taking back what this node said of an archive: a later holder record of it says that it holds nothing.

It is handed to whoever may have the one before: to nodes of the DHT, and to other holders over HTTP. That
is an attempt: who is not reached forgets the record when it expires. When it is time to leave is decided by
those who announce, a node or a fetch, and the DHT is theirs to tell.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Final

from p2psync.errors import P2psyncError
from p2psync.sources.node import PeerSource
from p2psync.sources.source import Busy, NotHere, Unreachable
from p2psync.state import State
from p2psync.trust import Standing
from p2psync_dht import HolderRecord, Identity, RecordError

LEAVE: Final = 2.0
"""Seconds that whoever ends may spend on saying so: nobody waits longer for a program to stop."""
HEARERS_MAX: Final = 64
"""Holders of an archive that hear of it directly; the others ask the DHT, or one of these."""
AT_ONCE: Final = 64
"""Nodes that are told at the same time, each of all archives that concern it over one connection."""
CONNECT_TIMEOUT: Final = 1.0
"""Seconds for one of them to accept a connection. The attempt is to be over before ``LEAVE`` is."""
ANSWER_TIMEOUT: Final = 2.0
"""Seconds for one of them to say anything: a node that goes on has more to do than to wait for it."""

Withdrawn = tuple[bytes, HolderRecord]
"""An archive, and what takes back this node's record of it."""


def take_back(state: State, identity: Identity, archive: bytes, now: float) -> HolderRecord | None:
    """Replace this node's record of an archive in the state directory by its withdrawal, which is to be told.

    None where there is nothing to take back: nothing was said, or it was taken back, or has expired at
    ``now`` (Unix seconds). Writes to the state directory: not for an event loop.
    """
    said = state.holders.of_node(archive, identity.public_key)
    if said is None or said.withdrawn:
        return None
    with contextlib.suppress(RecordError):  # It has expired.
        record = said.withdraw(identity, int(now))
        state.holders.keep_own(archive, record, now)
        return record
    return None


def others(state: State, own_key: bytes, archive: bytes, now: float) -> list[str]:
    """HOST:PORT of the other holders of an archive that say that they are there at ``now``, as far as this
    machine has seen that they are: nobody is written to on a stranger's word.
    """
    records = [record for record in state.holders.ordered(archive, now) if record.node_key != own_key]
    standings = state.nodes.standings(records, now)
    met = (record for record in records if standings[record.node_key] != Standing.TOLD)
    return [str(endpoint) for record in met for endpoint in record.endpoints if endpoint.ip]


async def tell(told: Mapping[str, Sequence[Withdrawn]]) -> None:
    """Hand withdrawals to the nodes at some addresses (HOST:PORT). Who does not answer hears nothing."""
    slots = asyncio.Semaphore(AT_ONCE)
    await asyncio.gather(*(_tell_one(slots, address, given) for address, given in told.items()))


async def _tell_one(slots: asyncio.Semaphore, address: str, given: Sequence[Withdrawn]) -> None:
    async with slots:
        source = PeerSource(
            address, connections=1, connect_timeout=CONNECT_TIMEOUT, idle_timeout=ANSWER_TIMEOUT
        )
        try:
            for archive, record in given:
                with contextlib.suppress(NotHere, Busy, Unreachable):  # It speaks; the next may be welcome.
                    await source.nominate(archive, record.raw)
        except P2psyncError:
            return
        finally:
            await source.close()

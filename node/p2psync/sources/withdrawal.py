"""Taking back what this node said of an archive: a later holder record of it says that it holds nothing.

It is handed to whoever may have the one before: to nodes of the DHT, and to other holders over HTTP. That
is an attempt: who is not reached forgets the record when it expires. When it is time to leave is decided by
those who announce: a node, a fetch, or a command that gives an archive up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final

from p2psync.errors import P2psyncError
from p2psync.network.protocols import Holders
from p2psync.sources.node import PeerSource
from p2psync.state import State
from p2psync.state.off_loop import off_loop
from p2psync_dht import HolderRecord, HolderRole, Identity, RecordError

LEAVE: Final = 2.0
"""Seconds that whoever ends may spend on saying so: nobody waits longer for a program to stop."""
TOLD_MAX: Final = 64
"""Holders that hear of it directly; the others ask the DHT, or one of these."""
CONNECT_TIMEOUT: Final = 1.0
"""Seconds for one of them to accept a connection. The attempt is to be over before ``LEAVE`` is."""


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
        state.holders.keep(archive, record)
        return record
    return None


def others(state: State, own_key: bytes, archive: bytes, now: float) -> list[str]:
    """HOST:PORT of the other holders of an archive that say that they are there at ``now``."""
    present = (record for record in state.holders.present(archive, now) if record.node_key != own_key)
    return [str(endpoint) for record in present for endpoint in record.endpoints if endpoint.ip]


async def tell(archive: bytes, record: HolderRecord, addresses: Iterable[str]) -> None:
    """Hand a withdrawal to the nodes at some addresses (HOST:PORT). Who does not answer hears nothing."""
    chosen = list(dict.fromkeys(addresses))[:TOLD_MAX]
    await asyncio.gather(*(_tell_one(archive, record, address) for address in chosen))


async def _tell_one(archive: bytes, record: HolderRecord, address: str) -> None:
    source = PeerSource(address, connections=1, connect_timeout=CONNECT_TIMEOUT)
    try:
        with contextlib.suppress(P2psyncError):
            await source.nominate(archive, record.raw)
    finally:
        await source.close()


async def withdraw(state: State, network: Holders, archive: bytes, now: float) -> bool:
    """Take back what this state directory's node said of an archive, everywhere; whether there was anything.

    For a process that gives an archive up while no node runs on the state directory: a node sees by itself
    what is there no more. It takes as long as the network lets it, which its caller bounds. Raises
    NetworkError: there is no way into the DHT; the other holders have been told.
    """
    identity = await off_loop(state.identity)
    record = await off_loop(lambda: take_back(state, identity, archive, now))
    if record is None:
        return False
    telling = [tell(archive, record, others(state, identity.public_key, archive, now))]
    if record.role is not HolderRole.PEER:  # A fetch is announced to its sources alone.
        telling.append(_announce(network, record))
    for outcome in await asyncio.gather(*telling, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
    return True


async def _announce(network: Holders, record: HolderRecord) -> None:
    await network.announce([record.raw])

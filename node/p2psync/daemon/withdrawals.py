"""What a node has said and holds no longer: it takes that back, of one archive or, at its end, of all.

How a record is taken back is ``sources.withdrawal``'s; what is said is ``announce``'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from p2psync.daemon.gossip import Gossip
from p2psync.errors import P2psyncError
from p2psync.network.protocols import Network
from p2psync.sources.withdrawal import LEAVE, take_back
from p2psync.state import State
from p2psync.state.off_loop import off_loop
from p2psync_dht import HolderRecord, HolderRole, Identity, RecordError

RETRY: Final = 15.0
"""Seconds until the DHT is told again where nobody took it, and so much more each time: the network may be
down."""
PART: Final = 256
"""Archives that are taken back at once: signing and noting that takes some 0.1 s."""


@dataclass(slots=True)
class _Untaken:
    """A withdrawal that no other node of the DHT has taken yet."""

    record: HolderRecord
    at: float
    tried: int = 1


class Withdrawals:
    """Takes back the holder records of one node."""

    def __init__(self, state: State, identity: Identity, network: Network, gossip: Gossip) -> None:
        self._state = state
        self._identity = identity
        self._network = network
        self._gossip = gossip
        self._recalled = False
        self._said: dict[bytes, bool] = {}
        """Archives of which others may have a record of ours, and whether nodes of the DHT are among them."""
        self._untaken: dict[bytes, _Untaken] = {}

    def note(self, archive: bytes, *, in_dht: bool) -> None:
        """A record of an archive is given to others from now on."""
        self._said[archive] = in_dht or self._said.get(archive, False)
        self._untaken.pop(archive, None)

    async def round(self, here: Collection[bytes]) -> list[float]:
        """Take back what was said of archives that are not ``here`` any more; when there is more to do, by
        the monotonic clock.
        """
        if not self._recalled:
            self._recalled = True
            await off_loop(self._recall)
        await self._withdraw([archive for archive in self._said if archive not in here])
        for archive, untaken in list(self._untaken.items()):
            if archive in here or untaken.record.expires <= time.time():
                del self._untaken[archive]
            elif untaken.at <= time.monotonic():
                await self._announce({archive: untaken.record}, untaken.tried + 1)
        return [untaken.at for untaken in self._untaken.values()]

    async def leave(self) -> None:
        """Take back everything, since the node ends: an attempt of ``LEAVE`` seconds."""
        with contextlib.suppress(TimeoutError, P2psyncError, RecordError, OSError, sqlite3.Error):
            async with asyncio.timeout(LEAVE):
                await self._withdraw(list(self._said))

    def _recall(self) -> None:
        """Note what an earlier run said and, being killed, did not take back: it may be here no more."""
        own_key = self._identity.public_key
        for archive in self._state.holders.archives_of(own_key):
            record = self._state.holders.of_node(archive, own_key)
            # A fetch tells its sources itself; nothing of it is in the DHT.
            if record is not None and not record.withdrawn and record.role is not HolderRole.PEER:
                self._said.setdefault(archive, True)

    async def _withdraw(self, archives: Collection[bytes]) -> None:
        waiting = list(archives)
        while waiting:
            # Signing does not stop when time is up, so it is done in parts.
            part, waiting = waiting[:PART], waiting[PART:]
            records = await off_loop(partial(self._take_back, part))
            said = {archive: self._said.pop(archive) for archive in part}
            in_dht = {archive: record for archive, record in records.items() if said[archive]}
            await asyncio.gather(self._announce(in_dht, 1), self._gossip.withdraw(records))

    def _take_back(self, archives: Iterable[bytes]) -> dict[bytes, HolderRecord]:
        """The withdrawals of archives, as the list that is kept here has them from now on."""
        now = time.time()
        with self._state.transaction():
            made = {archive: take_back(self._state, self._identity, archive, now) for archive in archives}
        return {archive: record for archive, record in made.items() if record is not None}

    async def _announce(self, records: dict[bytes, HolderRecord], tried: int) -> None:
        """Tell the DHT, and note what nobody there took."""
        if not records:
            return
        again = time.monotonic() + RETRY * tried
        self._untaken |= {archive: _Untaken(record, again, tried) for archive, record in records.items()}
        copies = await self._network.announce([record.raw for record in records.values()])
        for archive, record in records.items():
            if copies.get(record.raw, 0) > 1:  # One copy is our own.
                self._untaken.pop(archive, None)

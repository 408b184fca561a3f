"""Talking to the holders that are known, directly: new heads, our own record, and their lists in exchange."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import Final

from p2psync.errors import P2psyncError
from p2psync.fetch.share import local_address
from p2psync.format.url import host_and_port
from p2psync.state import State
from p2psync.transfer.peer import PeerSource
from p2psync.transfer.source import Unreachable
from p2psync_dht import Endpoint, HolderRecord, RecordError, holders_key
from p2psync_dht.contact import Scope, pack_ip, scope_of

TOLD_MAX: Final = 16
"""Holders that are told directly of a new head or of us; the others learn from them and from the DHT."""
TELL_TIMEOUT: Final = 10.0
UNREACHED_MIN: Final = 2
"""Holders that could not reach us, and none that could, before we believe that nobody can."""


class Gossip:
    """What a node and the other holders of its archives tell each other."""

    def __init__(self, state: State, own_key: bytes, rng: random.Random) -> None:
        self._state = state
        self._own_key = own_key
        self._random = rng
        self._unreached: set[str] = set()

    @property
    def unreachable(self) -> bool:
        """Whether others tried to reach our content server, and none succeeded."""
        return len(self._unreached) >= UNREACHED_MIN

    def known(self, archive: bytes) -> list[HolderRecord]:
        made: list[HolderRecord] = []
        for raw in self._state.holders.for_archive(archive, time.time()):
            with contextlib.suppress(RecordError):
                record = HolderRecord.decode(raw)
                if record.node_key != self._own_key:
                    made.append(record)
        return made

    def keep(self, archive: bytes, record: HolderRecord) -> None:
        self._state.holders.put(
            archive, record.raw, node_key=record.node_key, issued=record.issued, expires=record.expires
        )

    async def tell(self, archive: bytes, head: bytes | None, record: HolderRecord | None) -> None:
        """Tell some of the known holders directly, and take their lists in exchange."""
        known = self.known(archive)
        told = self._random.sample(known, min(TOLD_MAX, len(known)))
        async with asyncio.TaskGroup() as group:
            for endpoint in dict.fromkeys(e for holder in told for e in holder.endpoints if e.ip):
                group.create_task(self._try_to_tell(archive, str(endpoint), head, record))

    async def _try_to_tell(
        self, archive: bytes, address: str, head: bytes | None, record: HolderRecord | None
    ) -> None:
        with contextlib.suppress(P2psyncError, TimeoutError):
            async with asyncio.timeout(TELL_TIMEOUT):
                await self._tell_one(archive, address, head, record)

    async def _tell_one(
        self, archive: bytes, address: str, head: bytes | None, record: HolderRecord | None
    ) -> None:
        source = PeerSource(address, connections=1)
        try:
            if head is not None:
                await source.put_head(archive, head)
            if record is not None and _sees_us_at(record.endpoints[0], address, local_address(address)):
                await self._nominate(source, archive, record)
            for raw in await source.holders(archive):
                self._take(archive, raw)
        finally:
            await source.close()

    async def _nominate(self, source: PeerSource, archive: bytes, record: HolderRecord) -> None:
        """Hand in our record: the other node tries to reach us before it takes it."""
        try:
            await source.nominate(archive, record.raw)
        except Unreachable:
            self._unreached.add(source.name)
            raise
        self._unreached.clear()

    def _take(self, archive: bytes, raw: bytes) -> None:
        """Keep what another holder says of a third, if that one has signed it."""
        with contextlib.suppress(RecordError):
            record = HolderRecord.decode(raw)
            if record.key == holders_key(archive) and record.node_key != self._own_key:
                record.verify(int(time.time()))
                self.keep(archive, record)


def _sees_us_at(ours: Endpoint, other: str, local: str | None) -> bool:
    """Whether the node at ``other`` (HOST:PORT) takes us for ``ours``, when we reach it from ``local``: it
    refuses endpoints that are not the address that it sees.

    That is our own address, or that of a NAT between us.
    """
    if local is None or ours.ip is None:
        return False
    there = host_and_port(other)[0]
    return local == ours.ip or (
        scope_of(pack_ip(local)) == Scope.PRIVATE
        and scope_of(pack_ip(ours.ip)) == Scope.GLOBAL
        and scope_of(pack_ip(there)) == Scope.GLOBAL
    )

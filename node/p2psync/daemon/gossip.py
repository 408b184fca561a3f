"""Talking to the holders that are known, directly: new heads, our own record, and their lists in exchange.

Whom a list names is told as well: two mirrors that have only their origin in common then know each other, and
need it no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from p2psync.daemon.reached import Reached
from p2psync.errors import NetworkError, P2psyncError
from p2psync.format.url import host_and_port, host_port
from p2psync.network.here import family_of, local_address
from p2psync.sources.node import PeerSource
from p2psync.sources.source import Busy, Unreachable
from p2psync.sources.withdrawal import HEARERS_MAX, Withdrawn, others, tell
from p2psync.state import State
from p2psync.state.off_loop import off_loop
from p2psync_dht import Endpoint, HolderRecord, RecordError, holders_key
from p2psync_dht.scope import Scope, pack_ip, scope_of

TOLD_MAX: Final = 16
"""Holders that are told directly of a new head or of us; the others learn from them and from the DHT."""
TELL_TIMEOUT: Final = 10.0
CONNECT_TIMEOUT: Final = 3.0
"""Seconds for one of them to accept a connection: the DHT is told next, and some are dead."""
BUSY_TRIES: Final = 4
"""How often a record is handed to a node that checks another of our address (beside us behind a NAT, say)."""
BUSY_PAUSE: Final = 0.3
"""Seconds until the second try, give or take half; doubles each time."""
GIVEN_MAX: Final = 8
"""Of these, given by hand for a mirror, and so told first."""
TOOK_MAX: Final = 256
"""Those who have our record of an archive that are remembered: as many hear of its end as there is time for.
"""
ASKING_MAX: Final = 16
"""Archives that are taken back at once up to which also those are told who learned of us from others: there
is little time, and to read who they are takes milliseconds for each archive.
"""
SILENT_MAX: Final = 4096
"""Addresses that did not answer that are remembered; strangers could name any number."""


class Gossip:
    """What a node and the other holders of its archives tell each other."""

    def __init__(self, state: State, own_key: bytes, rng: random.Random) -> None:
        self._state = state
        self._own_key = own_key
        self._random = rng
        self.reached = Reached()
        self._took: dict[bytes, dict[str, None]] = {}
        """By archive: who was handed our record, HOST:PORT, the latest last."""
        self.silent: set[str] = set()
        """Holders, HOST:PORT, that did not answer when they were told something last."""

    def known(self, archive: bytes) -> list[HolderRecord]:
        """The other holders of an archive that say that they are there."""
        present = self._state.holders.present(archive, time.time())
        return [record for record in present if record.node_key != self._own_key]

    async def keep(self, archive: bytes, records: Sequence[HolderRecord]) -> None:
        """Remember holders of an archive."""
        if records:
            await off_loop(partial(self._put, archive, records))

    def _put(self, archive: bytes, records: Iterable[HolderRecord]) -> None:
        with self._state.transaction():
            for record in records:
                self._state.holders.keep(archive, record)

    async def tell(
        self,
        archive: bytes,
        head: bytes | None,
        record: HolderRecord | None,
        given: Iterable[str] = (),
    ) -> None:
        """Tell those at ``given`` (HOST:PORT), some of the known holders and those whom they name directly,
        and take their lists in exchange.
        """
        told: set[str] = set()

        def begin(addresses: Sequence[str]) -> None:
            if told.isdisjoint(addresses) and len(told) < TOLD_MAX:
                told.update(addresses)
                group.create_task(self._try_to_tell(archive, addresses, head, record, begin))

        # A node takes only records with the address that it sees, so it is to see one of these kinds.
        families = {family_of(endpoint.ip) for endpoint in record.endpoints} if record is not None else set()
        family = families.pop() if len(families) == 1 else socket.AF_UNSPEC
        named = list(dict.fromkeys(given))[:GIVEN_MAX]
        known = self.known(archive)
        async with asyncio.TaskGroup() as group:
            for name in named:
                group.create_task(self._find(name, family, begin))
            for holder in self._random.sample(known, min(TOLD_MAX - len(named), len(known))):
                begin(_addresses(holder))

    async def _find(
        self, name: str, family: socket.AddressFamily, found: Callable[[Sequence[str]], None]
    ) -> None:
        """Find the address of somebody given by hand, by which it is known again in the lists of others."""
        with contextlib.suppress(P2psyncError, OSError, TimeoutError):
            async with asyncio.timeout(TELL_TIMEOUT):
                found([await _numeric(name, family)])

    async def local_endpoint(self, archive: bytes, given: Iterable[str], port: int) -> Endpoint | None:
        """Where we are for our neighbours: our own address on the way to somebody given or known, where
        that is an address of the same scope (RFC 4007), and so what that one sees.
        """
        known = [address for holder in self.known(archive) for address in _addresses(holder)]
        for name in [*given, *known][:TOLD_MAX]:
            with contextlib.suppress(P2psyncError, OSError, ValueError):
                address = await _numeric(name)
                local = await local_address(address)
                if local is not None and _scope(local) == _scope(host_and_port(address)[0]):
                    return Endpoint(local, port)
        return None

    async def _try_to_tell(
        self,
        archive: bytes,
        addresses: Sequence[str],
        head: bytes | None,
        record: HolderRecord | None,
        named: Callable[[Sequence[str]], None],
    ) -> None:
        """Tell one node, at the first of its addresses that answers."""
        for address in addresses:
            self.silent.discard(address)
            try:
                async with asyncio.timeout(TELL_TIMEOUT):
                    for holder in await self._tell_one(archive, address, head, record):
                        named(_addresses(holder))
                return
            except (Busy, Unreachable):  # It said so itself.
                return
            except (NetworkError, TimeoutError):
                self.silent = self.silent if len(self.silent) < SILENT_MAX else set()
                self.silent.add(address)
            except P2psyncError:
                return

    async def _tell_one(
        self, archive: bytes, address: str, head: bytes | None, record: HolderRecord | None
    ) -> list[HolderRecord]:
        """Tell one node; the holders that it names."""
        source = PeerSource(address, connections=1, connect_timeout=CONNECT_TIMEOUT)
        try:
            if head is not None:
                await source.put_head(archive, head)
            if record is not None:
                local = await local_address(address)
                if any(_sees_us_at(endpoint, address, local) for endpoint in record.endpoints):
                    self._note_taken(archive, address)
                    await self._nominate(source, archive, record)
            return await off_loop(partial(self._take, archive, await source.holders(archive)))
        finally:
            await source.close()

    async def _nominate(self, source: PeerSource, archive: bytes, record: HolderRecord) -> None:
        """Hand in our record: the other node tries to reach us before it takes it."""
        for tried in range(BUSY_TRIES):
            await asyncio.sleep(BUSY_PAUSE * (2**tried - 1) * self._random.uniform(0.5, 1.5))
            with contextlib.suppress(Busy):
                try:
                    await source.nominate(archive, record.raw)
                except Unreachable:
                    self.reached.failed(source.name)
                    raise
                self.reached.succeeded(source.name)
                return

    def _note_taken(self, archive: bytes, address: str) -> None:
        """Note before it is asked who has our record: whoever is stopped meanwhile does not know."""
        took = self._took.setdefault(archive, {})
        took.pop(address, None)
        took[address] = None
        if len(took) > TOOK_MAX:
            del took[next(iter(took))]

    async def withdraw(self, records: Mapping[bytes, HolderRecord]) -> None:
        """Tell those who have our record of archives, as far as is known, that it is taken back."""
        named = {archive: [*reversed(self._took.pop(archive, {}))] for archive in records}
        if len(records) <= ASKING_MAX:
            for archive in records:
                known = await off_loop(partial(others, self._state, self._own_key, archive, time.time()))
                self._random.shuffle(known)
                named[archive] += known
        told: dict[str, list[Withdrawn]] = {}
        for archive, record in records.items():
            for address in list(dict.fromkeys(named[archive]))[:HEARERS_MAX]:
                told.setdefault(address, []).append((archive, record))
        await tell(told)

    def _take(self, archive: bytes, raws: Iterable[bytes]) -> list[HolderRecord]:
        """Keep what another holder says of others, if those have signed it."""
        made: list[HolderRecord] = []
        for raw in raws:
            with contextlib.suppress(RecordError):
                record = HolderRecord.decode(raw)
                if record.key == holders_key(archive) and record.node_key != self._own_key:
                    record.verify(int(time.time()))
                    made.append(record)
        self._put(archive, made)
        return made


def _addresses(holder: HolderRecord) -> list[str]:
    return [str(endpoint) for endpoint in holder.endpoints if endpoint.ip]


async def _numeric(name: str, family: socket.AddressFamily = socket.AF_UNSPEC) -> str:
    """HOST:PORT with an IP address for the host. Raises OSError: it has none; UsageError."""
    host, port = host_and_port(name)
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    return host_port(str(found[0][4][0]), port)


def _scope(ip: str) -> Scope:
    return scope_of(pack_ip(ip))


def _sees_us_at(ours: Endpoint, other: str, local: str | None) -> bool:
    """Whether the node at ``other`` (HOST:PORT) takes us for ``ours``, when we reach it from ``local``: it
    refuses endpoints that are not the address that it sees.

    That is our own address, or that of a NAT between us.
    """
    there = host_and_port(other)[0]
    if local is None or family_of(ours.ip) != family_of(there):
        return False
    return local == ours.ip or (
        _scope(local) == Scope.PRIVATE and _scope(ours.ip) == Scope.GLOBAL and _scope(there) == Scope.GLOBAL
    )

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
from p2psync.daemon.recommend import keep_list
from p2psync.errors import NetworkError, P2psyncError
from p2psync.format.url import host_and_port, host_port
from p2psync.network.here import family_of, local_address
from p2psync.network.resolve import resolve
from p2psync.network.told import may_look_at
from p2psync.sources.node import PeerSource
from p2psync.sources.source import Busy, Unreachable
from p2psync.sources.withdrawal import HEARERS_MAX, Withdrawn, others, tell
from p2psync.state import State
from p2psync.state.holders import in_order
from p2psync.state.off_loop import off_loop
from p2psync.trust import Standing
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
STRANGERS: Final = 4
"""Of these, such as this node has not dealt with, where it knows enough others: so it gets to know who is
new, and does not spend itself on whom somebody made up.
"""
NAMED_MAX: Final = 8
"""Of these, named by one of them: its list may be made up as well."""
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

    def __init__(self, state: State, own_key: bytes, rng: random.Random, reached: Reached) -> None:
        self._state = state
        self._own_key = own_key
        self._random = rng
        self.reached = reached
        self._took: dict[bytes, dict[str, None]] = {}
        """By archive: who was handed our record, HOST:PORT, the latest last."""
        self.silent: set[str] = set()
        """Holders, HOST:PORT, that did not answer when they were told something last."""

    async def dealt_with(self, archive: bytes) -> int:
        """How many other holders there are of an archive that this node has reached not long ago. How many
        there are said to be is anybody's choice.
        """
        here = await off_loop(lambda: self._state.holders.count(archive, time.time()))
        return max(here - 1, 0)  # This node has reached itself.

    def _choose(self, archive: bytes, count: int) -> list[HolderRecord]:
        """Some of the other holders of an archive that say that they are there, ``count`` at most."""
        now = time.time()
        ordered = [
            each for each in self._state.holders.ordered(archive, now) if each.node_key != self._own_key
        ]
        standings = self._state.nodes.standings(ordered, now)
        strangers = [each for each in ordered if standings[each.node_key] == Standing.TOLD]
        others = [each for each in ordered if standings[each.node_key] != Standing.TOLD]
        strangers = strangers[: max(STRANGERS, count - len(others))][:count]
        return self._random.sample(others, min(count - len(strangers), len(others))) + strangers

    async def hear(self, archive: bytes, records: Sequence[HolderRecord]) -> None:
        """Remember what strangers say of holders of an archive, as far as there is room for it."""
        if records:
            await off_loop(lambda: self._state.holders.hear(archive, records, time.time()))

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

        def begin(addresses: Sequence[str], holder: HolderRecord | None = None) -> None:
            if told.isdisjoint(addresses) and len(told) < TOLD_MAX:
                told.update(addresses)
                group.create_task(self._try_to_tell(archive, addresses, holder, head, record, begin))

        # A node takes only records with the address that it sees, so it is to see one of these kinds.
        families = {family_of(endpoint.ip) for endpoint in record.endpoints} if record is not None else set()
        family = families.pop() if len(families) == 1 else socket.AF_UNSPEC
        named = list(dict.fromkeys(given))[:GIVEN_MAX]
        known = await off_loop(partial(self._choose, archive, TOLD_MAX - len(named)))
        async with asyncio.TaskGroup() as group:
            for name in named:
                group.create_task(self._find(name, family, begin))
            for holder in known:
                begin(_addresses(holder), holder)

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
        chosen = await off_loop(partial(self._choose, archive, TOLD_MAX))
        known = [address for holder in chosen for address in _addresses(holder)]
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
        holder: HolderRecord | None,
        head: bytes | None,
        record: HolderRecord | None,
        named: Callable[[Sequence[str], HolderRecord], None],
    ) -> None:
        """Tell one node, at the first of its addresses that answers. ``holder``: what is known of it, if it
        was not given by hand.
        """
        for address in addresses:
            self.silent.discard(address)
            try:
                async with asyncio.timeout(TELL_TIMEOUT):
                    for each in await self._tell_one(archive, address, holder, head, record):
                        named(_addresses(each), each)
                return
            except (Busy, Unreachable):  # It said so itself.
                return
            except (NetworkError, TimeoutError):
                self.silent = self.silent if len(self.silent) < SILENT_MAX else set()
                self.silent.add(address)
            except P2psyncError:
                return

    async def _tell_one(
        self,
        archive: bytes,
        address: str,
        holder: HolderRecord | None,
        head: bytes | None,
        record: HolderRecord | None,
    ) -> list[HolderRecord]:
        """Tell one node, if it is the one that it is taken for; some of the holders that it names."""
        source = PeerSource(address, connections=1, connect_timeout=CONNECT_TIMEOUT)
        try:
            # Before anything else: anybody can have named this address.
            key = (await source.info()).key
            standing = await off_loop(partial(self._note_answer, archive, address, holder, key))
            if standing is None:
                return []
            if head is not None:
                await source.put_head(archive, head)
            if record is not None:
                local = await local_address(address)
                if any(_sees_us_at(endpoint, address, local) for endpoint in record.endpoints):
                    self._note_taken(archive, address)
                    stranger = standing != Standing.DELIVERED and holder is not None
                    await self._nominate(source, archive, record, stranger=stranger)
            named = await off_loop(partial(self._take, archive, address, await source.holders(archive)))
            await keep_list(self._state, archive, await source.mirrors(archive))
            return named
        finally:
            await source.close()

    def _note_answer(
        self, archive: bytes, address: str, holder: HolderRecord | None, key: bytes
    ) -> Standing | None:
        """Note which node is at an address, and how it stands; None if it is this one, or not the one that
        ``holder`` speaks of.
        """
        if holder is not None and key != holder.node_key:
            self._state.holders.drop(archive, holder.node_key)
            return None
        now = time.time()
        self._state.nodes.proved(key, Endpoint(*host_and_port(address)), now)
        standing = Standing.PROVED if holder is None else self._state.nodes.standings([holder], now)[key]
        return None if key == self._own_key else standing

    async def _nominate(
        self, source: PeerSource, archive: bytes, record: HolderRecord, *, stranger: bool
    ) -> None:
        """Hand in our record: the other node tries to reach us before it takes it."""
        for tried in range(BUSY_TRIES):
            await asyncio.sleep(BUSY_PAUSE * (2**tried - 1) * self._random.uniform(0.5, 1.5))
            with contextlib.suppress(Busy):
                try:
                    await source.nominate(archive, record.raw)
                except Unreachable:
                    self.reached.failed(source.name, stranger=stranger)
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
                named[archive] += await off_loop(
                    partial(others, self._state, self._own_key, archive, time.time())
                )
        told: dict[str, list[Withdrawn]] = {}
        for archive, record in records.items():
            for address in list(dict.fromkeys(named[archive]))[:HEARERS_MAX]:
                told.setdefault(address, []).append((archive, record))
        await tell(told)

    def _take(self, archive: bytes, teller: str, raws: Iterable[bytes]) -> list[HolderRecord]:
        """Keep what the holder at an address says of others, if those have signed it; whom of them to ask."""
        now, at = time.time(), host_and_port(teller)[0]
        made: list[HolderRecord] = []
        for raw in raws:
            with contextlib.suppress(RecordError):
                record = HolderRecord.decode(raw)
                told = record.withdrawn or all(may_look_at(ip, at) for ip in record.ips)
                if told and record.key == holders_key(archive) and record.node_key != self._own_key:
                    record.verify(int(now))
                    made.append(record)
        self._state.holders.hear(archive, made, now)
        present = [record for record in made if not record.withdrawn]
        return in_order(present, {}, self._random)[:NAMED_MAX]  # who is known is told anyhow


def _addresses(holder: HolderRecord) -> list[str]:
    return [str(endpoint) for endpoint in holder.endpoints if endpoint.ip]


async def _numeric(name: str, family: socket.AddressFamily = socket.AF_UNSPEC) -> str:
    """HOST:PORT with an IP address for the host. Raises OSError: it has none; UsageError."""
    host, port = host_and_port(name)
    return host_port((await resolve(host, port, family=family))[0][1], port)


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

"""From holder records to sources: whom a record names is asked who it is, outside of the places that sources
have; who answers with the record's key, and then gives what is right, becomes a source when there is a place.

Where records come from is ``discovery``'s, whom to try first ``candidates``', and how well a source does
``sources.swarm``'s.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Final

from p2psync.errors import P2psyncError
from p2psync.format.ids import Ref, chunk_id
from p2psync.format.url import host_and_port
from p2psync.network.told import may_look_at
from p2psync.sources.finders.candidates import Candidate, Candidates
from p2psync.sources.finders.departures import Departures
from p2psync.sources.finders.recommended import Recommended
from p2psync.sources.finders.records import Found, by_chance, read_records
from p2psync.sources.finders.remembered import Remembered
from p2psync.sources.finders.tryouts import Tryouts
from p2psync.sources.interfaces import Source
from p2psync.sources.swarm import Member, Swarm
from p2psync.trust import Standing
from p2psync_dht import Endpoint, HolderRecord

PROOF_TIMEOUT: Final = 2.0
"""Seconds that an address has to say who it is, connecting included, and then for its first answer: half
the way round the world takes 0.3 for each of three round trips. Who is slower is tried again.
"""
RECORDS_AT_ONCE: Final = 32
"""Records whose signatures are checked in one go: some three milliseconds."""
RECORDS_MAX: Final = 4096
"""Records that are known to have been kept already, or to be wrong; strangers could make any number."""


class Joining:
    """Makes sources of ``swarm`` from the holders of one archive."""

    def __init__(
        self,
        archive: bytes,
        own_key: bytes,
        remembered: Remembered,
        swarm: Swarm,
        open_source: Callable[[str], Source],
        met: Callable[[Member], None],
        recommended: Recommended,
    ) -> None:
        """``met`` hears of each new source."""
        self._archive = archive
        self._own_key = own_key
        self._remembered = remembered
        self._swarm = swarm
        self._open = open_source
        self._met = met
        self._recommended = recommended
        self._chance = random.Random()  # noqa: S311 - whom strangers cannot foresee, not what is secret
        self._candidates = Candidates(self._chance.random)
        self._tryouts = Tryouts(self._candidates, self._prove, self._place)
        self._departures = Departures(swarm)
        self._kept: set[bytes] = set()
        self._false: set[bytes] = set()
        self._issued: dict[bytes, int] = {}
        """Node keys of sources, and when the newest record was issued that was seen of each."""
        self._closing: set[asyncio.Task[None]] = set()
        self.joined = asyncio.Event()
        """Somebody has become a source."""
        self.snapshot: Ref | None = None
        """What candidates are asked for, once it is known what is looked for."""
        self.silent: dict[str, str] = {}
        """Addresses that did not pass, and why: one sentence each, with the address."""
        swarm.expecting = lambda: self._tryouts.under_way

    async def close(self) -> None:
        """Try nobody any more."""
        await self._tryouts.close()
        await asyncio.gather(*self._closing)
        gave = [each.node_key for each in self._swarm.members if each.node_key is not None and each.delivered]
        if gave:
            await self._remembered.delivered(gave)

    def recall(self) -> None:
        """Where nobody waits for a place, those who had to give up theirs may have one again."""
        if not self._tryouts.under_way:
            self._swarm.recall()

    async def take(
        self, raws: Sequence[bytes], teller: str | None, *, verified: bool, some: int | None = None
    ) -> None:
        """Try the holders in these records, which may be anybody's and anything, or ``some`` of them, and
        wait until that is done. ``teller``: the IP address that they came from; None: they are from here,
        or the DHT has looked at where they came from. ``verified``: their signatures have been checked
        before.
        """
        found: list[Found] = []
        for start in range(0, len(raws), RECORDS_AT_ONCE):
            found += await self._read(raws[start : start + RECORDS_AT_ONCE], verified=verified)
            await asyncio.sleep(0)  # Signatures take time, and others have things to do.
        named = [each for each in found if each.record.withdrawn or _names(each, teller)]
        if not verified:
            await self._keep([each for each in named if each.record.raw not in self._kept])
        present = self._departures.present(named)
        standings = self._recommended.standings(await self._remembered.standings(present))
        chosen = present if some is None else by_chance(present, some, self._chance, standings)
        for each in chosen:
            for name in _names(each, teller):
                await self._offer(name, each, standings[each.record.node_key])
        self._tryouts.go_on()
        await self._tryouts.settled()

    async def take_recommended(self, teller: str) -> None:
        """Try the nodes in the archive's list, which somebody at the IP address ``teller`` handed out."""
        for found, standing in self._recommended.found(teller):
            for name in found.names:
                await self._offer(name, found, standing)
        self._tryouts.go_on()
        await self._tryouts.settled()

    async def _read(self, raws: Sequence[bytes], *, verified: bool) -> list[Found]:
        likely = [raw for raw in raws if raw not in self._false]
        known = [raw for raw in likely if verified or raw in self._kept]
        new = [] if verified else [raw for raw in likely if raw not in self._kept]
        now = time.time()
        return [
            *read_records(known, self._archive, self._own_key, now, verified=True),
            *read_records(new, self._archive, self._own_key, now, verified=False),
        ]

    def answers(self, record: HolderRecord) -> bool | None:
        """Whether the holder of a record answered when it was looked for; None where it was not asked."""
        if record.node_key == self._own_key:
            return self._remembered.node_runs()
        if any(member.node_key == record.node_key for member in self._swarm.members):
            return True
        tried = [self._candidates.get(str(endpoint)) for endpoint in record.endpoints if endpoint.ip]
        silent = (each.failures or self._tryouts.is_trying(each) for each in tried if each is not None)
        return False if any(silent) else None

    async def _keep(self, found: list[Found]) -> None:
        if found:
            await self._remembered.keep(found)
            self._kept = self._kept if len(self._kept) < RECORDS_MAX else set()
            self._kept.update(each.record.raw for each in found)

    async def _offer(self, name: str, found: Found, standing: Standing) -> None:
        """A holder is said to be at ``name``."""
        if self._update(found):
            return
        given = any(member.name == name for member in self._swarm.members)
        stands = min(standing, Standing.PROVED) if given else standing
        weight = self._recommended.weight(found.record.node_key)
        candidate = self._candidates.add(name, found, stands, weight)
        if candidate is None or candidate.key is None:
            return
        if candidate.key == found.record.node_key:
            self._tryouts.passed(name, found)
        else:
            await self._refuse(found)

    async def _prove(self, candidate: Candidate) -> Found | None:
        """Ask who is at an address before anything else is asked there, and then for something that can be
        checked: a holder record may be older than the tenant of its address, or name the address of somebody
        else.
        """
        name = candidate.name
        given = next((member.source for member in self._swarm.members if member.name == name), None)
        source = given or self._open(name)
        try:
            assert source.tracker is not None  # noqa: S101 - addresses are those of nodes
            async with asyncio.timeout(PROOF_TIMEOUT):
                key = (await source.tracker.info()).key
            candidate.key = key
            found = candidate.claims.get(key)
            for other in [each for each in candidate.claims.values() if each is not found]:
                await self._refuse(other)
            if found is None:
                self.silent[name] = f"{name}: another node answers there"
                return None
            async with asyncio.timeout(PROOF_TIMEOUT):
                honest = given is not None or await self._is_honest(source)
            if not honest:
                self.silent[name] = f"{name}: sent something else than the snapshot"
                return None
            self.silent.pop(name, None)
            await self._remembered.proved(key, Endpoint(*host_and_port(name)))
            return found
        except (P2psyncError, TimeoutError) as error:
            self.silent[name] = str(error) or f"{name}: silent"
            return None
        finally:
            if given is None:
                await source.close()

    async def _is_honest(self, source: Source) -> bool:
        """Whether a source gives the snapshot that is looked for, or says that it has none of it, rather than
        something else.
        """
        if self.snapshot is None or not self.snapshot.is_single:
            return True
        assert source.metadata is not None  # noqa: S101 - addresses are those of nodes
        (raw,) = await source.metadata.metas([self.snapshot])
        return raw is None or chunk_id(raw) == self.snapshot.digest

    def _place(self, name: str, found: Found) -> bool:
        """Take in a holder that answers at ``name``; others may have come meanwhile, itself among them. False
        if there is no room, and nobody who has to make some.
        """
        if self._update(found):
            return True
        member = next((each for each in self._swarm.members if each.name == name), None)
        if member is None:
            if not self._swarm.has_room() and not self._make_room():
                return False
            member = Member(self._open(name), whole=False)
            self._swarm.add(member)
            self.joined.set()
            self._met(member)
        if member.node_key is None:
            member.node_key = found.record.node_key
            self._update(found)
        return True

    def _make_room(self) -> bool:
        """Let a source that gave nothing go, for one that waits."""
        member = self._swarm.bench()
        if member is None:
            return False
        self._closing.add(task := asyncio.create_task(member.renew(self._open(member.name)).close()))
        task.add_done_callback(self._closing.discard)
        return True

    def _update(self, found: Found) -> bool:
        """What the record says, if its node is a source already; False if it is none."""
        key = found.record.node_key
        member = next((each for each in self._swarm.members if each.node_key == key), None)
        if member is None:
            return False
        if found.record.issued >= self._issued.get(key, 0):
            self._issued[key] = found.record.issued
            member.whole, member.claims = found.whole, found.claims
        return True

    async def _refuse(self, found: Found) -> None:
        """Another node answers at its address: the record is out of date, or was never true."""
        self._false = self._false if len(self._false) < RECORDS_MAX else set()
        self._false.add(found.record.raw)
        await self._remembered.drop(found)


def _names(found: Found, teller: str | None) -> list[str]:
    """The addresses in a record, as sources are named, that are looked at on somebody's word. Host names are
    not: who can be trusted with them says what they mean at the moment when it is asked.
    """
    addresses = (endpoint for endpoint in found.record.endpoints if endpoint.ip)
    return [str(endpoint) for endpoint in addresses if may_look_at(endpoint.ip, teller)]

"""A day on the virtual network with all that goes wrong at once: nodes leave and join, some lie, some take
places in tables and fall silent, and strangers write themselves down as holders of what they do not have.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

from bench.dht.figures import Note
from bench.dht.network import Tally, gave, heads_of
from p2psync_dht import DhtNode, Endpoint, Head, HolderRecord, HolderRole, Identity, holders_key
from p2psync_dht.contact import Contact
from p2psync_dht.testing.liars import tell_lies
from p2psync_dht.testing.virtual import VirtualNetwork, run_virtual

ARCHIVES: Final = 10
HOLDERS: Final = 15  # clients that stay, three to an archive
PER_ARCHIVE: Final = 3
LIARS: Final = 0.2  # share of the nodes that lie
FALSE: Final = 10  # false holders of each archive that each liar makes up every hour, at its own address
TRIED: Final = 24  # holders that a reader tries first: as many as sources are in use
HOUR: Final = 3600.0
FAKE_AFTER: Final = 60.0  # seconds from the joining of a fake to its silence
HALVED: Final = 7200.0  # seconds in which half of the honest nodes are replaced


def day(nodes: int, reads: int, note: Note, hours: float = 24) -> None:
    """A publisher signs a new head of each archive every hour, and its holders refresh it; reads want the
    newest one, and an honest holder among the first of those that are found, of whom the reader knows nobody.
    """
    run_virtual(partial(_day, nodes, reads, hours, note))


async def _day(nodes: int, reads: int, hours: float, note: Note) -> None:
    here = _Day(VirtualNetwork(21), nodes)
    await here.begin()
    heads, holders = Tally(here.network), Tally(here.network)
    end = here.network.loop.time() + hours * HOUR
    trouble = [asyncio.ensure_future(work) for work in (here.churn(), here.fake(), here.publish())]
    await asyncio.sleep(0.5 * HOUR)  # what is published at first is there by now
    pause = (end - here.network.loop.time()) / reads
    while here.network.loop.time() < end:
        await asyncio.sleep(pause)
        asker = here.network.rng.choice(here.honest)
        number = here.network.rng.randrange(ARCHIVES)
        wanted = here.heads[number]
        if asker.storage.head(wanted.key) is None:
            await heads.time(asker.get_head(wanted.root), partial(gave, wanted.raw))
        key = holders_key(wanted.root)
        await holders.time(asker.get_holders(key), partial(here.has_honest, number))
    for task in trouble:
        task.cancel()
    await asyncio.gather(*trouble, return_exceptions=True)
    known = [one.id in here.alive() for node in here.honest for one in node.contacts()]
    note("day heads", heads.percent, f"{hours:.0f} h, {heads}", nodes=nodes, count=heads.count)
    note("day holders", holders.percent, str(holders), nodes=nodes, count=holders.count)
    note("day dead", 100 - 100 * sum(known) / len(known), nodes=nodes, count=len(here.honest))
    await here.network.close()


class _Day:
    """Who is there: honest servers with upkeep, which come and go; liars, who stay; fakes; and those who hold
    the archives.
    """

    def __init__(self, network: VirtualNetwork, nodes: int) -> None:
        self.network = network
        self._size = nodes
        self.honest: list[DhtNode] = []
        self._liars: list[DhtNode] = []
        self._holders: list[DhtNode] = []
        self._roots: list[Identity] = [network.new_identity() for _ in range(ARCHIVES)]
        self._older: dict[bytes, Head] = {}
        self.heads: list[Head] = []

    async def begin(self) -> None:
        count = round(self._size * LIARS)
        self.honest = await self.network.grow(self._size - count, upkeep=True)
        self._liars = await self.network.grow(count)
        friends = [Contact(one.node_id, *one.address) for one in self._liars]

        def lie(key: bytes, value: Any) -> tuple[Iterable[Contact], Any]:
            target = int.from_bytes(key, "big")
            older = self._older.get(key)
            told = [older.raw, 0] if older is not None else None
            return sorted(friends, key=lambda one: one.long_id ^ target)[:20], told

        for liar in self._liars:
            tell_lies(liar, lie)
        self._holders = [self.network.add(server=False) for _ in range(HOLDERS)]
        for holder in self._holders:
            await holder.join([self.network.rng.choice(self.honest).address])

    def alive(self) -> set[bytes]:
        return {node.node_id for node in self.network.nodes}

    def _of(self, number: int) -> list[DhtNode]:
        """The holders of an archive."""
        return [
            self._holders[(number + step) % HOLDERS] for step in range(0, HOLDERS, HOLDERS // PER_ARCHIVE)
        ]

    def has_honest(self, number: int, found: list[HolderRecord]) -> bool:
        """Whether a reader who tries the first of those that it found meets somebody who has the archive."""
        theirs = {holder.identity.public_key for holder in self._of(number)}
        return any(record.node_key in theirs for record in found[:TRIED])

    async def churn(self) -> None:
        """Replace honest nodes, one at a time."""
        while True:
            await asyncio.sleep(self.network.rng.expovariate(len(self.honest) * 0.693 / HALVED))
            self.network.kill(self.honest.pop(self.network.rng.randrange(len(self.honest))))
            self.honest.append(await self._join(upkeep=True))

    async def fake(self) -> None:
        """Join, be taken in, and fall silent, as often as honest nodes come."""
        while True:
            await asyncio.sleep(self.network.rng.expovariate(len(self.honest) * 0.693 / HALVED))
            one = await self._join()
            self.network.loop.call_later(FAKE_AFTER, self.network.kill, one)

    async def _join(self, **options: Any) -> DhtNode:
        """A newcomer, by two honest nodes and a liar."""
        by = [*self.network.rng.sample(self.honest, 2), self.network.rng.choice(self._liars)]
        made = self.network.add(**options)
        await made.join([one.address for one in by])
        return made

    async def publish(self) -> None:
        """Every hour new heads, which holders put and refresh; records of holders, and of false ones."""
        for seq in itertools.count(1):
            began = self.network.loop.time()
            fresh = heads_of(self.network, 0, seq, self._roots)
            for number, head in enumerate(fresh):
                for holder in self._of(number):
                    await holder.put_head(head.raw)
                    await holder.put_holder(self._record(holder, head))
                # From now on it is what is wanted, and the one before what liars tell.
                if len(self.heads) <= number:
                    self.heads.append(head)
                else:
                    self._older[head.key] = self.heads[number]
                    self.heads[number] = head
            for liar in self._liars:
                false = [self._record(liar, head, self.network.new_identity()) for head in fresh * FALSE]
                await liar.announce_sweep(false)
            await asyncio.sleep(max(began + HOUR - self.network.loop.time(), 0))

    def _record(self, node: DhtNode, head: Head, identity: Identity | None = None) -> bytes:
        now = int(self.network.clock())
        return HolderRecord.sign(
            identity or node.identity,
            holders_key(head.root),
            endpoints=[Endpoint(*node.address)],
            issued=now,
            expires=now + 80_000,
            role=HolderRole.MIRROR,
        ).raw

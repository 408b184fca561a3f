"""Telling others: heads and holder records, into the DHT and to known holders, again before they expire.

What is announced is decided from the state directory alone, so it does not matter which process changed it. A
publisher's new head is also handed to the holders directly: mirrors then need not wait for their next look.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from p2psync.daemon.company import Others
from p2psync.daemon.gossip import Gossip
from p2psync.daemon.losses import Loss
from p2psync.daemon.mirrors import peers_of
from p2psync.daemon.place import Place
from p2psync.daemon.reached import Reached
from p2psync.daemon.twin import Twin
from p2psync.daemon.withdrawals import Withdrawals
from p2psync.errors import show_path
from p2psync.format.coverage import Coverage
from p2psync.format.head import ArchiveHead
from p2psync.network.protocols import Network
from p2psync.sources.source import together
from p2psync.state import State
from p2psync.state.off_loop import off_loop
from p2psync.state.trees import Tree
from p2psync.trust import ended_text, judge
from p2psync_dht import Endpoint, HolderRecord, HolderRole, Identity, holders_key

LIFETIME: Final = 24 * 3600
"""Seconds that a holder record lasts: who disappears without a word is forgotten within a day."""
RENEW: Final = 11 * 3600
"""Seconds after which it is announced again: two chances before it expires."""
HEAD_ROUND: Final = 3600
"""Seconds between looks whether a head is still well held in the DHT."""
HEAD_REFRESHERS: Final = 20
"""Holders that refresh a head in each round, on average, however many there are."""
RETRY: Final = 15.0
"""Seconds until something that nobody else took is announced again, and so much more each time: the network
may be down, or we the first in it.
"""


@dataclass(slots=True)
class Announced:
    """What was last said about an archive."""

    head: bytes = b""
    coverage: Coverage | None = None
    renew_at: float = 0.0
    head_at: float = 0.0
    head_alone: int = 0
    """How often in a row nobody else took the head."""
    holder_alone: int = 0
    narrow: int = 0
    """How often in a row the holder record lacked an address that may become known."""


class _Due(NamedTuple):
    """A holder record to be made and announced."""

    archive: bytes
    coverage: Coverage
    role: HolderRole
    said: Announced
    given: tuple[str, ...]
    """Nodes that were given by hand as its sources, HOST:PORT."""


class Announcer:
    """Announces the archives of a state directory."""

    def __init__(
        self,
        state: State,
        identity: Identity,
        network: Network,
        observed: Callable[[socket.AddressFamily], str | None],
        listen: tuple[str, int],
        advertise: tuple[str, int] | None,
        warn: Callable[[str], None],
        losses: Callable[[], Mapping[int, Loss]] = dict,
        closed: Callable[[], bool] = lambda: False,
    ) -> None:
        """The next three are ``place.Place``'s; ``losses`` is what trees no longer have; ``closed`` says
        whether the node's own test has found that nobody reaches it.
        """
        self._state = state
        self._identity = identity
        self._network = network
        self._place = Place(observed, listen, advertise)
        self._warn = warn
        self._losses = losses
        self._announced: dict[bytes, Announced] = {}
        self._ended: dict[bytes, Announced] = {}
        """What was said of archives that were ended here: their heads alone."""
        self._saying = asyncio.Lock()
        self.last_announced: float | None = None
        """When another node last took a head or holder record of ours, in Unix seconds."""
        self._random = random.Random()  # noqa: S311 - spreads load, guards nothing
        self._unreached: list[Endpoint] = []
        """Where others could not reach us, when they last tried."""
        self._gossip = Gossip(state, identity.public_key, self._random, Reached(closed))
        self._withdrawals = Withdrawals(state, identity, network, self._gossip)
        self._twin = Twin(state.key_path, warn)
        self.others = Others(state, identity.public_key, self._gossip, self._archives, self._random)

    async def round(self) -> float:
        """Announce what is due; seconds until something is due again, if nothing changes before."""
        archives = self._archives()
        self._announced = {archive: said for archive, said in self._announced.items() if archive in archives}
        losses = self._losses()
        here = {archive for archive, trees in archives.items() if _coverage(trees, losses) is not None}
        for archive in self._announced.keys() - here:  # To be said anew once it is back.
            self._announced[archive].coverage, self._announced[archive].renew_at = None, 0.0
        async with self._saying:  # What is being said would arrive after what takes it back.
            withdrawals = await self._withdrawals.round(here)
        for archive in archives:
            await self._announce_head_if_due(archive, self._said(archive))
        told = await off_loop(partial(self._state.heads.told_as_ended, time.time()))
        ended = [head.archive for head in told if head.archive not in archives]
        self._ended = {archive: self._ended.get(archive, Announced()) for archive in ended}
        for archive, said in self._ended.items():
            await self._announce_head_if_due(archive, said)
        await self._say_what_is_here()
        await self.others.count()
        # What has nothing to announce yet is due when the state changes.
        every = (*self._announced.values(), *self._ended.values())
        times = [at for said in every for at in (said.renew_at, said.head_at) if at]
        times += withdrawals
        return max(min(times, default=time.monotonic() + RENEW) - time.monotonic(), 0.5)

    async def nominate(self, archive: bytes) -> None:
        """Say what is here of one archive now, if that has not been said: an attempt, not a promise."""
        await self._say_what_is_here(archive)

    async def leave(self) -> None:
        """Take back what was said of every archive, since the node ends: an attempt of two seconds."""
        await self._withdrawals.leave()

    async def _say_what_is_here(self, only: bytes | None = None) -> None:
        """Announce the holder records that are due; one call at a time: what was said last is to be the
        newest, and whether others reach us is known when they have tried.
        """
        async with self._saying:
            archives = self._archives()
            chosen = archives if only is None else {only: archives.get(only, [])}
            due = [one for archive, trees in chosen.items() for one in self._due(archive, trees)]
            if due:
                await self._announce_holders(due)

    def _said(self, archive: bytes) -> Announced:
        return self._announced.setdefault(archive, Announced())

    def archives(self) -> list[bytes]:
        """What is announced here."""
        return list(self._archives())

    def _archives(self) -> dict[bytes, list[Tree]]:
        """What is published or mirrored here for others. What else was fetched is nobody's business."""
        made: dict[bytes, list[Tree]] = {}
        public = self._state.offers.public()
        for tree in self._state.trees.all():
            if tree.archive is not None and tree.id in public:
                made.setdefault(tree.archive, []).append(tree)
        return made

    async def _announce_head_if_due(self, archive: bytes, said: Announced) -> None:
        head = self._state.heads.newest(archive)
        new_head = head is not None and head.raw != said.head
        if head is not None and (new_head or time.monotonic() >= said.head_at):
            await self._announce_head(head, said, new=new_head)

    def _due(self, archive: bytes, trees: list[Tree]) -> list[_Due]:
        """The holder record that is due, if one is."""
        said, coverage = self._said(archive), _coverage(trees, self._losses())
        if coverage is None or (coverage == said.coverage and time.monotonic() < said.renew_at):
            return []
        role = HolderRole.ORIGIN if any(tree.role == "publish" for tree in trees) else HolderRole.MIRROR
        given = tuple(peer for tree in trees for peer in peers_of(tree))
        return [_Due(archive, coverage, role, said, given)]

    async def _announce_head(self, head: ArchiveHead, said: Announced, *, new: bool) -> None:
        jobs = [self._announce_in_dht(head, said, new=new)]
        if new:  # Mirrors are not to wait until the DHT has been read and written.
            jobs.append(self._gossip.tell(head.archive, head.raw, None))
        await together(jobs)

    async def _announce_in_dht(self, head: ArchiveHead, said: Announced, *, new: bool) -> None:
        # Of all who hear of a new head only some look whether its publisher has seen to the DHT.
        first = new and self._is_publisher(head.archive)
        others = 0 if first else await self._gossip.dealt_with(head.archive)
        if self._random.random() * others > HEAD_REFRESHERS:
            said.head = head.raw
            said.head_at = time.monotonic() + HEAD_ROUND * self._random.uniform(0.9, 1.1)
            return
        # Read first: a newer head that is out there must not be fought.
        found = await self._network.get_head(head.archive)
        if found is not None and found.order > head.order:
            best = judge(head.archive, [found.raw], head, time.time()).head
            if best is not None and best.order > head.order:
                await off_loop(partial(self._state.heads.put, best, "DHT"))
                self._warn_publisher(best, head)
                said.head_at = time.monotonic() + RETRY
                return
        if new or said.head_alone:
            copies = await self._network.put_head(head.raw)
            self._note(copies)
            said.head, said.head_alone = head.raw, said.head_alone + 1 if copies <= 1 else 0
        else:
            # Only where it is missing, older or soon forgotten.
            await self._network.refresh_head(head.raw)
        pause = min(RETRY * said.head_alone, HEAD_ROUND) or HEAD_ROUND * self._random.uniform(0.9, 1.1)
        said.head_at = time.monotonic() + pause

    def _is_publisher(self, archive: bytes) -> bool:
        """Whether the archive is published here, or was until it was ended."""
        trees = self._archives().get(archive)
        return trees is None or any(tree.role == "publish" for tree in trees)

    def _warn_publisher(self, newer: ArchiveHead, ours: ArchiveHead) -> None:
        """A publisher that is behind has been put back to an earlier state, or is not the only one."""
        for tree in self._archives().get(newer.archive, []):
            if tree.role == "publish" and newer.ended is not None:
                self._warn(
                    f"{ended_text(newer)}, and it is published here from {show_path(tree.path)}: publish it "
                    "again to go on with it, or end it here too with 'p2psync unpublish'"
                )
            elif tree.role == "publish":
                self._warn(
                    f"others have snapshot {newer.seq} of what is published from {show_path(tree.path)}, and "
                    f"here it is {ours.seq}: it was published elsewhere, or an old state directory was put "
                    "back; publish it again to go on after that"
                )

    async def _announce_holders(self, due: list[_Due]) -> None:
        """Say what is here, of several archives."""
        endpoints = await self._endpoints(due)
        if not endpoints:
            for one in due:  # Nobody has told us yet at which address we are seen.
                one.said.renew_at = time.monotonic() + RETRY
            return
        await off_loop(partial(self._state.tell_address, str(endpoints[0])))
        records = await self._records(due, endpoints)
        for one in due:
            self._withdrawals.note(one.archive, in_dht=False)
            found = await self._network.get_holders(holders_key(one.archive))
            self._twin.look(found, records[one.archive])
            await self._gossip.hear(one.archive, found)
            # They try to reach us, and what nobody can reach is not worth announcing to the world.
            await self._gossip.tell(one.archive, None, records[one.archive], one.given)
        worth = self._gossip.reached.worth_announcing(endpoints)
        self._warn_unreached(self._gossip.reached.lost(endpoints), nothing=not worth)
        # Who has nothing whole yet, and has been reached by nobody, is in no hurry.
        sure = not self._gossip.reached.are_doubtful(endpoints)
        told = [one for one in due if worth and (sure or one.coverage.complete)]
        copies: dict[bytes, int] = {}
        if told:
            if worth != endpoints:
                records |= await self._records(told, worth)
            for one in told:
                self._withdrawals.note(one.archive, in_dht=True)
            copies = await self._network.announce([records[one.archive].raw for one in told])
        for one in due:
            record = records[one.archive]
            self._noted(one, record, copies.get(record.raw, 0))

    async def _records(self, due: Sequence[_Due], endpoints: Sequence[Endpoint]) -> dict[bytes, HolderRecord]:
        """Kept before anybody has them: who is stopped meanwhile knows what to take back."""
        return await off_loop(lambda: {one.archive: self._record(one, endpoints) for one in due})

    def _warn_unreached(self, lost: list[Endpoint], *, nothing: bool) -> None:
        """Said once, not at each try."""
        if lost and lost != self._unreached:
            self._warn(
                f"no other node could reach this one at {' or '.join(map(str, lost))}: open or forward that "
                "port, or say where others reach it with --advertise; until then "
                f"{'nothing' if nothing else 'that address'} is {'' if nothing else 'not '}announced"
            )
        self._unreached = lost

    def _noted(self, due: _Due, record: HolderRecord, copies: int) -> None:
        self._note(copies)
        said = due.said
        said.coverage = due.coverage
        said.holder_alone = said.holder_alone + 1 if copies <= 1 else 0
        pause = min(RETRY * said.holder_alone, HEAD_ROUND) or RENEW * self._random.uniform(0.9, 1.0)
        said.narrow = said.narrow + 1 if self._place.is_narrow(record) else 0
        if said.narrow:
            pause = min(pause, RETRY * 2**said.narrow)
        said.renew_at = time.monotonic() + pause

    def _note(self, copies: int) -> None:
        if copies > 1:  # One copy is our own.
            self.last_announced = time.time()

    def _record(self, due: _Due, endpoints: Sequence[Endpoint]) -> HolderRecord:
        holders = self._state.holders
        now = holders.next_issue(due.archive, self._identity.public_key, int(time.time()))
        record = HolderRecord.sign(
            self._identity,
            holders_key(due.archive),
            endpoints=endpoints,
            issued=now,
            expires=now + LIFETIME,
            role=due.role,
            payload=due.coverage.encode(),
        )
        holders.keep_own(due.archive, record, time.time())
        return record

    async def _endpoints(self, due: Collection[_Due]) -> list[Endpoint]:
        """Where others reach the content server, if need be as a neighbour sees us."""
        found = await self._place.endpoints()
        if found:
            return found
        for one in due:
            local = await self._gossip.local_endpoint(one.archive, one.given, self._place.port)
            if local is not None:
                return [local]
        return []


def _coverage(trees: list[Tree], losses: Mapping[int, Loss]) -> Coverage | None:
    """The best that is here of an archive; None while there is nothing."""
    there = [tree for tree in trees if tree.id not in losses or not losses[tree.id].gone]
    claims = [
        Coverage(tree.id not in losses, tree.epoch, tree.seq) for tree in there if tree.snapshot is not None
    ]
    if claims:
        return max(claims)
    mirrors = [tree for tree in there if tree.role == "mirror"]
    return Coverage(False, 0, 0) if mirrors else None

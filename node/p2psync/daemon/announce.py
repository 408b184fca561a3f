"""Telling others: heads and holder records, into the DHT and to known holders, again before they expire.

What is announced is decided from the state directory alone, so it does not matter which process changed it. A
publisher's new head is also handed to the holders directly: mirrors then need not wait for their next look.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from dataclasses import dataclass
from typing import Final

from p2psync.errors import P2psyncError
from p2psync.fetch.share import local_address
from p2psync.format.coverage import Coverage
from p2psync.format.head import ArchiveHead
from p2psync.state import State
from p2psync.state.trees import Tree
from p2psync.transfer.peer import PeerSource
from p2psync.trust import judge
from p2psync_dht import DhtNode, Endpoint, HolderRecord, HolderRole, Identity, RecordError, holders_key

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
TOLD_MAX: Final = 16
"""Holders that are told directly of a new head or of us; the others learn from them and from the DHT."""
TELL_TIMEOUT: Final = 10.0


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


class Announcer:
    """Announces the archives of a state directory."""

    def __init__(
        self,
        state: State,
        identity: Identity,
        dht: DhtNode,
        listen: tuple[str, int],
        advertise: tuple[str, int] | None,
    ) -> None:
        """``listen`` is where the content server is; ``advertise`` where others reach it, if that differs."""
        self._state = state
        self._identity = identity
        self._dht = dht
        self._listen = listen
        self._advertise = advertise
        self._announced: dict[bytes, Announced] = {}
        self.last_announced: float | None = None
        """When another node last took a head or holder record of ours, in Unix seconds."""
        self._random = random.Random()  # noqa: S311 - spreads load, guards nothing

    async def round(self) -> float:
        """Announce what is due; seconds until something is due again, if nothing changes before."""
        now = time.monotonic()
        due = now + RENEW
        for archive, trees in self._archives().items():
            said = self._announced.setdefault(archive, Announced())
            await self._announce(archive, trees, said)
            # What has nothing to announce yet is due when the state changes.
            due = min([due, *(at for at in (said.renew_at, said.head_at) if at)])
        return max(due - time.monotonic(), 0.5)

    def _archives(self) -> dict[bytes, list[Tree]]:
        """What is published or mirrored here. What was merely fetched is nobody's business."""
        made: dict[bytes, list[Tree]] = {}
        for tree in self._state.trees.all():
            if tree.archive is not None and tree.role != "fetch":
                made.setdefault(tree.archive, []).append(tree)
        return made

    async def _announce(self, archive: bytes, trees: list[Tree], said: Announced) -> None:
        now = time.monotonic()
        head = self._state.heads.newest(archive)
        coverage = _coverage(trees)
        new_head = head is not None and head.raw != said.head
        if head is not None and (new_head or now >= said.head_at):
            await self._announce_head(head, said, new=new_head)
        if coverage is not None and (coverage != said.coverage or now >= said.renew_at):
            role = HolderRole.ORIGIN if any(tree.role == "publish" for tree in trees) else HolderRole.MIRROR
            await self._announce_holder(archive, coverage, role, said)

    async def _announce_head(self, head: ArchiveHead, said: Announced, *, new: bool) -> None:
        if not new and self._random.random() * len(self._known(head.archive)) > HEAD_REFRESHERS:
            said.head_at = time.monotonic() + HEAD_ROUND * self._random.uniform(0.9, 1.1)
            return
        # Read first: a newer head that is out there must not be fought.
        lookup = await self._dht.get_head(head.archive)
        if lookup.best is not None and lookup.best.order > head.order:
            best = judge(head.archive, [lookup.best.raw], head, time.time()).head
            if best is not None and best.order > head.order:
                self._state.heads.put(best, "DHT")
                said.head_at = time.monotonic() + RETRY
                return
        copies = await self._dht.put_head(head.raw)
        self._note(copies)
        if new:
            await self._tell_holders(head.archive, head.raw, None)
            said.head = head.raw
        said.head_alone = said.head_alone + 1 if copies <= 1 else 0
        pause = min(RETRY * said.head_alone, HEAD_ROUND) or HEAD_ROUND * self._random.uniform(0.9, 1.1)
        said.head_at = time.monotonic() + pause

    async def _announce_holder(
        self, archive: bytes, coverage: Coverage, role: HolderRole, said: Announced
    ) -> None:
        endpoint = await self._endpoint()
        if endpoint is None:
            said.renew_at = time.monotonic() + RETRY  # Nobody has told us yet at which address we are seen.
            return
        self._state.tell_address(str(endpoint))
        record = self._record(archive, coverage, role, endpoint)
        self._keep(archive, record)
        copies = await self._dht.put_holder(record.raw)
        self._note(copies)
        for found in await self._dht.get_holders(holders_key(archive)):
            self._keep(archive, found)
        await self._tell_holders(archive, None, record)
        said.coverage = coverage
        said.holder_alone = said.holder_alone + 1 if copies <= 1 else 0
        pause = min(RETRY * said.holder_alone, HEAD_ROUND) or RENEW * self._random.uniform(0.9, 1.0)
        said.renew_at = time.monotonic() + pause

    def _note(self, copies: int) -> None:
        if copies > 1:  # One copy is our own.
            self.last_announced = time.time()

    def _record(
        self, archive: bytes, coverage: Coverage, role: HolderRole, endpoint: Endpoint
    ) -> HolderRecord:
        now = int(time.time())
        return HolderRecord.sign(
            self._identity,
            holders_key(archive),
            endpoints=[endpoint],
            issued=now,
            expires=now + LIFETIME,
            role=role,
            payload=coverage.encode(),
        )

    async def _endpoint(self) -> Endpoint | None:
        """Where others reach the content server: as told, as bound, or as other nodes see us."""
        host, port = self._advertise or self._listen
        if host not in ("0.0.0.0", "::", ""):  # noqa: S104 - a comparison
            try:  # Records hold addresses; those of a name may change.
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except OSError:
                return None
            return Endpoint(str(found[0][4][0]), port)
        observed = self._dht.observed_address()
        return None if observed is None else Endpoint(observed[0], port)

    def _known(self, archive: bytes) -> list[HolderRecord]:
        made: list[HolderRecord] = []
        for raw in self._state.holders.for_archive(archive, time.time()):
            with contextlib.suppress(RecordError):
                record = HolderRecord.decode(raw)
                if record.node_key != self._identity.public_key:
                    made.append(record)
        return made

    def _keep(self, archive: bytes, record: HolderRecord) -> None:
        self._state.holders.put(
            archive, record.raw, node_key=record.node_key, issued=record.issued, expires=record.expires
        )

    async def _tell_holders(self, archive: bytes, head: bytes | None, record: HolderRecord | None) -> None:
        """Tell some of the known holders directly, and take their lists in exchange."""
        known = self._known(archive)
        told = self._random.sample(known, min(TOLD_MAX, len(known)))
        async with asyncio.TaskGroup() as group:
            for endpoint in dict.fromkeys(e for holder in told for e in holder.endpoints if e.ip):
                group.create_task(self._try_to_tell(archive, str(endpoint), head, record))

    async def _try_to_tell(
        self, archive: bytes, address: str, head: bytes | None, record: HolderRecord | None
    ) -> None:
        with contextlib.suppress(P2psyncError, TimeoutError):
            async with asyncio.timeout(TELL_TIMEOUT):
                await self._tell(archive, address, head, record)

    async def _tell(
        self, archive: bytes, address: str, head: bytes | None, record: HolderRecord | None
    ) -> None:
        source = PeerSource(address, connections=1)
        try:
            if head is not None:
                await source.put_head(archive, head)
            if record is not None and local_address(address) == record.endpoints[0].ip:
                await source.nominate(archive, record.raw)
            for raw in await source.holders(archive):
                self._take(archive, raw)
        finally:
            await source.close()

    def _take(self, archive: bytes, raw: bytes) -> None:
        """Keep what another holder says of a third, if that one has signed it."""
        with contextlib.suppress(RecordError):
            record = HolderRecord.decode(raw)
            if record.key == holders_key(archive) and record.node_key != self._identity.public_key:
                record.verify(int(time.time()))
                self._keep(archive, record)


def _coverage(trees: list[Tree]) -> Coverage | None:
    """The best that is here of an archive; None while there is nothing."""
    complete = [(tree.epoch, tree.seq) for tree in trees if tree.snapshot is not None]
    if complete:
        return Coverage(True, *max(complete))
    mirrors = [tree for tree in trees if tree.role == "mirror"]
    return Coverage(False, 0, 0) if mirrors else None

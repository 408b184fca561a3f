"""Finding heads and sources: from what was given by hand, from the DHT, from what is remembered, and from the
sources themselves.

A mirror that is known by its address alone is enough: it knows the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from p2psync.errors import FormatError, NetworkError, P2psyncError
from p2psync.fetch.options import FetchOptions
from p2psync.format.coverage import Coverage
from p2psync.format.head import ArchiveHead
from p2psync.format.url import archive_text
from p2psync.network.protocols import Network
from p2psync.sources.http.rate import RateLimiter
from p2psync.sources.node import PeerSource
from p2psync.sources.source import NotOffered, Source
from p2psync.sources.swarm import Member, Swarm
from p2psync.sources.web import WebSource
from p2psync.state import State
from p2psync.trust import judge
from p2psync_dht import HolderRecord, HolderRole, RecordError, holders_key

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for a source to accept a connection, unless --contimeout says otherwise: there are others."""
IDLE_TIMEOUT: Final = 15.0
"""Seconds of silence after which a request is given up, unless --timeout is shorter."""
HEAD_TIMEOUT: Final = 8.0
"""Seconds that all who are asked for the head get together."""
HEAD_GRACE: Final = 1.0
"""Seconds that the others get once somebody has answered: the newest head counts, not the first."""
HOLDERS_TIMEOUT: Final = 5.0
START_GRACE: Final = 0.7
"""Seconds that a search for sources gets before the fetch begins with those that are known."""
HEADS_ASKED: Final = 8
"""Known holders that are asked for the head where neither the DHT nor a source given by hand has one."""
EAGER_ROUNDS: Final = 4
EAGER_PAUSE: Final = 2.0
PAUSE: Final = 20.0
"""Seconds between searches for further sources: some quick rounds first, since peers come with a crowd."""


class Discovery:
    """Finds the newest head of an archive and fills a swarm with sources."""

    def __init__(
        self,
        state: State,
        options: FetchOptions,
        network: Network,
        swarm: Swarm,
        warn: Callable[[str], None],
        limiter: RateLimiter | None = None,
    ) -> None:
        self._state = state
        self._options = options
        self._archive = options.url.archive
        self._network = network
        self._swarm = swarm
        self._warn = warn
        self._own_key = state.identity().public_key
        self._limiter = limiter
        self._started = False
        self._searching: asyncio.Future[None] | None = None
        self._warned: set[str] = set()
        for name in dict.fromkeys((*options.sources, *options.url.peers, *options.url.webs)):
            self._add(name, whole=True, node_key=None, given=True)
        self._given = [member for member in swarm.members if member.metadata]

    def _source(self, name: str) -> Source:
        connect = self._options.contimeout or CONNECT_TIMEOUT
        idle = min(self._options.timeout or IDLE_TIMEOUT, IDLE_TIMEOUT)
        if name.startswith(("http://", "https://")):
            return WebSource(name, limiter=self._limiter, connect_timeout=connect, idle_timeout=idle)
        return PeerSource(name, limiter=self._limiter, connect_timeout=connect, idle_timeout=idle)

    def _add(self, name: str, *, whole: bool, node_key: bytes | None, given: bool = False) -> None:
        if self._swarm.knows(name, node_key) or not self._swarm.has_room():
            return
        web = name.startswith(("http://", "https://"))
        source = self._source(name)
        self._swarm.add(Member(source, whole=whole, given=given, metadata=not web, node_key=node_key))

    # Heads.

    async def newest_head(self) -> ArchiveHead:
        """The newest acceptable head that is remembered or found; it is remembered from now on.

        Raises:
            NetworkError: none is known and none was found. TrustError: a fresh one was demanded.
        """
        remembered = self._state.heads.newest(self._archive)
        found = await self._ask_heads()
        if not found:
            await self._look_for_holders()
            asked = [member for member in self._swarm.ready() if member.metadata][:HEADS_ASKED]
            found = await self._gather([self._head_of(member) for member in asked])
        judgement = judge(
            self._archive, found, remembered, time.time(), require_fresh=self._options.require_fresh
        )
        for warning in judgement.warnings:
            self._warn_once(warning)
        if judgement.head is None:
            raise NetworkError(
                f"no head of p2psync://{archive_text(self._archive)} was found: neither the DHT nor a "
                "source has one; give --bootstrap HOST:PORT of a node, or --source HOST:PORT of a mirror"
            )
        if not found and remembered is not None:
            self._warn_once("nobody could be asked for a newer head; the newest one known here is used")
        if judgement.refused_older:
            self._warn_once(
                f"{judgement.refused_older} older head(s) were offered and refused: "
                f"sequence number {judgement.head.seq} is the newest known"
            )
        if judgement.head is not remembered:
            self._state.heads.put(judgement.head, "network")
        return judgement.head

    async def _ask_heads(self) -> list[bytes]:
        asked: list[Coroutine[Any, Any, bytes | None]] = [self._head_of(member) for member in self._given]
        if self._network.reachable:
            asked.append(self._head_from_dht())
        return await self._gather(asked)

    async def _gather(self, questions: Iterable[Coroutine[Any, Any, bytes | None]]) -> list[bytes]:
        """Answers that are in within the time-out, or a little after the first one."""
        tasks = [asyncio.ensure_future(question) for question in questions]
        try:
            pending: set[asyncio.Future[bytes | None]] = set(tasks)
            deadline = time.monotonic() + HEAD_TIMEOUT
            while pending and (left := deadline - time.monotonic()) > 0:
                done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if any(task.result() is not None for task in done):
                    deadline = min(deadline, time.monotonic() + HEAD_GRACE)
        finally:
            for task in tasks:
                task.cancel()
        finished = [task for task in tasks if task.done() and not task.cancelled()]
        return [raw for task in finished if (raw := task.result()) is not None]

    async def _head_from_dht(self) -> bytes | None:
        head = await self._network.get_head(self._archive)
        return None if head is None else head.raw

    async def _head_of(self, member: Member) -> bytes | None:
        try:
            raw = await member.source.head(self._archive)
            member.answered = True
            return raw
        except NetworkError as error:
            self._swarm.failed(member, str(error))
        except (FormatError, NotOffered) as error:
            self._warn_once(str(error))
        return None

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._warn(text)

    # Sources.

    async def start(self) -> None:
        """Find the first sources; called when something has to be fetched.

        Those who answer late are taken in later: with a source to begin with, nobody waits for them long.
        """
        if self._started:
            return
        self._started = True
        self._searching = asyncio.ensure_future(self._look_for_holders())
        deadline = time.monotonic() + START_GRACE
        while not self._searching.done():
            left = deadline - time.monotonic() if self._swarm.ready() else HOLDERS_TIMEOUT
            if left <= 0:
                break
            await asyncio.wait([self._searching], timeout=min(left, 0.1))

    async def close(self) -> None:
        """End the search and close all sources."""
        if self._searching is not None:
            self._searching.cancel()
            await asyncio.wait([self._searching])
        for member in self._swarm.members:
            await member.source.close()

    async def keep_looking(self) -> None:
        """Search for further sources until cancelled."""
        for searched in range(1 << 62):
            await asyncio.sleep(EAGER_PAUSE if searched < EAGER_ROUNDS else PAUSE)
            if self._started:
                await self._look_for_holders()

    async def look_again(self, than: ArchiveHead) -> bool:
        """Search for sources and a newer head; True if there is a head that is newer than ``than``."""
        await self._look_for_holders()
        members = [member for member in self._swarm.ready() if member.metadata]
        asked: list[Coroutine[Any, Any, bytes | None]] = [
            self._head_of(member) for member in members[:HEADS_ASKED]
        ]
        if self._network.reachable:
            asked.append(self._head_from_dht())
        found = await self._gather(asked)
        head = judge(self._archive, found, self._state.heads.newest(self._archive), time.time()).head
        if head is None or head.order <= than.order:
            return False
        self._state.heads.put(head, "network")
        return head.snapshot != than.snapshot

    async def _look_for_holders(self) -> None:
        """Ask the state directory, the DHT and the sources who has the archive."""
        self._take(self._state.holders.for_archive(self._archive, time.time()), keep=False)
        lookups = [self._holders_from(member) for member in self._swarm.ready() if member.metadata]
        if self._network.reachable:
            lookups.append(self._holders_from_dht())
        if lookups:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HOLDERS_TIMEOUT):
                    await asyncio.gather(*lookups)

    async def _holders_from_dht(self) -> None:
        records = await self._network.get_holders(holders_key(self._archive))
        self._take((record.raw for record in records), keep=True)

    async def _holders_from(self, member: Member) -> None:
        try:
            self._take(await member.source.holders(self._archive), keep=True)
        except NetworkError as error:
            self._swarm.failed(member, str(error))
        except P2psyncError as error:
            self._warn_once(str(error))

    def _take(self, raws: Iterable[bytes], *, keep: bool) -> None:
        """Add the holders in these records, which may be anybody's and anything."""
        now = int(time.time())
        for raw in raws:
            try:
                record = HolderRecord.decode(raw)
                if record.key != holders_key(self._archive) or record.node_key == self._own_key:
                    continue
                record.check_time(now)
                if keep:
                    record.verify()
                coverage = Coverage.decode(record.payload)
            except (RecordError, FormatError):
                continue
            if keep:
                self._state.holders.put(
                    self._archive,
                    record.raw,
                    node_key=record.node_key,
                    issued=record.issued,
                    expires=record.expires,
                )
            for endpoint in record.endpoints:
                if not endpoint.url:
                    self._add_holder(str(endpoint), record, coverage)

    def _add_holder(self, name: str, record: HolderRecord, coverage: Coverage) -> None:
        self._add(name, whole=False, node_key=record.node_key)
        for member in self._swarm.members:
            # An address may stand in anybody's record: what a node said of itself is not overwritten by it.
            at_address = member.name == name and member.node_key is None
            if at_address or member.node_key == record.node_key:
                member.node_key = record.node_key
                member.whole = coverage.complete and record.role != HolderRole.PEER
                member.claims = (coverage.epoch, coverage.seq) if member.whole else None

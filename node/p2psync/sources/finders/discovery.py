"""Finding heads and sources: what was given by hand, what is remembered, the DHT and the sources themselves,
brought together in a swarm.

A mirror that is known by its address alone is enough: it knows the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from p2psync.errors import NetworkError, NoHead, P2psyncError, UsageError
from p2psync.format.head import ArchiveHead
from p2psync.network.protocols import Network
from p2psync.network.told import teller_at
from p2psync.sources.finders.heads import HEADS_ASKED, HeadQuestions
from p2psync.sources.finders.in_dht import InDht
from p2psync.sources.finders.joining import Joining
from p2psync.sources.finders.nothing import heard, no_head
from p2psync.sources.finders.recommended import Recommended
from p2psync.sources.finders.remembered import Remembered
from p2psync.sources.finders.search import Search
from p2psync.sources.finders.seen import SeenHeads
from p2psync.sources.interfaces import Source
from p2psync.sources.opening import open_source
from p2psync.sources.source import together
from p2psync.sources.swarm import Member, Swarm
from p2psync.state import State
from p2psync.trust import judge
from p2psync_dht import HolderRecord

HOLDERS_TIMEOUT: Final = 5.0
"""Seconds that one search for holders may take."""
KNOWN_PATIENCE: Final = 0.3
"""Seconds until holders are looked for in the DHT for the head's sake, where none of the known ones has
answered.
"""
START_GRACE: Final = 0.7
"""Seconds that the first search goes on once it has found somebody, where nobody was given who answers."""
PAUSE_FIRST: Final = 0.3
"""Seconds until sources are asked for others again: peers come with a crowd, within a second or two of each
other, and who hears of them late has asked the origin for everything by then. Measured with eight at once:
this, and ``holdings.ROUND``, took the last one from 2.8 to 2.2 times the optimum.
"""
PAUSE_GROWTH: Final = 1.5
PAUSE_MAX: Final = 20.0
"""Seconds between searches in the end: a dozen in the first minute."""
DHT_PAUSE: Final = 20.0
"""Seconds between questions to the DHT: mirrors are listed there, which come and go slowly."""
TOLD_MAX: Final = 64
"""Records that are looked at of those that a source knows that nobody vouched for: it could make 200 new
ones for each question, and checking a signature takes 0.1 ms.
"""
LISTS_ASKED: Final = 4
"""Sources that are asked for the archive's list of mirrors: one that is behind has an older one."""
LED_MAX: Final = 16
"""Sources that were named by others as having the same: who names new ones for ever gets no further."""


class Discovery:
    """Finds the newest head of an archive and fills a swarm with sources."""

    def __init__(
        self,
        state: State,
        search: Search,
        network: Network,
        swarm: Swarm,
        warn: Callable[[str], None],
    ) -> None:
        """``warn`` may be told the same thing at each search."""
        self._search = search
        self._archive = search.archive
        self._remembered = Remembered(state, search.archive)
        self._dht = InDht(network, search.archive)
        self._heads = HeadQuestions(search.archive, self._dht, swarm, warn)
        self._swarm = swarm
        self._warn = warn
        own_key = swarm.own_key = state.identity().public_key
        self._recommended = Recommended(state, search.archive, network.observed)
        self._joining = Joining(
            self._archive,
            own_key,
            self._remembered,
            swarm,
            self._source,
            self._heads.met,
            self._recommended,
        )
        self._listed: set[str] = set()
        """Sources that were asked for the archive's list of mirrors."""
        self._tellers: dict[str, str] = {}
        """IP addresses of sources, by name."""
        self._started = False
        self._searching: asyncio.Future[None] | None = None
        self._meeting: asyncio.Future[None] | None = None
        self._told_silent = False
        self._led = 0
        self._seen = SeenHeads()
        self._chance = random.Random()  # noqa: S311 - whom strangers cannot foresee, not what is secret
        for name in dict.fromkeys(search.given):
            if not swarm.knows(name, None) and swarm.has_room():
                swarm.add(Member(self._source(name), whole=True, given=True))

    def _source(self, name: str) -> Source:
        return open_source(name, self._search.settings)

    # Heads.

    async def newest_head(self) -> ArchiveHead:
        """The newest acceptable head that is remembered or found. Whoever has its snapshot lets `accept`
        know.

        Raises:
            NetworkError: none is known and none was found. TrustError: a fresh one was demanded.
        """
        remembered = await self._remembered.head()
        given = [member for member in self._swarm.members if member.given]
        if self._meeting is None and (self._dht.reachable or not given):
            self._meeting = asyncio.ensure_future(self._meet_some())
        found, met = await self._heads.ask(given, dht=True, meeting=self._meeting)
        if not found and not met:
            await self.look_around()
            found = (await self._heads.ask(self._swarm.ready(), dht=False)).asked
        # A holder may well be behind, and strangers may say anything: of theirs only news are judged.
        self._seen.note([*found, *met])
        newest = judge(self._archive, self._seen.usable(), remembered, time.time()).head
        found = self._seen.usable(found)
        if newest is not None and newest is not remembered and newest.raw not in found:
            found = [*found, newest.raw]
        judgement = judge(
            self._archive, found, remembered, time.time(), require_fresh=self._search.require_fresh
        )
        for warning in judgement.warnings:
            self._warn(warning)
        if judgement.head is None:
            raise NoHead(no_head(self._archive, given, self._dht.way))
        if not found and not met and remembered is not None and not await self._remembered.made_here():
            self._warn("nobody could be asked for a newer head; the newest one known here is used")
        if judgement.refused_older:
            self._warn(
                f"{judgement.refused_older} older head(s) were offered and refused: "
                f"sequence number {judgement.head.seq} is the newest known"
            )
        self._joining.snapshot = judgement.head.snapshot
        return judgement.head

    async def accept(self, head: ArchiveHead) -> None:
        """What a head names is there: from now on it is remembered, and an older one is refused."""
        await self._remembered.keep_head(head)

    async def before(self, head: ArchiveHead) -> ArchiveHead | None:
        """The newest head before one whose snapshot nobody has, of those that are not older than what is
        remembered; None: there is none. So it is where a mirror is just being updated, and has the new head
        already.
        """
        self._seen.give_up(head.raw)
        self._seen.note(await self._heads.earlier(self._swarm.ready()))
        remembered = await self._remembered.head()
        known = self._seen.usable()
        found = judge(self._archive, known, remembered, time.time(), require_fresh=self._search.require_fresh)
        if found.head is None or found.head.raw not in known:
            return None
        self._joining.snapshot = found.head.snapshot
        return found.head

    async def _meet_some(self) -> None:
        """Make sources of a few holders by chance, who are asked for the head: of those that are remembered,
        and where none of them answers soon, of those in the DHT.
        """
        known = await self._remembered.holders(time.time())
        meeting = asyncio.ensure_future(self._joining.take(known, None, verified=True, some=HEADS_ASKED))
        try:
            async with asyncio.timeout(HOLDERS_TIMEOUT):
                await asyncio.wait([meeting], timeout=KNOWN_PATIENCE)
                if self._dht.reachable and not any(member.node_key for member in self._swarm.members):
                    await self._joining.take(
                        await self._dht.holders(), None, verified=False, some=HEADS_ASKED
                    )
                await meeting
        except TimeoutError:
            return
        finally:
            meeting.cancel()

    @property
    def heard(self) -> bool:
        """Whether anybody answered who could have known of the archive."""
        return heard(self._swarm.members, self._dht.way)

    async def look_again(self, than: ArchiveHead) -> bool:
        """Search for sources and a newer head; True if there is a head that is newer than ``than``."""
        await self.look_around()
        found = await self._heads.ask(self._swarm.ready(), dht=True)
        self._seen.note(found.asked)
        head = judge(
            self._archive, self._seen.usable(found.asked), await self._remembered.head(), time.time()
        ).head
        if head is None or head.order <= than.order:
            return False
        if head.snapshot == than.snapshot:
            await self.accept(head)  # Of the same, and newer.
            return False
        self._joining.snapshot = head.snapshot
        return True

    # Sources.

    async def start(self) -> None:
        """Find the first sources; called when something has to be fetched.

        Those who answer late are taken in later: who was given a source that answers waits for nobody.
        """
        if self._started:
            return
        self._started = True
        await self._recommended.load()
        self._searching = asyncio.ensure_future(self.look_around())
        if any(member.given and member.answered and member.metadata for member in self._swarm.ready()):
            return
        joined = asyncio.ensure_future(self._joining.joined.wait())
        try:
            await asyncio.wait(
                [self._searching, joined], timeout=HOLDERS_TIMEOUT, return_when=asyncio.FIRST_COMPLETED
            )
            await asyncio.wait([self._searching], timeout=START_GRACE)
        finally:
            joined.cancel()

    async def close(self) -> None:
        """End the search and close all sources."""
        tasks = [task for task in (self._searching, self._meeting) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._dht.close()
        await self._joining.close()
        await asyncio.gather(*(member.source.close() for member in self._swarm.members))

    async def keep_looking(self) -> None:
        """Search for further sources until cancelled."""
        await together([self._keep_asking_sources(), self._keep_asking_the_dht()])

    async def _keep_asking_sources(self) -> None:
        pause = PAUSE_FIRST
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * PAUSE_GROWTH, PAUSE_MAX)
            if self._started:
                self._take_others()
                await self._search_for(self._questions())
                self._joining.recall()

    async def _keep_asking_the_dht(self) -> None:
        while True:
            await asyncio.sleep(DHT_PAUSE)
            if self._started and self._dht.reachable:
                await self._search_for([self._holders_in_dht()])

    async def look_around(self) -> None:
        """Ask all who may know of holders: the sources, the DHT and the state directory."""
        questions = [*self._questions(), self._holders_remembered()]
        if self._dht.reachable:
            questions.append(self._holders_in_dht())
        await self._search_for(questions)
        silent = self._joining.silent
        if silent and not self._swarm.members and not self._told_silent:
            self._told_silent = True
            last = list(silent.values())[-1]
            self._warn(f"none of the {len(silent)} known holders answers (last: {last})")

    def _take_others(self) -> None:
        """Make sources of those that web servers name as having the same: a few, and none twice."""
        for member in self._swarm.members:
            for name in list(member.source.others):
                if self._swarm.knows(name, None) or not self._swarm.has_room() or self._led >= LED_MAX:
                    continue
                try:
                    other = Member(self._source(name), whole=True)
                except UsageError:
                    continue  # No URL that can be asked.
                self._led += 1
                self._swarm.add(other)

    def _questions(self) -> list[Coroutine[Any, Any, None]]:
        """To each source: whom else it knows."""
        return [self._holders_from(member) for member in self._swarm.ready() if member.tracker is not None]

    async def _search_for(self, questions: Iterable[Coroutine[Any, Any, None]]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HOLDERS_TIMEOUT):
                await asyncio.gather(*questions)

    async def _holders_remembered(self) -> None:
        await self._joining.take(await self._remembered.holders(time.time()), None, verified=True)

    async def _holders_in_dht(self) -> None:
        await self._joining.take(await self._dht.holders(), None, verified=False)

    async def _holders_from(self, member: Member) -> None:
        assert member.tracker is not None  # noqa: S101 - only such are asked
        try:
            raws = await member.tracker.holders(self._archive)
        except NetworkError as error:
            self._swarm.failed(member, str(error))
        except P2psyncError as error:
            self._warn(str(error))
        else:
            if member.name not in self._tellers:
                self._tellers[member.name] = await teller_at(member.name)
            if not member.given and len(raws) > TOLD_MAX:
                raws = self._chance.sample(raws, TOLD_MAX)
            await asyncio.gather(
                self._joining.take(raws, self._tellers[member.name], verified=False),
                self._list_from(member, self._tellers[member.name]),
            )

    async def _list_from(self, member: Member, teller: str) -> None:
        """Ask a source for the archive's list of mirrors, and try those that it is the first to tell of."""
        if member.name in self._listed or len(self._listed) >= LISTS_ASKED:
            return
        assert member.tracker is not None  # noqa: S101 - only such are asked
        self._listed.add(member.name)
        try:
            newer = await self._recommended.take(await member.tracker.mirrors(self._archive))
        except P2psyncError as error:
            self._warn(str(error))
            return
        if not newer and len(self._listed) > 1:
            return
        for url in self._recommended.web(member.name):
            if not self._swarm.knows(url, None) and self._swarm.has_room():
                self._swarm.add(Member(self._source(url), whole=True))
        await self._joining.take_recommended(teller)

    def answers(self, record: HolderRecord) -> bool | None:
        """Whether the holder of a record answered when it was looked for; None where it was not asked."""
        return self._joining.answers(record)

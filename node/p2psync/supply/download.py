"""Work through a plan: have made what can be made from this machine, ask the sources for the rest.

Everything here runs in the event loop and moves no bulk byte: a source that is free gets an order with room
in the arena for its answer; what comes back verified goes to the writer; what failed, was lacking or wrong
goes back to the queue, and its source bears the consequences (``sources.swarm``). Nothing is polled: an
answer, a fact from the writer or a new source wakes those who wait; only what depends on the clock (back-off,
endgame, silence) is looked at from time to time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from itertools import count
from typing import Final

from p2psync.arena import Arena
from p2psync.errors import FormatError, NetworkError, TransferTimeout
from p2psync.events import Teller
from p2psync.format.paths import join
from p2psync.plan.changes import Plan
from p2psync.sources.orders import ROW_HEAD, Answer, Check, Order
from p2psync.sources.source import NotHere, NotOffered, Span, wish_of
from p2psync.sources.swarm import REQUEST_FIRST, REQUEST_MAX, Member, Swarm
from p2psync.supply.bundles import Bundle
from p2psync.supply.change import Change
from p2psync.supply.control import Control
from p2psync.supply.holdings import keep_asking
from p2psync.supply.jobs import Job, Target
from p2psync.supply.lease import Lease, Piece
from p2psync.supply.placing import Placing
from p2psync.supply.producer import Producer
from p2psync.supply.queue import Queue, Request
from p2psync.supply.result import Result
from p2psync.supply.share import Share

_new: Final = tuple.__new__  # what a named tuple's own constructor calls, without a call of its own
DEPTH: Final = 3
"""Orders under way at one source: one on the wire, one waiting there, one being verified here."""
DEPTH_BY_PATH: Final = 64
"""Orders at a source that is asked for one file in each, as long as they are no more bytes than one request
of it may have: else each small file would take a third of a round trip.
"""
UNDER_WAY_SHARE: Final = 64
"""Of small fetches, the part that may be under way at once: what a kill loses is asked for again."""
ARENA_SHARE: Final = 0.75
"""Of the arena, the part that requests may take: the writer has yet to write the rest."""
WINDOW_BYTES: Final = 96 << 20
"""Bytes of objects that are under construction at once, beyond the first."""
WINDOW_JOBS: Final = 12_000
"""Objects under construction: three of the largest requests for small files."""
WINDOW_FILES: Final = 192
"""Unfinished files of several chunks that are open at once: well below the usual limit of 1,024
descriptors.
"""
SHARED_FILES_MAX: Final = 5_000
"""Files of a fetch up to which those who fetch the same at the same time give each other small files too: one
by one they take some 0.2 ms each, and travel in bundles otherwise.
"""
BACKLOG_MAX: Final = 4096
"""Orders that the writer has not answered, beyond which nothing new is begun."""
TICK: Final = 0.25
"""Seconds between looks at what depends on the clock."""
HOPELESS_SECONDS: Final = 10.0
"""How long a fetch without any usable source waits for one to be found."""
STUCK_ROUNDS: Final = 3
"""How often sources and the head are looked for again before what nobody has counts as missing."""
EXPECTING_ROUNDS: Final = 10
"""How often, while others are being tried or wait for a place."""
STUCK_PAUSE: Final = 2.0
"""Seconds between these."""
STALL_SECONDS: Final = 60.0
"""Silence of all sources after which a fetch gives up, unless --timeout says otherwise."""


class Download:
    """One run through a plan."""

    def __init__(
        self,
        swarm: Swarm,
        arena: Arena,
        placing: Placing,
        change: Change,
        tell: Teller,
        *,
        share: Share,
        look_again: Callable[[], Awaitable[bool]],
        archive_path: Callable[[Target], bytes],
        control: Control,
        timeout: float | None = STALL_SECONDS,
    ) -> None:
        """``look_again`` searches for sources and a newer head; True if the head is newer than the one
        fetched. ``archive_path`` gives the path in the archive of a place in DEST, for sources that know
        paths only. ``timeout``: seconds of silence; None: never.
        """
        self._swarm = swarm
        self._arena = arena
        self._placing = placing
        self._change = change
        placing.on_done = self._written
        self._tell = tell
        self._share = share
        self._look_again = look_again
        self._archive_path = archive_path
        self._control = control
        self._timeout = timeout
        self._queue = Queue(swarm, time.monotonic, self._jobs_of)
        self.jobs: dict[bytes, Job] = {}
        """What is under construction, by digest."""
        self._tokens = count(1)
        self._asked: dict[int, tuple[Member, Request, Lease]] = {}
        self._by_member: dict[str, int] = {}
        self._bytes_asked: dict[str, int] = {}
        self._room, self._due, self._heard = Change(), Change(), Change()
        """More may be begun; the supervisor has something to do; a source has answered."""
        self._open_bytes = 0
        self._open_jobs = 0
        self._open_files = 0
        self._stuck_rounds = 0
        self._received = 0
        self._arrived = {member.name: member.received for member in swarm.members}
        self._last_byte = time.monotonic()
        self._over = False
        self._drains = False
        """Whether nothing more is begun until something has come."""
        self._starved = False
        """Whether a source would have been asked, had there been room in the arena."""
        self._under_way_max = REQUEST_MAX
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def run(self, plan: Plan, producer: Producer) -> Result:
        """Returns when all is in place, or nobody has what is missing.

        Raises:
            NetworkError: no source is left. FileError: the disk is full or refuses. What is done is kept.
        """
        most = int(self._arena.size * ARENA_SHARE)
        self._under_way_max = min(most, plan.size // UNDER_WAY_SHARE)
        self._queue.shares_files = plan.files <= SHARED_FILES_MAX
        try:
            async with asyncio.TaskGroup() as group:
                producing = group.create_task(self._produce(plan, producer))
                group.create_task(self._supervise(group, producing))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            self._over = True
            self._tell.awaiting(False)
            await self._end()
        await self._placing.settled()
        return self._placing.result

    async def _produce(self, plan: Plan, producer: Producer) -> None:
        await producer.run(plan)
        self._queue.closed = True
        self._due.tell()

    async def _end(self) -> None:
        """Nothing more is asked for: wait until no answer can come any more."""
        for token, (member, _, _) in list(self._asked.items()):
            member.content.cancel(token)
        while self._asked:
            await self._heard.happened()
        for job in self.jobs.values():
            self._share.withdraw(job)

    # What the producer hands over (``producer.Window``).

    def add(self, jobs: Sequence[Job]) -> None:
        """Ask for what is missing of some jobs."""
        for job in jobs:
            if not job.left:
                self._forget(job)
                continue
            self._open_jobs += 1
            self._open_bytes += job.size
            if job.chunks > 1:
                self._open_files += 1
            self._queue.add(job)
        self._dispatch()

    def add_bundles(self, bundles: Sequence[Bundle]) -> None:
        """Ask for some bundles."""
        self._open_jobs += sum(map(len, bundles))
        self._open_bytes += sum([bundle.size for bundle in bundles])
        self._queue.add_bundles(bundles)
        self._dispatch()

    def _jobs_of(self, bundle: Bundle) -> list[Job]:
        """What was added as a bundle goes on as jobs."""
        jobs = bundle.jobs()
        self.jobs.update((job.digest, job) for job in jobs)
        return jobs

    async def room(self) -> bool:
        """Wait until more may be begun; False if the download is over."""
        while self._full() and not self._over:
            await self._room.wait(TICK)
            self._change.check()
        return not self._over

    async def whole(self, jobs: Collection[Job]) -> bool:
        """Wait until all has come of some jobs that can; False if the download is over."""
        self._drains = True
        while any(job.left and job.targets for job in jobs) and not self._over:
            await self._room.wait(TICK)
            self._change.check()
        self._drains = False
        return not self._over

    def _full(self) -> bool:
        return (
            self._open_bytes > WINDOW_BYTES
            or self._open_jobs > WINDOW_JOBS
            or self._open_files > WINDOW_FILES
            or self._placing.backlog > BACKLOG_MAX
        )

    def _forget(self, job: Job) -> None:
        if self.jobs.get(job.digest) is job:
            del self.jobs[job.digest]

    def close(self, job: Job) -> None:
        """A job that was added is whole, or given up."""
        self._forget(job)
        self._open_jobs -= 1
        self._open_bytes -= job.size
        if job.chunks > 1:
            self._open_files -= 1

    # Asking sources.

    def _dispatch(self) -> None:
        """Give orders to all sources that are free."""
        if self._over or self._control.paused or not self._queue.has_work:
            return
        ready = self._swarm.ready()
        share = max(self._under_way_max // (max(len(ready), 1) * DEPTH), REQUEST_FIRST)
        limit = min(REQUEST_MAX, share)
        eager: list[Member] = []
        for member in ready:
            # One that may give nothing gets nothing that others could give meanwhile.
            depth = DEPTH if member.is_reliable or len(ready) == 1 else 1
            while self._by_member.get(member.name, 0) < depth:
                if not self._ask(member, limit):
                    break
            else:
                if member.content.by_path and depth == DEPTH:
                    eager.append(member)
        while eager:  # In turns, or one would have all the files of a small fetch.
            eager = [member for member in eager if self._takes_more(member) and self._ask(member, limit)]

    def _takes_more(self, member: Member) -> bool:
        """Whether a source that is asked for one file in each order is to get another one now."""
        few = self._by_member.get(member.name, 0) < DEPTH_BY_PATH
        return few and self._bytes_asked.get(member.name, 0) < member.request_size

    def _ask(self, member: Member, limit: int) -> bool:
        """Give one order; False if there is nothing for this source, or no room for the answer."""
        if not self._arena.has(min(member.request_size, limit)):
            self._starved = True
            return False
        request = self._queue.take(member, limit)
        if request is None:
            return False
        spans: list[Span] = []
        checks: list[Check] = []
        size = 0
        for bundle in request.bundles:
            checks += bundle.checks(len(spans))
            spans += bundle.spans()
            size += bundle.size + ROW_HEAD * len(bundle)
        by_path = member.content.by_path
        for index, (job, first, last) in enumerate(request.parts):
            path = self._archive_path(job.targets[0]) if by_path else None
            whole, digest = job.size, job.digest
            if job.chunks == 1:
                spans.append(_new(Span, (digest, 0, whole, path, whole)))
                checks.append(_new(Check, (index, 0, whole, digest)))
                size += whole + ROW_HEAD
            else:
                begin, end = job.bounds(first, last)
                spans.append(Span(digest, begin, end - begin, path, whole))
                size += end - begin + ROW_HEAD
                recipe = job.recipe
                for number in range(first, last):
                    digest, length = recipe.chunk(number)
                    checks.append(Check(index, recipe.offsets[number] - begin, length, digest))
        lease = self._placing.lease(size)
        if lease is None:
            self._starved = True
            self._queue.done(request)
            return False
        token = next(self._tokens)
        self._asked[token] = (member, request, lease)
        self._by_member[member.name] = self._by_member.get(member.name, 0) + 1
        self._bytes_asked[member.name] = self._bytes_asked.get(member.name, 0) + lease.extent.size
        self._swarm.asked(member)
        member.content.ask(Order(token, spans, checks, lease.extent), self._answered)
        return True

    def _answered(self, answer: Answer) -> None:
        """A source has answered."""
        member, request, lease = self._asked.pop(answer.token)
        self._heard.tell()
        self._by_member[member.name] -= 1
        self._bytes_asked[member.name] -= lease.extent.size
        if request.bundles and not answer.complete:
            self._queue.dissolve(request)
        if answer.error is not None:
            if not self._over:
                self._failed(member, request, answer)
        elif request.bundles:
            self._take_bundles(member, request, answer, lease)
        else:
            self._take(member, request, answer, lease)
        for token, (_, other, _) in list(self._asked.items()) if request.is_doubled else ():
            if other in self._queue.overtaken(request):
                other.member.content.cancel(token)
        lease.done()
        self._queue.done(request)
        for job in {part.job for part in request.parts}:
            if not job.left and self.jobs.get(job.digest) is job:
                self.close(job)
        self._dispatch()
        self._news()

    def _written(self) -> None:
        """The writer has carried out an order."""
        if self._starved:
            self._starved = False
            self._dispatch()
        if not self._full():
            self._room.tell()

    def _news(self) -> None:
        """Wake those who wait, if there is something for them to do."""
        if not self._full():
            self._room.tell()
        if self._queue.parked or (self._queue.closed and not self._open_jobs):
            self._due.tell()

    def _failed(self, member: Member, request: Request, answer: Answer) -> None:
        error = answer.error
        if isinstance(error, NotHere):
            for part in request.parts:
                self._swarm.missed(member, part.job.digest)
        elif isinstance(error, NotOffered):
            member.dead = True
            self._tell.warn(str(error))
        elif isinstance(error, FormatError):
            self._swarm.lied(member, request.parts[0].job.digest, -1)
        elif error is not None:
            if answer.begun:
                self._swarm.cut_short(member, request.size)
            self._swarm.failed(member, str(error), wish_of(error))

    def _take(self, member: Member, request: Request, answer: Answer, lease: Lease) -> None:
        """Have what came and was right written."""
        wrong = set(answer.wrong)
        pieces: list[Piece] = []
        number = 0
        for (job, first, last), position in zip(request.parts, answer.positions, strict=True):
            if position < 0:
                self._swarm.missed(member, job.digest)
            elif job.chunks == 1 and number not in wrong:
                pieces.append(_new(Piece, (job, 0, position, job.size)))
            else:
                begin = job.bounds(first, last)[0]
                for index in range(first, last):
                    offset, end = job.bounds(index, index + 1)
                    if number + index - first in wrong:
                        self._swarm.lied(member, job.digest, index)
                    else:
                        pieces.append(Piece(job, index, position + offset - begin, end - offset))
            number += last - first
        self._came(member, request, self._placing.put(pieces, lease) if pieces else 0, answer)

    def _take_bundles(self, member: Member, request: Request, answer: Answer, lease: Lease) -> None:
        """All of it came and was right: have it made."""
        begin = 0
        for bundle in request.bundles:
            end = begin + len(bundle)
            self._placing.put_bundle(bundle, answer.positions[begin:end], lease)
            begin = end
        size = request.size
        self._open_jobs -= begin
        self._open_bytes -= size
        self._came(member, request, size, answer)

    def _came(self, member: Member, request: Request, good: int, answer: Answer) -> None:
        """So many bytes came that were right and new."""
        if good:
            self._stuck_rounds = 0
            self._tell.advance(good, 0, path=_last_path(request))
            self._tell.received(member.name, good)
        self._swarm.succeeded(member, good, answer.seconds, late=request.late)

    # What depends on the clock.

    async def _supervise(self, group: asyncio.TaskGroup, producing: asyncio.Task[None]) -> None:
        """Take in new sources, notice silence and what nobody has; end when there is nothing left to do."""
        hopeless_since: float | None = None
        parked_checked = -1.0
        looked = -1.0
        while True:
            now = time.monotonic()
            if now - looked >= TICK:
                looked = now
                self._swarm.note_paces(now)
                self._meet(group)
                self._queue.unpark()
                self._dispatch()
            if self._queue.closed and not self._open_jobs:
                break
            if self._queue.parked and now - parked_checked > STUCK_PAUSE:
                parked_checked = now
                if await self._stuck():
                    break
            self._hear(now)
            hopeless = self._swarm.hopeless() and not self._swarm.expecting() and self._open_jobs
            hopeless_since = (hopeless_since or now) if hopeless else None
            if hopeless_since is not None and now - hopeless_since > HOPELESS_SECONDS:
                raise NetworkError(self._nobody())
            if self._timeout is not None and now - self._last_byte > self._timeout:
                raise TransferTimeout(
                    f"no source has sent anything for {self._timeout:.0f} seconds; "
                    "what is there is kept, run again"
                )
            await self._due.wait(TICK)
            self._change.check()
        self._over = True
        producing.cancel()
        for asking in self._asking.values():
            asking.cancel()

    def _meet(self, group: asyncio.TaskGroup) -> None:
        """Sources that have only parts are asked again and again what they have."""
        for member in self._swarm.alive():
            if member.metadata and not self._swarm.has_all(member) and member.name not in self._asking:
                asking = keep_asking(member, self._swarm, self.jobs.values)
                self._asking[member.name] = group.create_task(asking)

    def _hear(self, now: float) -> None:
        """Note when a byte came last, or when nobody owed any, and tell what came."""
        received = 0
        for member in self._swarm.members:
            count = member.received
            received += count
            fresh = count - self._arrived.get(member.name, 0)
            if fresh:
                self._tell.arrived(member.name, fresh)
                self._arrived[member.name] = count
        waiting = bool(self._asked) or not (self._queue.idle and self._queue.parked)
        owed = self._open_jobs > 0 and waiting and self._placing.idle and not self._control.paused
        self._tell.awaiting(owed)
        if received != self._received or not owed:
            self._last_byte = now
        self._received = received

    def _nobody(self) -> str:
        banned = [f"{m.name} sent wrong bytes" for m in self._swarm.members if m.banned]
        failed = [m.last_error for m in self._swarm.members if m.last_error and not m.banned]
        reasons = "; ".join(banned + failed)[:500]
        return (
            f"no source is left that could be asked ({reasons or 'none was found'}); "
            "what is there is kept, run again"
        )

    async def _stuck(self) -> bool:
        """Something is parked: look for more sources and a newer head. True: this download is over."""
        version = self._swarm.version
        if await self._look_again():
            self._placing.result.superseded = True
            return True
        if self._swarm.version != version or self._swarm.hopeless() or not self._queue.idle:
            return False
        if not (self._queue.closed or self._full() or self._drains):
            return False
        self._stuck_rounds += 1
        if self._stuck_rounds < (EXPECTING_ROUNDS if self._swarm.expecting() else STUCK_ROUNDS):
            return False
        self._give_up_parked()
        return self._queue.closed and not self._open_jobs

    def _give_up_parked(self) -> None:
        """Nobody has it, again and again: it is missing."""
        parked, self._queue.parked = self._queue.parked, []
        for job in {part.job for part in parked}:
            self._placing.give_up(job)
            self.close(job)
        self._room.tell()


def _last_path(request: Request) -> bytes:
    """A file that the answer to a request was for; empty if it is wanted no more."""
    if request.bundles:
        last = request.bundles[-1]
        return join(last.directory, last.names[-1])
    targets = request.parts[-1].job.targets
    return targets[-1].path if targets else b""

"""What is still to be asked of the network, and how it is cut into requests. Pure but for the clock that is
handed in.

Requests are cut when a source is free, to the size that suits it: so the fast get more and the slow less,
without a plan made ahead. When nothing is left to ask, the oldest requests still under way are asked of
others too (endgame, as BitTorrent clients do); and at any time those that are late are asked of a source
that has delivered, so that nobody holds up a fetch by taking requests.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Final

from p2psync.sources.swarm import Member, Swarm
from p2psync.supply.bundles import Bundle
from p2psync.supply.crowd import PATIENCE, SPREAD_SIZE, crowd_of, is_ours, spares, stretch_of
from p2psync.supply.ending import share, waiting_bytes
from p2psync.supply.jobs import Job, Part

_new: Final = tuple.__new__  # what a named tuple's own constructor calls, without a call of its own
RANGE_SIZE: Final = 256 << 10
"""A run of chunks this long is a request of its own, a range that a server sends straight from its disk."""
PARTS_MAX: Final = 4096
"""Small objects in one request: as many as a node takes (``sources.wire.BATCH_ROWS_MAX``)."""
LOOK_AHEAD: Final = 512
"""Parts looked at for one that a source has, when it lacks those at the front."""
ENDGAME_AGE: Final = 1.0
"""Seconds that a request may be under way before it is asked of another source too, once nothing else is
left.
"""
LATE_AFTER: Final = 2.0
"""Seconds from which on a request may be late; a request is sized to take a fourth of it."""
LATE_TIMES: Final = 4.0
"""How many times as long as its source usually takes for so much a request may be under way, and how many
times as fast another has to be to be asked as well: on a line that is slow for all, nothing is sent twice.
"""
LATE_LOOK: Final = 0.25
"""Seconds until late ones are looked for again where there were none."""
VAIN_LOOK: Final = 0.1
"""Seconds until a source is looked at again that had nothing of what waits: in a crowd each answer would
otherwise have all of them looked at, which takes a millisecond for each.
"""
LATE_MAX: Final = 10.0
"""Seconds from which on a request may be late however slow its source usually is."""
COPIES_MAX: Final = 2
"""Requests for the same bytes at the same time, of sources that have delivered and are not late."""


class Request:
    """One request: ``parts`` asked of ``member``, or ``bundles`` instead."""

    def __init__(
        self,
        member: Member,
        parts: list[Part],
        started: float,
        duplicate_of: Request | None = None,
        bundles: Sequence[Bundle] = (),
    ) -> None:
        self.member = member
        self.parts = parts
        self.bundles = bundles
        self.started = started
        self.duplicate_of = duplicate_of
        self.copies: list[Request] = []
        """Others for the same bytes, if this is the first; in the order in which they were asked."""
        self.late = False
        """Somebody else was asked since it took too long."""

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(part.size for part in self.parts) + sum(bundle.size for bundle in self.bundles)

    @property
    def is_doubled(self) -> bool:
        return self.duplicate_of is not None or bool(self.copies)

    @property
    def over(self) -> bool:
        """Whether others have brought all that it is for."""
        return not self.bundles and not any(part.unfinished() for part in self.parts)

    def may_be_asked_of(self, member: Member) -> bool:
        """Whether a copy for ``member`` makes sense."""
        askers = [self.member, *(copy.member for copy in self.copies)]
        good = sum(each.is_reliable for each in askers)
        # Whoever takes requests and gives nothing must not keep them from those who would.
        most = good if member.is_reliable else len(askers)
        return member not in askers and most < COPIES_MAX


class Queue:
    """Parts and bundles that wait, requests under way, and parts that nobody has at the moment."""

    def __init__(
        self,
        swarm: Swarm,
        clock: Callable[[], float],
        jobs_of: Callable[[Bundle], list[Job]] = Bundle.jobs,
    ) -> None:
        """``jobs_of`` is called for a bundle that goes on file by file."""
        self._swarm = swarm
        self._clock = clock
        self._jobs_of = jobs_of
        self._random = random.Random()  # noqa: S311 - spreads load, guards nothing
        self._waiting: deque[Part] = deque()
        self._bundles: deque[Bundle] = deque()
        self._under_way: list[Request] = []
        self.parked: list[Part] = []
        """Parts that every usable source lacks."""
        self.closed = False
        """Nothing new will be added: requests may be doubled."""
        self.shares_files = False
        """Whether small files go one by one in a crowd, so that each is had from whoever has it already."""
        self._began: float | None = None
        """When it was first seen that others fetch the same."""
        self._none_late_until = 0.0
        self._vain: dict[Member, float] = {}
        """Sources for which there was nothing in what waits, and until when they are not looked at again."""

    def add(self, job: Job) -> None:
        """What is missing of ``job`` waits from now on."""
        self._vain.clear()
        if job.chunks == 1:
            self._waiting.append(_new(Part, (job, 0, 1)))
            return
        if job.size < SPREAD_SIZE:
            self._waiting.extend(job.parts())
            return
        length = stretch_of(job.size)
        stretches: list[Part] = []
        for part in job.parts():
            rest: Part | None = part
            while rest is not None:
                taken, rest = rest.split(length)
                stretches.append(taken)
        self._random.shuffle(stretches)
        self._waiting.extend(stretches)

    def add_bundles(self, bundles: Iterable[Bundle]) -> None:
        """All of these wait from now on."""
        self._bundles.extend(bundles)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is under way (something may be parked)."""
        return not self._waiting and not self._bundles and not self._under_way

    @property
    def has_work(self) -> bool:
        """Something waits, or may be asked for twice."""
        return bool(self._waiting or self._bundles or self._under_way)

    def take(self, member: Member, size_limit: int) -> Request | None:
        """Cut a request for ``member``; None if there is nothing for it now."""
        doubled = self._late(member, size_limit)
        if doubled is not None:
            return doubled
        size = self._ending(member, min(member.request_size, size_limit))
        if not size or self._vain.get(member, 0.0) > self._clock():
            return None
        if self.shares_files and self._bundles and crowd_of(self._swarm):
            for job in chain.from_iterable(map(self._jobs_of, self._bundles)):
                self.add(job)
            self._bundles.clear()
        parts = self._choose(member, size)
        bundles: list[Bundle] = []
        batches = not member.content.by_path and member.content.spans_max > 1
        if not parts and not member.lacking and batches:
            bundles = self._cut_bundles(size)
        while not parts and not bundles and self._bundles:
            # This source does not have everything, or knows paths only: it is asked for one by one.
            for job in self._jobs_of(self._bundles.popleft()):
                self.add(job)
            parts = self._cut(member, size, rare=False)
        if parts or bundles:
            request = Request(member, parts, self._clock(), bundles=bundles)
            self._under_way.append(request)
            return request
        if self._waiting:
            self._vain[member] = self._clock() + VAIN_LOOK
            return None
        return self._endgame(member, size_limit) if self.closed else None

    def _ending(self, member: Member, size: int) -> int:
        """Less than ``size``, if with so much this source would be at work longer than the others."""
        waiting = waiting_bytes(self._waiting) if self.closed and not self._bundles else None
        if not waiting:
            return size
        own = under_way = 0
        for request in self._under_way:
            if request.duplicate_of is None:
                under_way += request.size
            if request.member is member:
                own += request.size
        return share(member, size, waiting + under_way, own, self._swarm.usable())

    def _choose(self, member: Member, size: int) -> list[Part]:
        """Parts for one request: what no source of parts could give before all else."""
        crowd = crowd_of(self._swarm)
        if crowd and self._swarm.has_all(member):
            parts = self._cut(member, size, rare=True, crowd=crowd)
            at_work = {request.member for request in self._under_way}
            if parts or self._waits() or spares(self._swarm, member, self._partial(member), at_work):
                return parts
        return self._cut(member, size, rare=True) or self._cut(member, size, rare=False)

    def _waits(self) -> bool:
        """Whether there is still time for others to get what is theirs to bring."""
        now = self._clock()
        self._began = now if self._began is None else self._began
        return self._swarm.patient and now - self._began < PATIENCE

    def _cut(self, member: Member, size: int, *, rare: bool, crowd: Sequence[bytes] = ()) -> list[Part]:
        """Parts from the front for one request; ``rare``: only such as no source of parts could give;
        ``crowd``: only such as this node is to bring into it.
        """
        others = self._partial(member) if rare else []
        if rare and not (others or crowd):
            return []
        # Who fetches the same says by itself what it has; to ask it for the rest would be in vain.
        hears = self._swarm.patient and member.metadata is not None and not self._swarm.has_all(member)
        choosy = bool(others or crowd or hears or member.lacking or member.held)
        held = member.held
        most = min(member.content.spans_max, PARTS_MAX)
        parts: list[Part] = []
        passed: list[tuple[Part, bool]] = []
        """With whether this source could give it."""
        left = size
        while self._waiting and left > 0 and len(parts) < most and len(passed) < LOOK_AHEAD:
            part = self._waiting.popleft()
            if choosy:
                offered = None
                if not (
                    self._swarm.lacks(member, part.job.digest) or (hears and part.job.digest not in held)
                ):
                    offered = _offered(member, part)
                if (
                    offered is None
                    or (crowd and not is_ours(offered, self._swarm.own_key, crowd))
                    or any(self._gives(other, offered) for other in others)
                ):
                    passed.append((part, offered is not None))
                    continue
                if offered != part:
                    before, part, after = part.around(offered)
                    passed += ((each, False) for each in before)
                    self._waiting.extendleft(after)
            left -= self._take_some(part, parts, left, size)
        if passed:
            usable = self._swarm.usable()
            whole = [each for each in usable if hears and self._swarm.has_all(each)]
            for part, waits in reversed(passed):
                if not (waits or any(not self._swarm.lacks(each, part.job.digest) for each in whole)):
                    self._again(part, usable)
                elif crowd or hears:  # Order means nothing there, and the next look is to find others.
                    self._waiting.append(part)
                else:
                    self._waiting.appendleft(part)
        return parts

    def _partial(self, besides: Member) -> list[Member]:
        """Other sources that have said which parts they have."""
        return [member for member in self._swarm.usable() if member is not besides and member.held]

    def _gives(self, member: Member, part: Part) -> bool:
        """Whether a source has said to have chunks of ``part``, and gives them."""
        held = member.held.get(part.job.digest)
        if held is None or self._swarm.lacks(member, part.job.digest):
            return False
        return part.within(held) is not None

    def _cut_bundles(self, size: int) -> list[Bundle]:
        """Bundles from the front for one request of ``size`` bytes; at least one file, if any waits."""
        taken: list[Bundle] = []
        count = PARTS_MAX
        while self._bundles and count:
            bundle = self._bundles[0]
            if bundle.size <= size and len(bundle) <= count:
                taken.append(self._bundles.popleft())
            elif taken and bundle.sizes[0] > size:
                break
            else:
                some, rest = bundle.split(size, count)
                taken.append(some)
                if rest is None:
                    self._bundles.popleft()
                else:
                    self._bundles[0] = rest
                break
            size -= bundle.size
            count -= len(bundle)
        return taken

    def dissolve(self, request: Request) -> None:
        """Let what a request asks for by the bundle go on file by file, in the same order."""
        jobs = chain.from_iterable(map(self._jobs_of, request.bundles))
        request.parts, request.bundles = [Part(job, 0, 1) for job in jobs], ()

    def _take_some(self, part: Part, parts: list[Part], left: int, size: int) -> int:
        """Put as much of ``part`` into a request of ``size`` bytes, with ``left`` to go, as fits; what does
        not, waits again. Returns the bytes, all that was left if nothing more is to be put in.
        """
        job = part.job
        if job.chunks == 1:  # Nearly all parts of a tree of small files: without a further question.
            if parts and job.size > left:
                self._waiting.appendleft(part)
                return left
            if not job.left:
                return 0
            parts.append(part)
            return job.size
        large = part.size >= RANGE_SIZE
        if parts and (large or part.size > left):
            self._waiting.appendleft(part)
            return left
        taken, rest = part.split(max(size, 1))
        if rest is not None:
            self._waiting.appendleft(rest)
        # Looked at only now, when it is small: a large object would be gone through for each request.
        fresh = taken.unfinished()
        if fresh != [taken]:
            self._waiting.extendleft(reversed(fresh))
            return 0
        parts.append(taken)
        return left if large else taken.size

    def _endgame(self, member: Member, size_limit: int) -> Request | None:
        now = self._clock()
        for request in sorted(self._under_way, key=lambda p: p.started):
            if now - request.started < ENDGAME_AGE:
                return None
            if request.duplicate_of is None and request.may_be_asked_of(member):
                doubled = self._double(request, member, size_limit)
                if doubled is not None:
                    return doubled
        return None

    def _late(self, member: Member, size_limit: int) -> Request | None:
        """A copy for ``member`` of the oldest request that is late, if that would be quicker there."""
        now = self._clock()
        if now < self._none_late_until or not (member.is_reliable and member.rate):
            return None
        for request in self._under_way:
            if request.duplicate_of is not None or not request.may_be_asked_of(member):
                continue
            last = request.copies[-1] if request.copies else request
            usual = LATE_TIMES * last.size / last.member.rate if last.member.rate else 0.0
            is_due = now - last.started >= min(max(usual, LATE_AFTER), LATE_MAX)
            if is_due and member.rate >= LATE_TIMES * last.member.pace:
                doubled = self._double(request, member, size_limit)
                if doubled is not None:
                    request.late = True
                    self._swarm.was_late(last.member)
                    return doubled
        self._none_late_until = now + LATE_LOOK
        return None

    def _double(self, request: Request, member: Member, size_limit: int) -> Request | None:
        """Ask ``member`` too for what is missing of ``request``, as far as it has that."""
        if request.bundles:
            if member.content.by_path:
                return None
            self.dissolve(request)
        parts: list[Part] = []
        size = 0
        most = min(member.content.spans_max, PARTS_MAX)
        for part in chain.from_iterable(asked.unfinished() for asked in request.parts):
            if self._swarm.lacks(member, part.job.digest) or size >= size_limit or len(parts) == most:
                continue
            offered = _offered(member, part)
            if offered is None:
                continue
            taken, _ = offered.split(size_limit - size)
            if parts and size + taken.size > size_limit:
                break
            parts.append(taken)
            size += taken.size
        if not parts:
            return None
        copy = Request(member, parts, self._clock(), duplicate_of=request)
        request.copies.append(copy)
        self._under_way.append(copy)
        return copy

    def overtaken(self, request: Request) -> list[Request]:
        """Requests under way that were late, and are over by what ``request`` has brought."""
        first = request.duplicate_of or request
        return [each for each in (first, *first.copies) if each is not request and first.late and each.over]

    def done(self, request: Request) -> None:
        """The request has ended; what of it is still missing waits again, unless another request is at it."""
        self._under_way.remove(request)
        original = request.duplicate_of or request
        if request is original:
            related = list(request.copies)
            _promote(related)
        else:
            original.copies.remove(request)
            related = [original, *original.copies]
        left = [part for part in request.parts if part.job.left]
        if not left:
            return
        others = [part for other in related for part in other.parts]
        usable = self._swarm.usable()
        for part in left:
            for fresh in part.unfinished():
                if not any(_covers(other, fresh) for other in others):
                    self._vain.clear()
                    self._again(fresh, usable)

    def _again(self, part: Part, usable: Sequence[Member]) -> None:
        """Let ``part`` wait again, or park it if none of the sources that are usable could give any of it."""
        if not part.job.targets:
            return  # Given up, and said so.
        digest = part.job.digest
        if any(not self._swarm.lacks(m, digest) and _offered(m, part) is not None for m in usable):
            self._waiting.appendleft(part)
        else:
            self.parked.append(part)

    def unpark(self) -> None:
        """Sources came, or may have got what they lacked: look at the parked parts again."""
        parked, self.parked = self.parked, []
        usable = self._swarm.usable() if parked else []
        for part in parked:
            self._again(part, usable)


def _promote(copies: list[Request]) -> None:
    """The first copy of a request that has ended takes its place, so that it can be doubled in turn."""
    if copies:
        first, *others = copies
        first.duplicate_of, first.copies = None, others
        for request in others:
            request.duplicate_of = first


def _offered(member: Member, part: Part) -> Part | None:
    """What of ``part`` a source may be asked for: all, unless it said that it has only some chunks; then
    the first run of these.
    """
    held = member.held.get(part.job.digest)
    return part if held is None else part.within(held)


def _covers(other: Part, part: Part) -> bool:
    return other.job is part.job and other.first <= part.first and part.last <= other.last

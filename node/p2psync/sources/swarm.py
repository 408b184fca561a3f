"""The sources of one fetch: how fast each is, what it lacks, whether it lied, when it may be tried again.

Policy without I/O beyond the clock that is handed in: the downloader and the metadata reader ask here whom to
turn to and report here what came of it. Finding sources is ``finders.discovery``'s.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from p2psync.sources.interfaces import Heads, Metadata, Source, Tracker
from p2psync.sources.orders import Bulk

STRIKES_MAX: Final = 3
"""Distinct chunks with wrong bytes before a source is banned for the run: one may be a broken disk block,
three are a habit.
"""
FAILURES_MAX: Final = 6
"""Failures in a row after which a source is given up: with the back-off below that is about half a minute."""
BACKOFF_FIRST: Final = 0.5
BACKOFF_MAX: Final = 15.0
LACK_SECONDS: Final = 5.0
"""How long a source that has only parts is not asked again for what it did not have: it may be fetching it
itself.
"""
DENIALS_MAX: Final = 3
"""How often a source may say that it has an object and then not give it, before it is asked no more often
than one that says nothing: it could keep a fetch from its end.
"""
LACKING_MAX: Final = 1 << 16
"""Objects that one source lacks that are remembered."""
SOURCES_MAX: Final = 24
"""Sources used at once; more would not be faster and cost each of them."""
REQUEST_MIN: Final = 64 << 10
REQUEST_MAX: Final = 4 << 20
REQUEST_FIRST: Final = 256 << 10
"""Bytes asked of a source before its rate is known."""
REQUEST_SECONDS: Final = 0.5
"""A request is sized to take about this long: long enough to hide the delay, short enough to react."""
TRIAL_SECONDS: Final = 2.0
"""How long a source on which nobody's word but a stranger's is, and that has given nothing, keeps its place
after it was first asked, where others wait for one.
"""
PACE_SECONDS: Final = 1.0
"""Seconds of which a source's pace is the average."""
LATE_MAX: Final = 8
"""Beyond which it does not matter any more how often somebody was late."""
RATE_WEIGHT: Final = 0.3
"""Weight of the newest measurement in a source's rate."""


class Member:
    """One source and what is known of it."""

    def __init__(
        self,
        source: Source,
        whole: bool,
        claims: tuple[int, int] | None = None,
        given: bool = False,
    ) -> None:
        self.source = source
        self._received_before = 0
        self.whole = whole
        """It claims to have a snapshot in full."""
        self.claims = claims
        """(epoch, sequence number) of that snapshot, where it said so."""
        self.told = False
        """The user has heard that it lacks something."""
        self.given = given
        """Named by the user, who wants to hear if it is of no use."""
        self.node_key: bytes | None = None
        self.rate = 0.0
        """Bytes a second and request, smoothed."""
        self.answered = False
        """It has answered something: who has not may be silent, and is waited for last."""
        self.longest = REQUEST_MAX
        """Bytes of the longest answer that may come whole: some proxies cut or hold up long ones."""
        self.pace = 0.0
        """Bytes a second that came from it in the last second or so, of answers that are not complete as
        well.
        """
        self._paced = 0, 0.0
        """Bytes that had come when that was looked at last, and when that was."""
        self.failures = 0
        self.retry_at = 0.0
        self.banned = False
        self.dead = False
        self.last_error = ""
        self.lacking: dict[bytes, float] = {}
        """Digest of an object -> when it may be asked for it again."""
        self.held: dict[bytes, bytes] = {}
        """Of objects that it has in part: a bitmap of its chunks, as it last said."""
        self.denied: dict[bytes, int] = {}
        """How often it was asked for an object and did not give it."""
        self.strikes: set[tuple[bytes, int]] = set()
        """Object and chunk of the wrong bytes that it sent; few, since they ban it."""
        self.stale = False
        """A path of this web server holds another version."""
        self.delivered = 0
        """Verified bytes that it sent."""
        self.owes_since: float | None = None
        """When it was first asked for something since it last gave anything."""
        self.late = 0
        """How often somebody else was asked for what it owed, since it took too long; 0 once it was in time.
        """
        self.benched = False
        """It gave up its place to one that waited, and is not asked."""

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def content(self) -> Bulk:
        return self.source.content

    @property
    def heads(self) -> Heads | None:
        """Signed heads: those of nodes, and of web servers that have static files."""
        return self.source.heads

    @property
    def metadata(self) -> Metadata | None:
        """Directory objects and recipes, which nodes have, and web servers only as static files."""
        return self.source.metadata

    @property
    def tracker(self) -> Tracker | None:
        return self.source.tracker

    @property
    def received(self) -> int:
        """Every byte read from its sockets so far."""
        return self._received_before + self.source.received

    def renew(self, source: Source) -> Source:
        """Go on with another source of the same name, which nobody has asked yet; returns the one before."""
        self._received_before += self.source.received
        before, self.source = self.source, source
        return before

    @property
    def is_reliable(self) -> bool:
        """Whether it may have several requests: it was given or has delivered, and is not late."""
        return (self.given or self.delivered > 0) and not self.late

    def note_pace(self, now: float) -> None:
        """Look at what has come by now; called now and then."""
        before, at = self._paced
        self._paced = self.received, now
        if now > at:
            weight = min((now - at) / PACE_SECONDS, 1.0)
            self.pace += weight * ((self.received - before) / (now - at) - self.pace)

    @property
    def request_size(self) -> int:
        """Bytes to ask for in one request."""
        if not self.rate:
            return min(REQUEST_FIRST, self.longest)
        return int(min(max(self.rate * REQUEST_SECONDS, REQUEST_MIN), self.longest))


def _usable(member: Member) -> bool:
    return not (member.banned or member.dead or member.benched)


def _untold(_name: str, _state: str) -> None:
    return


class Swarm:
    """All sources of a fetch."""

    def __init__(
        self,
        clock: Callable[[], float],
        warn: Callable[[str], None],
        tell_state: Callable[[str, str], None] | None = None,
        chance: random.Random | None = None,
    ) -> None:
        """``warn`` may be told the same thing by many requests. ``tell_state`` hears the name of a source and
        a word on how it does, "" while all is well. ``chance`` decides between sources that are as good as
        each other, and spreads retries.
        """
        self._clock = clock
        self._warn = warn
        self._tell_state = tell_state or _untold
        self._members: dict[str, Member] = {}
        self._chance = chance or random.Random()  # noqa: S311 - spreads load, guards nothing
        self.own_key = b""
        """Of the node that fetches."""
        self.wanted = (0, 0)
        """(epoch, sequence number) of the snapshot that is fetched."""
        self.expecting: Callable[[], bool] = lambda: False
        """Whether others may join soon: somebody is being tried, or waits for a place."""
        self.patient = False
        """Whether who fetches can wait a moment for others who fetch the same: a mirror, not a person."""
        self.line = 0.0
        """Bytes a second that came from all sources together, at the best of times."""
        self.version = 0
        """Grows with every source that joins, so that those who wait for one can tell."""

    @property
    def members(self) -> list[Member]:
        return list(self._members.values())

    def knows(self, name: str, node_key: bytes | None) -> bool:
        """Whether this source is in, under this address or another one of the same node."""
        return name in self._members or (
            node_key is not None and any(member.node_key == node_key for member in self._members.values())
        )

    def has_room(self) -> bool:
        return sum(map(_usable, self._members.values())) < SOURCES_MAX

    def bench(self) -> Member | None:
        """Take its place from a source that was not given by the user, was asked a while ago, and has given
        nothing yet, or took so long for it that another was asked; None if there is none. Whoever calls
        this closes its connections.
        """
        until = self._clock() - TRIAL_SECONDS
        for member in self._members.values():
            owes = member.owes_since is not None and member.owes_since <= until
            if owes and _usable(member) and not (member.given or member.is_reliable):
                member.benched = True
                self._tell_state(member.name, "gone")
                return member
        return None

    def recall(self) -> None:
        """Let those who gave up their places have what is free again."""
        for member in self._members.values():
            if member.benched and self.has_room():
                member.benched, member.owes_since = False, None
                self.version += 1
                self._tell_state(member.name, "")

    def add(self, member: Member) -> None:
        self._members[member.name] = member
        self.version += 1

    def usable(self) -> list[Member]:
        """Sources that may be asked now or later, in no order."""
        return [member for member in self._members.values() if _usable(member)]

    def alive(self) -> list[Member]:
        """Sources that may be asked now or later: the fastest first, equals in random order, and last those
        that were never heard of yet.
        """
        usable = self.usable()
        self._chance.shuffle(usable)
        return sorted(usable, key=lambda m: (m.failures + m.late, not m.answered, -m.rate))

    def ready(self) -> list[Member]:
        """Those of ``alive`` that are not waiting out a failure."""
        now = self._clock()
        return [member for member in self.alive() if member.retry_at <= now]

    def has_all(self, member: Member) -> bool:
        """Whether a source claims all of the snapshot that is fetched, and not just of an earlier one."""
        return member.whole and (member.claims is None or member.claims >= self.wanted)

    def lacks(self, member: Member, digest: bytes) -> bool:
        """Whether ``member`` said that it does not have the object, so recently that asking again is
        pointless.
        """
        until = member.lacking.get(digest)
        return until is not None and until > self._clock()

    def refused(self, member: Member, digest: bytes) -> bool:
        """Whether ``member`` is never to be asked for the object again."""
        return member.lacking.get(digest) == float("inf")

    def claimed(self, member: Member, digest: bytes) -> None:
        """The source says that it has chunks of the object: it is asked for them, unless that was idle talk
        before.
        """
        if member.denied.get(digest, 0) < DENIALS_MAX:
            member.lacking.pop(digest, None)

    def hopeless(self) -> bool:
        """Whether no source is left that could be asked, now or later."""
        return not self.alive()

    # What came of a request.

    def asked(self, member: Member) -> None:
        """Something was asked of it."""
        if member.owes_since is None:
            member.owes_since = self._clock()

    def was_late(self, member: Member) -> None:
        """Somebody else was asked for what it owes: it comes behind those who are not late."""
        member.late = min(member.late + 1, LATE_MAX)

    def succeeded(self, member: Member, size: int, seconds: float, *, late: bool = False) -> None:
        """``size`` verified bytes came in ``seconds``. ``late``: another was asked for them meanwhile."""
        member.answered = True
        if size:
            member.delivered += size
            member.owes_since = None
            if not late:
                member.late = 0
        if member.failures:
            member.failures = 0
            self._tell_state(member.name, "")
        if size and seconds > 0:
            rate = size / seconds
            member.rate = rate if not member.rate else member.rate + RATE_WEIGHT * (rate - member.rate)

    def cut_short(self, member: Member, size: int) -> None:
        """An answer of so many bytes broke off: shorter ones may come whole. (A proxy that looks into all
        that passes holds it up from some size on, often 2 MiB, or cuts it.)
        """
        member.longest = max(min(size, member.longest) // 2, REQUEST_MIN)

    def failed(self, member: Member, reason: str, wish: float = 0.0) -> None:
        """A request broke off; the source is left alone for a while that doubles, or for the ``wish``
        seconds that it asks for.

        What else was under way to it then breaks off as well, which says nothing new.
        """
        if self._clock() < member.retry_at:
            return
        member.failures += 1
        self._tell_state(member.name, "failing")
        member.last_error = reason
        member.rate /= 2
        pause = min(BACKOFF_FIRST * 2 ** (member.failures - 1), BACKOFF_MAX)
        member.retry_at = self._clock() + max(wish, pause * self._chance.uniform(0.75, 1.25))
        if member.failures >= FAILURES_MAX and not member.dead:
            member.dead = True
            self._tell_state(member.name, "gone")
            if member.given:  # Others come and go; that is what several sources are for.
                self._warn(f"gave up on {member.name} after {member.failures} failures: {reason}")

    def left(self, member: Member) -> None:
        """The source has said that it leaves: its next failure is the last. It may have returned by then."""
        member.failures = max(member.failures, FAILURES_MAX - 1)

    def missed(self, member: Member, digest: bytes) -> None:
        """The source does not have the object (any more, or yet).

        One that claims the very snapshot is not asked again, and named; others may be fetching it themselves.
        Who is given by the user is named too, since the user takes it for a mirror.
        """
        claimed = member.whole and member.claims is not None and member.claims >= self.wanted
        if (claimed or member.given) and not member.told and member.source.has_files:
            member.told = True
            has = "says it has" if claimed else "should have, as a mirror"
            self._warn(f"{member.name} lacks something that it {has}; it is taken from elsewhere")
        if claimed:
            member.lacking[digest] = float("inf")
        else:
            self.without(member, digest)
            if len(member.denied) < LACKING_MAX:
                member.denied[digest] = member.denied.get(digest, 0) + 1

    def note_paces(self, now: float) -> None:
        """Look at what has come from each source by now; called now and then."""
        for member in self._members.values():
            member.note_pace(now)
        self.line = max(self.line, sum(member.pace for member in self._members.values()))

    def without(self, member: Member, digest: bytes) -> None:
        """The source does not have the object now."""
        member.lacking[digest] = self._clock() + LACK_SECONDS
        if len(member.lacking) > LACKING_MAX:
            # To forget costs one question more; of a million objects that it lacks each would cost memory.
            member.lacking = dict(list(member.lacking.items())[LACKING_MAX // 2 :])

    def forgive_lacking(self) -> None:
        """Let everybody be asked for everything again; wrong bytes are not forgiven."""
        for member in self._members.values():
            wrong = {digest for digest, _ in member.strikes}
            member.lacking = {digest: until for digest, until in member.lacking.items() if digest in wrong}

    def lied(self, member: Member, digest: bytes, chunk: int) -> None:
        """Wrong bytes under an id: a strike; distinct ones ban the source for the run.

        What is asked for by its path may be another version that stands there: that is no lie.
        """
        if member.banned:
            return
        member.lacking[digest] = float("inf")
        if member.content.by_path and chunk >= 0:
            if not member.stale:
                self._warn(f"{member.name} has another version of something; it is taken from elsewhere")
            member.stale = True
            return
        member.strikes.add((digest, chunk))
        if len(member.strikes) >= STRIKES_MAX:
            member.banned = True
            self._tell_state(member.name, "banned")
            self._warn(
                f"{member.name} is banned for this run: it sent wrong bytes for {len(member.strikes)} chunks"
            )
        else:
            self._warn(f"{member.name} sent wrong bytes for a chunk; refused, and taken from elsewhere")

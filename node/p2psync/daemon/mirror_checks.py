"""Checks of those who nominate themselves as mirrors of what is published here, on a schedule: whoever is new
soon, whoever passes each hour, whoever fails after a minute, and then more and more seldom.

How a check goes is ``examine``'s, what follows from it ``p2psync.checks``'. Peers, which share for the
length of a fetch, are not checked: nobody recommends them.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from p2psync.checks import (
    CHECK_EVERY,
    DROPPING,
    FAILURES_MAX,
    WEB,
    Counts,
    Track,
    Verdict,
    checked,
    count,
    due_at,
    retry_after,
)
from p2psync.daemon.examine import Examined, Subject, examine
from p2psync.daemon.examine_web import examine_web, web_key
from p2psync.daemon.samples import Samples, draw
from p2psync.errors import FormatError
from p2psync.format.coverage import Coverage
from p2psync.format.head import ArchiveHead
from p2psync.format.url import host_and_port
from p2psync.sources.finders.records import NOTHING
from p2psync.state import State
from p2psync.state.off_loop import off_loop
from p2psync.state.trees import Tree
from p2psync_dht import Endpoint, HolderRecord, HolderRole

AT_ONCE: Final = 16
"""Checks under way at once: some 10 MB in memory."""
ROUND_MAX: Final = 64
"""Checks in one round, which takes two minutes where all of them drip for as long as they may: then it is
looked anew who is due, and those whom this machine has dealt with come first again.
"""
SAMPLES_KEPT: Final = 16
"""Archives whose samples are kept between rounds; each takes some 100 kB."""
TRIES_MAX: Final = 4096
"""Holders of whom it is remembered when they were tried in vain, most of whom never proved their key;
strangers can name any number.
"""
SOON: Final = 10.0
"""Seconds after a check until there is another one for a holder that has said something new: it begins with
nothing, and is complete a moment later, or was gone and is back.
"""
PAUSE: Final = 2.0
"""Seconds between looks who is due, at least: a look at a thousand mirrors takes some 0.1 s of a thread."""
LOOK: Final = 60.0
"""Seconds after which it is looked again who is due, though nothing was written to the index."""


class _Due(NamedTuple):
    """A check that is to be made."""

    subject: Subject
    role: str
    head: ArchiveHead
    track: Track | None
    url: str = ""
    """Of a web server, in place of a node."""


class _Candidate(NamedTuple):
    """A check, and when it is due (Unix s)."""

    at: float
    due: _Due


class _Tries(NamedTuple):
    """How often somebody was tried who never proved a key, and when to try again."""

    often: int
    again_at: float


class MirrorChecks:
    """Checks the mirrors of what a state directory publishes, or may recommend mirrors of."""

    def __init__(
        self,
        state: State,
        own_key: bytes,
        *,
        warn: Callable[[str], None],
        detail: Callable[[str], None],
        web: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``web``: URLs of web servers that are checked for each archive, as somebody has said here that they
        have one.
        """
        self._state = state
        self._own_key = own_key
        self._web = web
        self._warn = warn
        self._detail = detail
        self._clock = clock
        self._chance = random.Random()  # noqa: S311 - what strangers cannot foresee, not what is secret
        self._samples: dict[bytes, tuple[float, Samples]] = {}
        """By archive, and until when they are used."""
        self._looked = 0.0
        self.counts: dict[bytes, Counts] = {}
        """How the mirrors of each archive stood when that was looked at last. Replaced as a whole."""
        self._drawing = threading.Lock()
        self._tries: dict[tuple[bytes, bytes], _Tries] = {}

    async def round(self) -> float:
        """Check who is due; seconds until somebody is due again, if nothing changes before."""
        early = self._looked + PAUSE - self._clock()
        if 0 < early <= PAUSE:  # not where the clock was put back
            return early
        self._looked = self._clock()
        due, wait = await off_loop(partial(self._look, self._clock()))
        gate = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for each in due:
                group.create_task(self._check(each, gate))
        return PAUSE if due else wait

    def _look(self, now: float) -> tuple[list[_Due], float]:
        """Who is due, those whom this machine has dealt with first; and seconds until somebody will be."""
        due: list[_Due] = []
        wait = LOOK
        counts: dict[bytes, Counts] = {}
        for archive in self._published():
            head = self._state.heads.newest(archive)
            if head is None or head.ended is not None:
                continue
            tracks = self._state.checks.of_archive(archive)
            if tracks:
                counts[archive] = count(tracks.values())
            for each in self._candidates(archive, head, tracks, now):
                if each.at > now:
                    wait = min(wait, each.at - now)
                elif len(due) < ROUND_MAX:
                    due.append(each.due)
        self.counts = counts
        return due, max(wait, PAUSE)

    def _candidates(
        self, archive: bytes, head: ArchiveHead, tracks: Mapping[bytes, Track], now: float
    ) -> Iterator[_Candidate]:
        """Whom to check of an archive's holders, and when."""
        for url in self._web:
            key = web_key(url)
            subject = Subject(archive, key, (url,), NOTHING)
            at = self._due_at(archive, key, 0, tracks.get(key))
            yield _Candidate(at, _Due(subject, WEB, head, tracks.get(key), url))
        for record in self._state.holders.ordered(archive, now):
            if record.role is not HolderRole.PEER and record.node_key != self._own_key and record.ips:
                track = tracks.get(record.node_key)
                at = self._due_at(archive, record.node_key, record.issued, track)
                subject = _subject(archive, record, track)
                yield _Candidate(at, _Due(subject, record.role.name.lower(), head, track))

    def _published(self) -> list[bytes]:
        """What this machine looks after and somebody else may have too."""
        others = self._state.holders.archives_of_others(self._own_key)
        trees = self._state.trees.all() if others or self._web else []
        likely = [tree for tree in trees if self._web or tree.archive in others]
        found = dict.fromkeys(tree.archive for tree in likely if looks_after(self._state, tree))
        return [archive for archive in found if archive is not None]

    def _due_at(self, archive: bytes, key: bytes, issued: int, track: Track | None) -> float:
        """When somebody is checked next, whose newest word is from ``issued``."""
        tries = self._tries.get((archive, key))
        again_at = 0.0 if tries is None else tries.again_at
        if track is None:
            return again_at
        at = due_at(track, key, CHECK_EVERY)
        news = issued >= track.checked and not track.dropped
        return max(min(at, track.checked + SOON) if news else at, again_at)

    async def _check(self, due: _Due, gate: asyncio.Semaphore) -> None:
        async with gate:
            samples = await off_loop(partial(self._drawn, due.subject.archive, due.head, self._clock()))
            if samples is None:
                # Its listings are not here, or a newer snapshot has just come: that is nobody's failure.
                self._note_try(due, LOOK)
                return
            if due.url:
                result = await examine_web(due.url, due.head, samples, self._chance)
                examined = Examined(result)
            else:
                examined = await examine(due.subject, due.head, samples, self._chance)
        await off_loop(partial(self._note, due, examined, self._clock()))

    def _drawn(self, archive: bytes, head: ArchiveHead, now: float) -> Samples | None:
        with self._drawing:  # Many are due at once, and one is enough to draw.
            return self._draw(archive, head, now)

    def _draw(self, archive: bytes, head: ArchiveHead, now: float) -> Samples | None:
        until, known = self._samples.get(archive, (0.0, None))
        if known is not None and known.snapshot == head.snapshot and now < until:
            return known
        made = draw(self._state, head.snapshot, self._chance)
        if made is not None:
            self._samples.pop(archive, None)
            while len(self._samples) >= SAMPLES_KEPT:
                del self._samples[next(iter(self._samples))]
            self._samples[archive] = now + CHECK_EVERY / 2, made
        return made

    def _note_try(self, due: _Due, pause: float) -> None:
        key = due.subject.archive, due.subject.key
        before = self._tries.pop(key, None)
        while len(self._tries) >= TRIES_MAX:
            del self._tries[next(iter(self._tries))]
        often = 1 if before is None else before.often + 1
        self._tries[key] = _Tries(often, self._clock() + pause)

    def _note(self, due: _Due, examined: Examined, now: float) -> None:
        """Keep what came of a check."""
        subject, (result, place) = due.subject, examined
        archive, key = subject.archive, subject.key
        if due.track is None and not place and (not due.url or result.verdict != Verdict.RIGHT):
            before = self._tries.get((archive, key))
            if due.url and before is None:
                self._warn(f"{due.url} is not recommended as a mirror: {result.reason}")
            self._note_try(due, retry_after(1 if before is None else before.often + 1))
            return
        self._tries.pop((archive, key), None)
        track = checked(due.track, due.role, subject.places, result, due.head.record.signed_at, int(now))
        with self._state.transaction():
            self._state.checks.put(archive, key, track)
            if place:
                self._state.nodes.proved(key, Endpoint(*host_and_port(place)), now)
            if result.verdict == Verdict.RIGHT and not due.url:
                self._state.nodes.delivered([key], now)
            elif result.verdict == Verdict.OTHER:
                self._state.holders.drop(archive, key)
        self._tell(due.track, track, result.verdict)

    def _tell(self, before: Track | None, track: Track, verdict: Verdict) -> None:
        """Say what changed, once."""
        where = f"{track.role} {' or '.join(track.places)}"
        was = before is not None and before.listed
        if track.listed and not was:
            self._detail(f"{where} was checked, and is listed")
        elif verdict in DROPPING and (before is None or not before.dropped):
            self._warn(f"{where} is dropped: it {track.reason}; it is listed again once it has passed checks")
        elif was and not track.listed:
            self._warn(f"{where} is off the list: it failed {FAILURES_MAX} checks, at last: {track.reason}")


def looks_after(state: State, tree: Tree) -> bool:
    """Whether the mirrors of a tree's archive are this machine's business: it publishes the archive, or has
    all of it and a key that was delegated the role. Blocks.
    """
    if tree.archive is None or tree.snapshot is None or tree.role == "fetch":
        return False
    return tree.role == "publish" or state.keys.may_recommend(tree.archive)


def _subject(archive: bytes, record: HolderRecord, track: Track | None) -> Subject:
    try:
        claim = Coverage.decode(record.payload)
    except FormatError:
        claim = NOTHING
    places = tuple(str(endpoint) for endpoint in record.endpoints if endpoint.ip)
    return Subject(archive, record.node_key, places, claim, () if track is None else track.suspects)

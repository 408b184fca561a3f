"""What checks of a holder have found, and what follows from them: whether it may be recommended, why not, and
when it is checked again. Pure: no I/O, and the time is an argument.

A check asks a holder for random chunks of what it says that it has, and verifies them. What a holder says of
itself decides only what it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

CHECK_EVERY: Final = 3600.0
"""Seconds between checks of a holder that passes, give or take a tenth: what a check asks for (some 600 kB)
is then 0.2 kB/s for each mirror, and a mirror that dies is noticed within the hour.
"""
RETRY_FIRST: Final = 60.0
"""Seconds until one that failed is checked again; doubles up to ``CHECK_EVERY``."""
FAILURES_MAX: Final = 4
"""Checks in a row that a listed holder may fail, beyond which it is off the list: 7 minutes after the first
one, which is longer than a restart or an update of a system takes. (MirrorManager2 disables after as many.)
"""
PROBATION: Final = 3
"""Checks in a row that one has to pass which sent wrong bytes, or had not what it said."""
HISTORY_MAX: Final = 48
"""Checks that are remembered one by one: two days."""
SUSPECTS_MAX: Final = 4
"""Chunks that came wrong which are asked for again at each later check."""
PARTS_MAX: Final = 32
"""Sub-trees of which it is noted that a holder has them."""
PLACES_MAX: Final = 4
"""Addresses of one holder, as of a holder record."""
REASON_MAX: Final = 200
"""Characters of a reason: it may quote a stranger."""
RATE_WEIGHT: Final = 0.3
"""Of the newest measurement in the rate, which is smoothed: lines differ by the hour."""
SEEN_FOR: Final = 30 * 24 * 3600
"""Seconds for which a holder is remembered that passes no check any more."""


WEB: Final = "web"
"""The role of a web server that has the tree, and is no node."""


class Verdict(StrEnum):
    """What came of one check."""

    RIGHT = "right"
    """All that it had to have came, and was right."""
    EMPTY = "empty"
    """It was reached, and has nothing yet."""
    FAILED = "failed"
    """Nobody answered, or not in order."""
    OTHER = "other"
    """Another node answered at its address."""
    WRONG = "wrong"
    """It sent bytes that are not what they were asked for as."""
    LACKS = "lacks"
    """It does not have what it says that it has."""


DROPPING: Final = frozenset({Verdict.WRONG, Verdict.LACKS})
"""What nobody does by mishap of the line: it is off the list at once, and on it again after `PROBATION`."""


class Suspect(NamedTuple):
    """A chunk that came wrong: its object, where it begins there, how long it is, its id, and the path of the
    file that it was asked for as a part of.
    """

    object: bytes
    offset: int
    length: int
    digest: bytes
    path: bytes


class Result(NamedTuple):
    """One check, as it went."""

    verdict: Verdict
    reason: str = ""
    """A clause, where it did not pass."""
    epoch: int = 0
    seq: int = 0
    """The snapshot that the holder is at."""
    behind: bool = False
    """There is a newer one."""
    asked: int = 0
    came: int = 0
    """Chunks that it was asked for, and that came right."""
    complete: bool = False
    """It says that it has all of the newest snapshot, and no chunk of it that was asked for was missing."""
    parts: tuple[bytes, ...] = ()
    """Names at the root of the archive from whose trees chunks came, of one that has parts."""
    rate: float = 0.0
    """Bytes a second of one long request; 0: not measured."""
    suspects: tuple[Suspect, ...] = ()
    """Chunks that came wrong."""


class Past(NamedTuple):
    """One earlier check."""

    at: int
    verdict: str
    lag: int
    rate: float


class Track(NamedTuple):
    """What is known of one holder of one archive. Times are Unix seconds, 0 for never."""

    role: str
    places: tuple[str, ...]
    """HOST:PORT."""
    since: int
    """When it was checked first."""
    checked: int = 0
    passed: int = 0
    """When it was checked last, and passed last."""
    checks: int = 0
    passes: int = 0
    failures: int = 0
    streak: int = 0
    """Checks in a row that it failed, and passed."""
    epoch: int = 0
    seq: int = 0
    behind_since: int = 0
    """Since when there is a newer snapshot than it has; 0: it has the newest."""
    rate: float = 0.0
    complete: bool = False
    parts: tuple[bytes, ...] = ()
    listed: bool = False
    dropped: bool = False
    """It gave wrong bytes, or had not what it said, and has not made up for that."""
    reason: str = ""
    """Why it is not listed, or failed last: a clause."""
    suspects: tuple[Suspect, ...] = ()
    history: tuple[Past, ...] = ()

    def lag(self, now: float) -> int:
        """Seconds for which there has been a newer snapshot than it has."""
        return max(int(now) - self.behind_since, 0) if self.behind_since else 0

    @property
    def gone_at(self) -> int:
        """When it is forgotten, unless it passes a check."""
        return (self.passed or self.since) + SEEN_FOR


class Counts(NamedTuple):
    """How the checked mirrors of an archive stand."""

    listed: int = 0
    failing: int = 0
    """Failed too often, or have nothing yet."""
    dropped: int = 0


def count(tracks: Iterable[Track]) -> Counts:
    """How these stand."""
    listed = failing = dropped = 0
    for track in tracks:
        listed += track.listed
        dropped += track.dropped
        failing += not (track.listed or track.dropped)
    return Counts(listed, failing, dropped)


def checked(
    before: Track | None, role: str, places: Sequence[str], result: Result, published: int, now: int
) -> Track:
    """What is known of a holder after one more check. ``published``: when the newest snapshot was signed."""
    old = before or Track(role, (), now)
    passed = result.verdict == Verdict.RIGHT
    reached = result.verdict not in (Verdict.FAILED, Verdict.OTHER)
    behind_since = old.behind_since
    if reached:
        behind_since = (old.behind_since or min(published, now)) if result.behind else 0
    rate = old.rate
    if passed and result.rate:
        rate = result.rate if not rate else rate + RATE_WEIGHT * (result.rate - rate)
    failures = 0 if passed or result.verdict == Verdict.EMPTY else old.failures + 1
    streak = old.streak + 1 if passed else 0
    dropped = result.verdict in DROPPING or (old.dropped and streak < PROBATION)
    made = old._replace(
        role=role,
        places=tuple(places)[:PLACES_MAX],
        checked=now,
        passed=now if passed else old.passed,
        checks=old.checks + 1,
        passes=old.passes + passed,
        failures=failures,
        streak=streak,
        epoch=result.epoch if reached else old.epoch,
        seq=result.seq if reached else old.seq,
        behind_since=behind_since,
        rate=rate,
        complete=result.complete if reached else old.complete,
        parts=result.parts[:PARTS_MAX] if reached else old.parts,
        dropped=dropped,
        reason=_reason(old, result, dropped=dropped),
        suspects=tuple(dict.fromkeys((*result.suspects, *old.suspects)))[:SUSPECTS_MAX] if dropped else (),
    )
    past = Past(now, str(result.verdict), made.lag(now), result.rate)
    return made._replace(
        listed=_listed(old, made, result.verdict), history=(*old.history, past)[-HISTORY_MAX:]
    )


def _listed(old: Track, made: Track, verdict: Verdict) -> bool:
    if made.dropped or verdict == Verdict.EMPTY:
        return False
    return made.failures == 0 or (old.listed and made.failures < FAILURES_MAX)


def _reason(old: Track, result: Result, *, dropped: bool) -> str:
    if result.verdict != Verdict.RIGHT:
        # What it was dropped for is not forgotten while it is silent.
        kept = old.dropped and result.verdict not in DROPPING
        return old.reason if kept else result.reason[:REASON_MAX]
    return old.reason if dropped else ""


def due_at(track: Track, key: bytes, every: float = CHECK_EVERY) -> float:
    """When a holder is checked next, in Unix seconds. ``key`` spreads the checks of several over the time."""
    pause = every * (0.9 + 0.2 * key[0] / 255)
    if track.failures and not track.dropped:
        pause = min(retry_after(track.failures), pause)
    elif track.behind_since or (track.history and track.history[-1].verdict == Verdict.EMPTY):
        pause = min(pause, 5 * RETRY_FIRST)
    return track.checked + pause


def retry_after(failures: int) -> float:
    """Seconds until somebody who failed so often in a row is tried again."""
    return float(min(RETRY_FIRST * 2 ** min(failures - 1, 16), CHECK_EVERY))

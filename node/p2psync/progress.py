"""How far long work is, made from its events: amounts, rates, time left, sources. The clock is an argument.

Displays show it, and `Client` hands it to programs. Engines report from event loops and from worker threads,
and whoever looks does so from a thread of its own: every method takes the lock.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from p2psync.events import (
    Advanced,
    Arrived,
    Awaiting,
    Event,
    PathBytes,
    Phase,
    Received,
    Resting,
    Served,
    SourceState,
)

RATE_WINDOW: Final = 5.0
"""Seconds that a rate is averaged over: shorter jumps about, longer shows a dead link as alive."""
SAMPLE_EVERY: Final = 0.1
"""Seconds between two samples of a rate: bounds the memory of a meter to RATE_WINDOW / SAMPLE_EVERY
samples.
"""
ETA_AFTER: Final = 1.0
"""Seconds of work before a time left is guessed."""
STALLED_AFTER: Final = 3.0
"""Seconds of silence that are a stall, and end the rate: a lost packet is sent again sooner."""


class RateMeter:
    """Bytes a second over the last RATE_WINDOW seconds."""

    def __init__(self, now: float) -> None:
        self.total = 0
        self._samples: deque[tuple[float, int]] = deque([(now, 0)])

    def add(self, count: int, now: float) -> None:
        self.total += count
        if now - self._samples[-1][0] >= SAMPLE_EVERY:
            self._samples.append((now, self.total))
        while len(self._samples) > 1 and now - self._samples[1][0] >= RATE_WINDOW:
            self._samples.popleft()

    def restart(self, now: float) -> None:
        """What came before is no part of the rate any more."""
        self._samples = deque([(now, self.total)])

    def rate(self, now: float) -> float:
        """Falls to zero within RATE_WINDOW after the last byte."""
        start, count = self._samples[0]
        for when, before in self._samples:
            if now - when <= RATE_WINDOW:
                break
            start, count = when, before
        return (self.total - count) / max(now - start, SAMPLE_EVERY)

    def steady(self, now: float) -> float:
        """The rate that was kept up over RATE_WINDOW: the lesser of those of its halves, so that no burst
        counts.
        """
        half = RATE_WINDOW / 2
        middle, start = (self._total_at(now - back) for back in (half, RATE_WINDOW))
        return min(self.total - middle, middle - start) / half

    def _total_at(self, moment: float) -> int:
        """The total then; of what is long past, the least that is known."""
        known = [count for when, count in self._samples if when <= moment]
        return known[-1] if known else self._samples[0][1]


class SourceProgress(NamedTuple):
    """One source: bytes received, bytes a second now, and a word on how it does ("" while all is well)."""

    name: str
    received: int = 0
    rate: float = 0.0
    state: str = ""


class Progress(NamedTuple):
    """How far the work is at one moment. What a phase counts is not always bytes: totals may be None or 0."""

    phase: str = ""
    bytes: int = 0
    """What is done of the phase, with what an interrupted run had done of it."""
    total_bytes: int | None = None
    files: int = 0
    total_files: int | None = None
    rate: float = 0.0
    """Bytes a second over the last RATE_WINDOW seconds, as they come from others, or are read where nothing
    comes; what is reused is not in it.
    """
    eta: float | None = None
    """Seconds that are left if all goes on as in the last RATE_WINDOW seconds; None where that cannot be
    told.
    """
    seconds: float = 0.0
    """Since the run began, over all its phases."""
    sources: tuple[SourceProgress, ...] = ()
    reused: int = 0
    """Those of `bytes` that were on this machine, or known from the last time: neither got nor read."""
    stalled: float | None = None
    """Seconds for which others have owed something and sent nothing, from STALLED_AFTER on; else None."""
    path: PathBytes = b""
    """The file that was last worked at, relative to the directory; empty where none is named."""
    sent: int = 0
    """Bytes sent to others since the process began."""
    sent_rate: float = 0.0
    peers: int = 0
    """Addresses of others that are connected to be sent something."""
    resting: Resting | None = None
    """Why nothing goes on, where that is known."""

    @property
    def fraction(self) -> float:
        """Share that is done, 0 to 1, by bytes; by files where there are no bytes."""
        if self.total_bytes:
            return min(1.0, self.bytes / self.total_bytes)
        return min(1.0, self.files / self.total_files) if self.total_files else 0.0


class _Source:
    """What one source has sent: all bytes as they come, and the right ones when they are verified."""

    def __init__(self, now: float) -> None:
        self.arrived = RateMeter(now)
        self.right = RateMeter(now)
        self.state = ""

    def progress(self, name: str, now: float) -> SourceProgress:
        meter = self.arrived if self.arrived.total else self.right
        return SourceProgress(name, self.right.total, meter.rate(now), self.state)


class ProgressMeter:
    """Makes a `Progress` of the events that it hears."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._started = clock()
        self._sources: dict[str, _Source] = {}
        self._sent = RateMeter(self._started)
        self._peers = 0
        self._ended = False
        self._resting: Resting | None = None
        self._begin(Phase(""), self._started)

    def _begin(self, phase: Phase, now: float) -> None:
        """Amounts start again; sources, and what was sent, stay."""
        self._phase, self._phase_started = phase, now
        self._awaiting, self._heard = False, now
        self._files, self._path = phase.done_files, b""
        self._worked, self._reused, self._arrived = RateMeter(now), RateMeter(now), RateMeter(now)

    def hear(self, event: Event) -> None:
        """An `Observer`; what is of no concern to progress is passed over. May be called from any thread."""
        with self._lock:
            now = self._clock()
            match event:
                case Phase():
                    if self._ended and event.name:  # A node has many runs, each with a time of its own.
                        self._started = now
                    self._ended, self._resting = not event.name, None
                    self._begin(event, now)
                case Resting():
                    self._ended, self._resting = True, event
                    self._sources.clear()  # Else a node would remember them for months.
                    self._begin(Phase(""), now)
                case Awaiting(others):
                    if others != self._awaiting:
                        self._awaiting, self._heard = others, now
                case Advanced(count, files, reused, path):
                    self._worked.add(count - reused, now)
                    self._reused.add(reused, now)
                    self._files += files
                    self._path = path or self._path
                case Arrived(source, count):
                    if self._stalled(now) is not None:
                        for meter in (self._worked, self._arrived, self._source(source, now).arrived):
                            meter.restart(now)
                    self._heard = now
                    self._arrived.add(count, now)
                    self._source(source, now).arrived.add(count, now)
                case Received(source, count):
                    self._source(source, now).right.add(count, now)
                case SourceState(source, state):
                    self._source(source, now).state = state
                case Served(count, peers):
                    self._sent.add(count, now)
                    self._peers = peers

    def _stalled(self, now: float) -> float | None:
        """Seconds of silence, where they are many and others owe something."""
        silent = now - self._heard
        return silent if self._awaiting and silent >= STALLED_AFTER else None

    def _source(self, name: str, now: float) -> _Source:
        found = self._sources.get(name)
        if found is None:
            found = self._sources[name] = _Source(now)
        return found

    def progress(self) -> Progress:
        """How far the work is now."""
        with self._lock:
            now = self._clock()
            phase, stalled = self._phase, self._stalled(now)
            # A rate that sinks in silence was never anybody's: it stays as it was, and then it is a stall.
            at = self._heard if self._awaiting else now
            flow = self._arrived if self._arrived.total else self._worked
            rate = 0.0 if stalled is not None else flow.rate(at)
            done = phase.done_bytes + self._worked.total + self._reused.total
            # Content counts when it was verified: in large pieces, where a link is slow. What was found here
            # in a moment says nothing of the rest.
            pace = max(rate, self._worked.rate(at)) + self._reused.steady(at) or self._reused.rate(at)
            remaining = (phase.total_bytes or 0) - done
            begun = now - self._phase_started >= ETA_AFTER
            foreseen = stalled is None and pace > 0 and remaining > 0 and begun
            return Progress(
                phase.name,
                done,
                phase.total_bytes,
                self._files,
                phase.total_files,
                rate,
                remaining / pace if foreseen else None,
                now - self._started,
                tuple(source.progress(name, now) for name, source in self._sources.items()),
                self._reused.total,
                stalled,
                self._path,
                self._sent.total,
                self._sent.rate(now),
                self._peers,
                self._resting,
            )

"""How far long work is, made from its events: amounts, rates, time left, sources. The clock is an argument.

Displays show it, and `Client` hands it to programs. Engines report from event loops and from worker threads,
and whoever looks does so from a thread of its own: every method takes the lock.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from p2psync.events import Advanced, Event, Phase, Received, SourceState

RATE_WINDOW = 5.0
"""Seconds that a rate is averaged over: shorter jumps about, longer shows a dead link as alive."""
SAMPLE_EVERY = 0.1
"""Seconds between two samples of a rate: bounds the memory of a meter to RATE_WINDOW / SAMPLE_EVERY
samples.
"""
ETA_AFTER = 1.0
"""Seconds of work before a time left is guessed."""


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

    def rate(self, now: float) -> float:
        """Falls to zero within RATE_WINDOW after the last byte."""
        start, count = self._samples[0]
        for when, before in self._samples:
            if now - when <= RATE_WINDOW:
                break
            start, count = when, before
        return (self.total - count) / max(now - start, SAMPLE_EVERY)


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
    total_bytes: int | None = None
    files: int = 0
    total_files: int | None = None
    rate: float = 0.0
    """Bytes a second, over the last RATE_WINDOW seconds."""
    eta: float | None = None
    """Seconds that are left, at this rate; None where that cannot be told."""
    seconds: float = 0.0
    """Since the beginning, over all phases."""
    sources: tuple[SourceProgress, ...] = ()

    @property
    def fraction(self) -> float:
        """Share that is done, 0 to 1, by bytes; by files where there are no bytes."""
        if self.total_bytes:
            return min(1.0, self.bytes / self.total_bytes)
        return min(1.0, self.files / self.total_files) if self.total_files else 0.0


class ProgressMeter:
    """Makes a `Progress` of the events that it hears."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._started = self._phase_started = clock()
        self._phase = Phase("")
        self._files = 0
        self._bytes = RateMeter(self._started)
        self._sources: dict[str, tuple[RateMeter, str]] = {}

    def hear(self, event: Event) -> None:
        """An `Observer`; what is of no concern to progress is passed over. May be called from any thread."""
        with self._lock:
            now = self._clock()
            match event:
                case Phase():
                    # Amounts start again, sources stay.
                    self._phase, self._phase_started = event, now
                    self._files, self._bytes = 0, RateMeter(now)
                case Advanced(count, files):
                    self._bytes.add(count, now)
                    self._files += files
                case Received(source, count):
                    meter, state = self._source(source, now)
                    meter.add(count, now)
                    self._sources[source] = (meter, state)
                case SourceState(source, state):
                    self._sources[source] = (self._source(source, now)[0], state)

    def _source(self, name: str, now: float) -> tuple[RateMeter, str]:
        return self._sources.get(name) or (RateMeter(now), "")

    def progress(self) -> Progress:
        """How far the work is now."""
        with self._lock:
            now = self._clock()
            phase, rate = self._phase, self._bytes.rate(now)
            remaining = (phase.total_bytes or 0) - self._bytes.total
            known = rate > 0 and remaining > 0 and now - self._phase_started >= ETA_AFTER
            return Progress(
                phase.name,
                self._bytes.total,
                phase.total_bytes,
                self._files,
                phase.total_files,
                rate,
                remaining / rate if known else None,
                now - self._started,
                tuple(
                    SourceProgress(name, meter.total, meter.rate(now), state)
                    for name, (meter, state) in self._sources.items()
                ),
            )

"""What is known of a running command: phase, amounts, rates and sources. No terminal; the clock is an
argument.

Engines report from event loops and from worker threads, displays read from a thread of their own: every
method takes the lock.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from p2psync.events import Advanced, Event, Phase, Received, SourceState

RATE_WINDOW = 5.0
"""Seconds that a rate is averaged over: shorter jumps about, longer shows a dead link as alive."""
SAMPLE_EVERY = 0.1
"""Seconds between two samples of a rate: bounds the memory of a meter to RATE_WINDOW / SAMPLE_EVERY
samples.
"""
ETA_AFTER = 1.0
"""Seconds of work before a time left is guessed."""


class Meter:
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


@dataclass
class SourceLine:
    """One source, as shown. ``state`` is "" while all is well, else a word such as "slow" or "banned"."""

    name: str
    received: int = 0
    rate: float = 0.0
    state: str = ""


@dataclass
class Snapshot:
    """Everything a display needs at one moment. ``bytes_total`` 0: not known (yet)."""

    phase: str = ""
    files_done: int = 0
    files_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    rate: float = 0.0
    seconds_left: float | None = None
    seconds: float = 0.0
    sources: list[SourceLine] = field(default_factory=list)

    @property
    def fraction(self) -> float:
        """Share that is done, 0 to 1, by bytes; by files where there are no bytes."""
        if self.bytes_total:
            return min(1.0, self.bytes_done / self.bytes_total)
        return min(1.0, self.files_done / self.files_total) if self.files_total else 0.0


class Progress:
    """Collects what engines report."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._started = self._phase_started = clock()
        self._phase = ""
        self._files_done = self._files_total = self._bytes_total = 0
        self._meter = Meter(self._started)
        self._sources: dict[str, tuple[Meter, str]] = {}

    def hear(self, event: Event) -> None:
        """An `Observer`; what is of no concern to a display is passed over."""
        match event:
            case Phase(name, total_bytes, total_files):
                self.phase(name, total_bytes or 0, total_files or 0)
            case Advanced(count, files):
                self.advance(count, files)
            case Received(source, count):
                self.source_bytes(source, count)
            case SourceState(source, state):
                self.source_state(source, state)

    def phase(self, name: str, total_bytes: int, total_files: int) -> None:
        """A new phase: amounts start again, sources stay. A total of 0 is not known."""
        with self._lock:
            self._phase = name
            self._files_done = 0
            self._files_total, self._bytes_total = total_files, total_bytes
            self._meter = Meter(self._clock())
            self._phase_started = self._clock()

    def advance(self, count: int, files: int) -> None:
        """Bytes and files of this phase that were done since the last call."""
        with self._lock:
            self._meter.add(count, self._clock())
            self._files_done += files

    def source_bytes(self, name: str, count: int) -> None:
        """Bytes more from a source."""
        with self._lock:
            now = self._clock()
            meter, state = self._sources.get(name) or (Meter(now), "")
            meter.add(count, now)
            self._sources[name] = (meter, state)

    def source_state(self, name: str, state: str) -> None:
        with self._lock:
            meter, _ = self._sources.get(name) or (Meter(self._clock()), "")
            self._sources[name] = (meter, state)

    def snapshot(self) -> Snapshot:
        with self._lock:
            now = self._clock()
            rate = self._meter.rate(now)
            remaining = self._bytes_total - self._meter.total
            known = rate > 0 and remaining > 0 and now - self._phase_started >= ETA_AFTER
            lines = [SourceLine(n, m.total, m.rate(now), state) for n, (m, state) in self._sources.items()]
            return Snapshot(
                self._phase,
                self._files_done,
                self._files_total,
                self._meter.total,
                self._bytes_total,
                rate,
                remaining / rate if known else None,
                now - self._started,
                lines,
            )

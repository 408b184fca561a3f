"""Token buckets: how many requests one network, and everybody together, get answered.

A bucket is kept per source (an address's network, see `networks.network_group`); the table of buckets is
bounded, and whoever finds it full shares one bucket with all others in that position.
"""

from __future__ import annotations

from typing import Final

PER_SOURCE_RATE: Final = 200.0  # requests a second; a lookup is 30 requests to 30 different nodes
PER_SOURCE_BURST: Final = 400.0
GLOBAL_RATE: Final = 4000.0  # about what one core answers
GLOBAL_BURST: Final = 8000.0
MAX_SOURCES: Final = 4096  # 100 bytes each
SWEEP_INTERVAL: Final = 1.0  # seconds between two searches of a full table for idle buckets


class Bucket:
    """`rate` tokens a second, at most `burst` saved up."""

    __slots__ = ("burst", "level", "rate", "updated")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self.level = burst
        self.updated = now

    def take(self, now: float) -> bool:
        """Whether one token was there."""
        level = self.level + (now - self.updated) * self.rate
        self.updated = now
        level = min(level, self.burst)
        if level < 1.0:
            self.level = level
            return False
        self.level = level - 1.0
        return True

    def is_full(self, now: float) -> bool:
        return self.level + (now - self.updated) * self.rate >= self.burst


class RateLimiter:
    """A bucket per source and one for all."""

    __slots__ = ("_all", "_burst", "_others", "_rate", "_sources", "_swept")

    def __init__(self, now: float, rate: float = PER_SOURCE_RATE, burst: float = PER_SOURCE_BURST) -> None:
        self._rate = rate
        self._burst = burst
        self._all = Bucket(GLOBAL_RATE, GLOBAL_BURST, now)
        self._others = Bucket(rate, burst, now)
        self._sources: dict[object, Bucket] = {}
        self._swept = now - SWEEP_INTERVAL

    def allow(self, source: object, now: float) -> bool:
        """Count one request of `source` (hashable) at `now` (seconds); False if it is one too many."""
        bucket = self._sources.get(source)
        if bucket is None:
            bucket = self._admit(source, now)
        # The source's own bucket first: whoever is over its limit must not use up everybody else's.
        return bucket.take(now) and self._all.take(now)

    def _admit(self, source: object, now: float) -> Bucket:
        if len(self._sources) >= MAX_SOURCES:
            if now - self._swept >= SWEEP_INTERVAL:
                # A bucket that has filled up again says nothing that a new one would not.
                self._sources = {key: kept for key, kept in self._sources.items() if not kept.is_full(now)}
                self._swept = now
            if len(self._sources) >= MAX_SOURCES:
                return self._others
        return self._sources.setdefault(source, Bucket(self._rate, self._burst, now))

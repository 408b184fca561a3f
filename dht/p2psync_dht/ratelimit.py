"""Token buckets: how many requests one network, and everybody together, get answered.

A bucket is kept per source (an address's site, see `networks`) and per provider; the table of buckets is
bounded, and whoever finds it full shares one bucket with all others in that position.
"""

from __future__ import annotations

from typing import Final

PER_SOURCE_RATE: Final = 200.0  # requests a second; a lookup is 30 requests to 30 different nodes
PER_SOURCE_BURST: Final = 400.0
# Of all sites of one provider, some of which are honest: whoever has a /32 has 65,536 sites, and leaves three
# quarters of what is answered in all to others.
PER_PROVIDER_RATE: Final = 1000.0
PER_PROVIDER_BURST: Final = 2000.0
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

    def has_some(self, now: float) -> bool:
        """Whether `take` would find a token."""
        return self.level + (now - self.updated) * self.rate >= 1.0

    def is_full(self, now: float) -> bool:
        return self.level + (now - self.updated) * self.rate >= self.burst


class RateLimiter:
    """A bucket per source, one per provider and one for all."""

    __slots__ = ("_all", "_burst", "_others", "_rate", "_sources", "_swept")

    def __init__(self, now: float, rate: float = PER_SOURCE_RATE, burst: float = PER_SOURCE_BURST) -> None:
        self._rate = rate
        self._burst = burst
        self._all = Bucket(GLOBAL_RATE, GLOBAL_BURST, now)
        self._others = Bucket(rate, burst, now)
        self._sources: dict[object, Bucket] = {}
        self._swept = now - SWEEP_INTERVAL

    def allow(self, source: object, now: float, provider: object = None) -> bool:
        """Count one request of `source` (hashable), a part of `provider`, at `now` (seconds); False if it
        is one too many.
        """
        above = None
        if provider is not None:
            above = self._bucket(provider, now, PER_PROVIDER_RATE, PER_PROVIDER_BURST)
            if not above.has_some(now):
                return False  # and the source takes no room in the table
        # The source's own bucket first: whoever is over its limit must not use up everybody else's.
        bucket = self._bucket(source, now, self._rate, self._burst)
        return bucket.take(now) and (above is None or above.take(now)) and self._all.take(now)

    def _bucket(self, source: object, now: float, rate: float, burst: float) -> Bucket:
        found = self._sources.get(source)
        if found is not None:
            return found
        if len(self._sources) >= MAX_SOURCES:
            if now - self._swept >= SWEEP_INTERVAL:
                # A bucket that has filled up again says nothing that a new one would not.
                self._sources = {key: kept for key, kept in self._sources.items() if not kept.is_full(now)}
                self._swept = now
            if len(self._sources) >= MAX_SOURCES:
                return self._others
        return self._sources.setdefault(source, Bucket(rate, burst, now))

"""The bandwidth limit: one token bucket that all connections of a run share, whichever thread reads them. No
I/O; the clock is the caller's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

RATE_MIN: Final = 64
"""Bytes a second; anything slower would be indistinguishable from a connection that hangs."""
BURST_SECONDS: Final = 0.1
"""How much may come at once after a pause, as seconds of the rate: short, so that the limit also holds over
a second."""
READ_MIN: Final = 2 << 10
"""Bytes that a single read may always take: smaller reads would cost more in calls than they spread the
load."""
UNLIMITED_READ: Final = 1 << 30
"""Bytes of one read where there is no limit: more than any buffer."""


class RateLimiter:
    """Token bucket in bytes a second; None for no limit. Safe to use from several threads.

    A reader says afterwards how much it took (``take``) and is told for how many seconds not to read; the
    debt is shared, so that readers together keep the rate however many they are. The kernel's receive
    window then slows the senders down.
    """

    def __init__(
        self, bytes_per_second: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._at = clock()
        self._rate: float | None = None
        self._burst = 0.0
        self._tokens = 0.0
        self.rate = bytes_per_second

    @property
    def rate(self) -> float | None:
        """Bytes a second, at least ``RATE_MIN``; None for no limit. May be set at any time: what is owed is
        then paid at the new rate.
        """
        return self._rate

    @rate.setter
    def rate(self, bytes_per_second: float | None) -> None:
        with self._lock:
            if bytes_per_second is None:
                self._rate, self._burst, self._tokens = None, 0.0, 0.0
                return
            fresh = self._rate is None
            self._rate = max(float(bytes_per_second), float(RATE_MIN))
            self._burst = self._rate * BURST_SECONDS
            self._tokens = self._burst if fresh else min(self._tokens, self._burst)
            self._at = self._clock() if fresh else self._at

    @property
    def read_size(self) -> int:
        """The most bytes that one read should take, so that no single read owes seconds."""
        rate = self._rate
        return UNLIMITED_READ if rate is None else max(int(rate * BURST_SECONDS), READ_MIN)

    def take(self, count: int) -> float:
        """Account for ``count`` bytes that were read. Seconds to wait before reading again; 0.0 for none."""
        with self._lock:
            if self._rate is None:
                return 0.0
            now = self._clock()
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - count
            self._at = now
            return 0.0 if self._tokens >= 0 else -self._tokens / self._rate

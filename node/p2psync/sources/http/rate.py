"""The bandwidth limit: one token bucket that all connections of a run share. No I/O; the clock is the
caller's."""

from __future__ import annotations

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


class RateLimiter:
    """Token bucket in bytes a second.

    A reader says afterwards how much it took (``take``) and is told for how many seconds not to read; the
    debt is shared, so that readers together keep the rate however many they are. The kernel's receive
    window then slows the senders down.
    """

    def __init__(self, bytes_per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = max(float(bytes_per_second), float(RATE_MIN))
        self._clock = clock
        self._burst = self.rate * BURST_SECONDS
        self._tokens = self._burst
        self._at = clock()

    @property
    def read_size(self) -> int:
        """The most bytes that one read should take, so that no single read owes seconds."""
        return max(int(self._burst), READ_MIN)

    def take(self, count: int) -> float:
        """Account for ``count`` bytes that were read. Seconds to wait before reading again; 0.0 for none."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self.rate) - count
        self._at = now
        return 0.0 if self._tokens >= 0 else -self._tokens / self.rate

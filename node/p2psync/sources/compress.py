"""When bytes come compressed, and files by way of their older versions."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

SLOW: Final = 12e6
"""Bytes a second, of the wire, below which a source is asked to compress: it does so at more than ten times
that rate.
"""
GAIN_MIN: Final = 0.9
"""What is not below this part of its length when it is compressed was not worth it."""
SKIP_MAX: Final = 64
RATE_WEIGHT: Final = 0.3
"""Weight of the newest answer in the rate."""


class Compress(StrEnum):
    """When answers are compressed, and missing chunks put together from older versions."""

    AUTO = "auto"
    """Where that is sooner done than fetching them plainly."""
    OFF = "off"
    MAX = "max"
    """Wherever it saves bytes."""


class Gains:
    """What compressing has gained of late, from all sources of a fetch: what they have is the same."""

    def __init__(self) -> None:
        self.skip = 0
        """Answers that come plainly, since the last ones were hardly shorter."""
        self.skipped = 1


class Packing:
    """Whether the next answer of one source is to come compressed. Pure. One thread asks and another one
    tells; each step is a plain assignment, and one that is lost costs an answer that is compressed in vain.
    """

    def __init__(self, compress: Compress, gains: Gains | None = None) -> None:
        self._compress = compress
        self._gains = gains or Gains()
        self._rate = 0.0
        """Bytes a second that came over the wire, smoothed; 0 as long as nothing has."""

    def wanted(self) -> bool:
        """Whether it is, by what came so far. Of what cannot be compressed less and less is tried."""
        slow = 0 < self._rate < SLOW or self._compress is Compress.MAX
        if self._compress is Compress.OFF or not slow:
            return False
        if self._gains.skip:
            self._gains.skip -= 1
            return False
        return True

    def came(self, size: int, received: int, seconds: float, *, packed: bool) -> None:
        """An answer of ``size`` bytes came as ``received`` in so many seconds."""
        rate = received / max(seconds, 1e-6)
        self._rate = rate if not self._rate else self._rate + RATE_WEIGHT * (rate - self._rate)
        if packed and received > GAIN_MIN * size:
            self._gains.skip = self._gains.skipped = min(2 * self._gains.skipped, SKIP_MAX)
        elif packed:
            self._gains.skipped = 1

    def refused(self) -> None:
        """The source does not compress."""
        self._compress = Compress.OFF

"""Round-trip estimates and the time-outs made of them.

Per address, RFC 6298's smoothed mean and deviation; for addresses never heard of, the same over all
answers. Silence for `soft` seconds frees a lookup's slot and sends the query once more; after three times
that long nobody waits any more.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from p2psync_dht.contact import Address

DEVIATIONS: Final = 3.0
MIN_SOFT: Final = 0.1  # seconds: a busy event loop or a garbage collection must not look like a loss
MAX_SOFT: Final = 1.0  # three times this is the longest that anybody waits
FIRST_SOFT: Final = 0.5  # before anything was measured
GIVE_UP: Final = 3.0  # times the soft time-out
MAX_ADDRESSES: Final = 1024  # estimates kept, least recently used out first
_GAIN: Final = 1 / 8  # RFC 6298's alpha
_DEVIATION_GAIN: Final = 1 / 4  # RFC 6298's beta


def _update(old: tuple[float, float] | None, sample: float) -> tuple[float, float]:
    if old is None:
        return sample, sample / 2
    mean, deviation = old
    deviation += _DEVIATION_GAIN * (abs(sample - mean) - deviation)
    return mean + _GAIN * (sample - mean), deviation


class RttBook:
    """Estimates by address, bounded. All times in seconds."""

    __slots__ = ("_known", "_overall")

    def __init__(self) -> None:
        self._known: OrderedDict[Address, tuple[float, float]] = OrderedDict()
        self._overall: tuple[float, float] | None = None

    def sample(self, address: Address, seconds: float) -> None:
        """Count one answer that was not sent for twice (Karn's rule)."""
        known = self._known
        known[address] = _update(known.get(address), seconds)
        known.move_to_end(address)
        if len(known) > MAX_ADDRESSES:
            known.popitem(last=False)
        self._overall = _update(self._overall, seconds)

    def soft(self, address: Address) -> float:
        """After how long a silence from `address` to stop counting on it."""
        estimate = self._known.get(address) or self._overall
        if estimate is None:
            return FIRST_SOFT
        mean, deviation = estimate
        return min(max(mean + DEVIATIONS * deviation, MIN_SOFT), MAX_SOFT)

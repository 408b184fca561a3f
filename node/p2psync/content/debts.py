"""Who has cost how much: processor time that a client has taken, less what the bytes that it was sent are
worth.

A client that is sent much owes nothing, however long it goes on. One whose small requests are expensive
owes more and more, and whoever owes less is served before it (`turns`). Nobody is refused for it, and debts
are forgotten in a minute. Threads share it.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from p2psync.network.here import network_of

EARNED: Final = 1 / 50e6
"""Seconds that a byte is worth: files of some kilobytes and more, in batches, cost less than that."""
HALF_LIFE: Final = 10.0
"""Seconds in which half of a debt is forgotten."""
SHARED: Final = 8
"""A client owes this part of what its network owes: who has many addresses has less of many first times."""
OWING: Final = 0.2
"""Seconds of debt up to which a client owes nothing worth the name: some pages, or a batch of tiny files."""
REQUEST: Final = 0.0005
"""Seconds of the event loop that a request takes, whatever it is for."""
SERVED_LATELY: Final = 1.0
"""Seconds after which those who owe nothing count as gone."""
CLIENTS_MAX: Final = 8192
"""Clients and networks that are remembered, those that were charged last."""


class Debts:
    """What clients owe, in seconds. A client is what ``network.here.client_of`` says."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._owed: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By client or network: how much, and when."""
        self._others_at = -math.inf

    def charge(self, client: str, seconds: float, sent: int = 0) -> None:
        """So much time went into serving a client, and so many bytes went out to it."""
        cost = seconds - sent * EARNED
        now = self._clock()
        with self._lock:
            for who in (client, network_of(client)):
                self._owed[who] = max(0.0, self._now(who, now) + cost), now
                self._owed.move_to_end(who)
            while len(self._owed) > CLIENTS_MAX:
                self._owed.popitem(last=False)

    def of(self, client: str) -> float:
        """What a client owes now."""
        now = self._clock()
        with self._lock:
            return self._now(client, now) + self._now(network_of(client), now) / SHARED

    def owes(self, client: str) -> bool:
        """Whether that is worth the name."""
        return self.of(client) > OWING

    def note_other(self) -> None:
        """Somebody who owes nothing is served."""
        self._others_at = self._clock()

    @property
    def serves_others(self) -> bool:
        """Whether somebody was lately who owes nothing."""
        return self._clock() - self._others_at <= SERVED_LATELY

    def _now(self, who: str, now: float) -> float:
        """With the lock."""
        owed, at = self._owed.get(who, (0.0, now))
        return float(owed * 0.5 ** ((now - at) / HALF_LIFE))

"""An event loop whose clock does not run on while the machine is busy with something else.

Two ends of a connection are often in one test, on one loop. When the machine is busy, both stand still, and
yet a real clock would let the time-outs between them run out. This clock counts what the loop waited for,
and of each turn's work `TURN_MAX` at most; so time-outs measure silence and never slowness. Without load
the two clocks agree closely enough.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from typing import Final

TURN_MAX: Final = 0.002
"""Seconds counted of one turn's work. A loop reads one datagram of a socket in each turn, so that twenty
answers take it twenty turns: together these must stay below the shortest of time-outs, a tenth of a second.
"""
ROUNDING: Final = 0.002
"""Seconds that a selector may wait longer than it was asked to: it rounds up to milliseconds."""


class _Clock(selectors.DefaultSelector):
    """Where a loop waits, and so where its time can be counted."""

    def __init__(self) -> None:
        super().__init__()
        self._turn = time.monotonic()
        """When the present turn of the loop began."""
        self._counted = self._turn

    def now(self) -> float:
        return self._counted + min(time.monotonic() - self._turn, TURN_MAX)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._counted = self.now()
        began = time.monotonic()
        ready = super().select(timeout)
        self._turn = time.monotonic()
        waited = self._turn - began
        # What is above the time asked for was not waited for: the machine had other things to do.
        self._counted += waited if timeout is None else min(waited, max(timeout, 0.0) + ROUNDING)
        return ready


class PatientLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._patient = _Clock()
        super().__init__(self._patient)

    def time(self) -> float:
        """Seconds on the loop's own clock, which began with the monotonic one and never overtakes it."""
        return self._patient.now()

"""Waiting for what happens in other processes."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 60.0
"""Seconds: far beyond what a slow machine needs; it ends a broken test."""
FIRST_PAUSE = 0.02
PAUSE = 0.2
"""Seconds between looks, at first and at last: much happens at once, and what does not is not looked for all
the time.
"""


def until(happened: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Look until it is so."""
    deadline = time.monotonic() + patience
    pause = FIRST_PAUSE
    while not happened():
        assert time.monotonic() < deadline, f"in {patience:.0f} s it did not come about that {what}"
        time.sleep(pause)
        pause = min(2 * pause, PAUSE)

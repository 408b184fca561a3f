"""Waiting for what happens in other processes."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 60.0
"""Seconds: far beyond what a slow machine needs; it ends a broken test."""
PAUSE = 0.2


def until(happened: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Look until it is so."""
    deadline = time.monotonic() + patience
    while not happened():
        assert time.monotonic() < deadline, f"in {patience:.0f} s it did not come about that {what}"
        time.sleep(PAUSE)

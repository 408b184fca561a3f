"""The displays where there is no terminal, or where a program reads: something now and then.

Quick work prints nothing: a cron job mails only its summary and its warnings.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from p2psync.progress import Progress, ProgressMeter
from p2psync.text import clean_text, count, duration, rate, share, size

LINE_EVERY: Final = 10.0
"""Seconds between two lines for people, so that a log of hours stays readable."""
EVENT_EVERY: Final = 1.0
"""Seconds between two progress events for programs (docs/json.md promises no more)."""


class Ticker:
    """Calls ``show`` with the progress each ``every`` seconds until stopped; not while nothing goes on."""

    def __init__(self, meter: ProgressMeter, show: Callable[[Progress], None], every: float) -> None:
        self._meter = meter
        self._show = show
        self._every = every
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="p2psync-progress", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._every):
            now = self._meter.progress()
            if not now.phase:
                continue
            try:
                self._show(now)
            except (OSError, ValueError):  # The reader is gone, or the disk full; the work is not.
                return


def line(now: Progress) -> str:
    """One line of text for the whole state."""
    parts = [f"{clean_text(now.phase)}:"]
    if now.total_bytes:
        parts.append(f"{share(now.bytes, now.total_bytes)}, {size(now.bytes)} of {size(now.total_bytes)}")
    else:
        parts.append(size(now.bytes))
    parts.append(f"at {rate(now.rate)},")
    parts.append(
        f"{now.files:,} of {now.total_files:,} files" if now.total_files else count(now.files, "file")
    )
    text = " ".join(parts)
    if now.sources:
        text += f", {count(len(now.sources), 'source')}"
    if now.eta is not None:
        text += f", {duration(now.eta)} left"
    return text

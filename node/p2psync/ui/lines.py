"""The displays where nothing can be drawn, or where a program reads: something now and then.

Quick work prints nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from p2psync.events import Resting
from p2psync.progress import Progress, ProgressMeter
from p2psync.text import clean_text, count
from p2psync.ui.figures import figures, has_answered, headline

LINE_EVERY: Final = 10.0
"""Seconds between two lines for people, so that a log of hours stays readable."""
EVENT_EVERY: Final = 1.0
"""Seconds between two progress events for programs (docs/json.md promises no more)."""
REST_EVERY: Final = 60.0
"""Seconds between two events for programs at rest: what a mirror gives to others is worth a line a minute."""


class Ticker:
    """Calls ``show`` with the progress each ``every`` seconds until stopped; at rest when that begins and
    each ``rest_every`` seconds (None: never); and not while nothing goes on.
    """

    def __init__(
        self,
        meter: ProgressMeter,
        show: Callable[[Progress], None],
        every: float,
        rest_every: float | None = None,
    ) -> None:
        self._meter = meter
        self._show = show
        self._every = every
        self._rest_every = rest_every
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="p2psync-progress", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        rested: Resting | None = None
        rest_due = 0.0
        while not self._stopped.wait(self._every):
            now = self._meter.progress()
            if not now.phase:
                resting = None if self._rest_every is None else now.resting
                if resting is None or (resting == rested and now.seconds < rest_due):
                    continue
                rest_due = now.seconds + (self._rest_every or 0.0)
            rested = now.resting
            try:
                self._show(now)
            except (OSError, ValueError):  # The reader is gone, or the disk full; the work is not.
                return


def line(now: Progress) -> str:
    """One line of text for the whole state."""
    words = [*headline(now), *figures(now)]
    answering = sum(map(has_answered, now.sources))
    if answering:
        words.append(count(answering, "source"))
    return f"{clean_text(now.phase)}: {', '.join(words)}"

"""The display where there is no terminal: a line now and then, so that a log of hours stays readable.

Quick work prints nothing: a cron job mails only its summary and its warnings.
"""

from __future__ import annotations

import threading
from typing import TextIO

from p2psync.ui.progress import Progress, Snapshot
from p2psync.ui.text import clean_text, count, duration, rate, share, size

LINE_EVERY = 10.0
"""Seconds between two lines; none while nothing goes on."""


class LineDisplay:
    """Writes one line each LINE_EVERY seconds to a stream until it is stopped."""

    def __init__(self, progress: Progress, stream: TextIO, every: float = LINE_EVERY) -> None:
        self._progress = progress
        self._stream = stream
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
            now = self._progress.snapshot()
            if not now.phase:
                continue
            try:
                print(line(now), file=self._stream, flush=True)
            except (BrokenPipeError, ValueError):  # The reader is gone; the work is not.
                return


def line(now: Snapshot) -> str:
    """One line of text for the whole state."""
    parts = [f"{clean_text(now.phase)}:"]
    if now.bytes_total:
        parts.append(
            f"{share(now.bytes_done, now.bytes_total)}, {size(now.bytes_done)} of {size(now.bytes_total)}"
        )
    else:
        parts.append(size(now.bytes_done))
    parts.append(f"at {rate(now.rate)},")
    parts.append(
        f"{now.files_done:,} of {now.files_total:,} files"
        if now.files_total
        else count(now.files_done, "file")
    )
    text = " ".join(parts)
    if now.sources:
        text += f", {count(len(now.sources), 'source')}"
    if now.seconds_left is not None:
        text += f", {duration(now.seconds_left)} left"
    return text

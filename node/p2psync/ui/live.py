"""The display on a terminal: one bar for all, one line for each source, redrawn in place, by rich.

What it says, and how it fits, is ``layout``'s.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from p2psync.progress import Progress, ProgressMeter
from p2psync.ui.layout import ASCII, UNICODE, Line, Signs, layout

REDRAW_EVERY: Final = 0.125
"""Seconds: fast enough to look alive, slow enough to cost nothing and to go over a slow ssh line."""
REST_EVERY: Final = 1.0
"""Seconds while nothing goes on but serving: a mirror rests for months, perhaps in a window somewhere."""


class LiveDisplay:
    """Shows progress on standard error while the block runs; afterwards the terminal is as before."""

    def __init__(self, meter: ProgressMeter) -> None:
        self._meter = meter
        self._console = Console(stderr=True, highlight=False)
        self._drawn: tuple[int, list[Line]] | None = None
        self._stopped = threading.Event()
        self._live = Live(
            get_renderable=lambda: render(self._drawn[1] if self._drawn else []),
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # What is printed meanwhile scrolls above the display.
            redirect_stderr=True,
        )
        self._thread = threading.Thread(target=self._run, name="p2psync-display", daemon=True)

    def start(self) -> None:
        self._live.start()
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._live.stop()

    def _run(self) -> None:
        while not self._stopped.is_set():
            now = self._meter.progress()
            try:
                self._draw(now)
            except OSError:  # The terminal is gone; the work is not.
                return
            self._stopped.wait(REDRAW_EVERY if now.phase else REST_EVERY)

    def _draw(self, now: Progress) -> None:
        """Draw what has changed. The last column stays free: where it is written some terminals wrap."""
        width, height = self._console.size
        signs = signs_of(self._console.encoding)
        drawn = width, layout(now, max(width - 1, 1), max(height - 1, 1), signs, at=time.time())
        if drawn != self._drawn:
            self._drawn = drawn
            self._live.refresh()


def signs_of(encoding: str) -> Signs:
    """What to draw with where text is encoded so."""
    return UNICODE if encoding.lower().startswith("utf") else ASCII


def render(lines: list[Line]) -> RenderableType:
    """Lines as a rich renderable. Names are hostile: they come as plain text, never as markup."""
    text = Text(no_wrap=True, overflow="crop")
    for number, line in enumerate(lines):
        if number:
            text.append("\n")
        for span in line:
            text.append(span.text, span.style or None)
    return text

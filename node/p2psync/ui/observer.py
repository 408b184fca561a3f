"""Connects what engines report with what people see: the implementation of ``p2psync.observer.Observer``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from p2psync.observer import Observer
from p2psync.ui.progress import Progress


class Display(Protocol):
    """Something that shows a Progress between start and stop."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


class ProgressObserver(Observer):
    """Collects reports for a display and hands warnings on. May be called from any thread."""

    def __init__(self, progress: Progress, warn: Callable[[str], None]) -> None:
        self._progress = progress
        self._warn = warn

    def phase(self, name: str, total_bytes: int | None, total_files: int | None) -> None:
        self._progress.phase(name, total_bytes or 0, total_files or 0)

    def idle(self) -> None:
        """Nothing goes on until the next phase: the display rests."""
        self._progress.phase("", 0, 0)

    def advance(self, bytes_done: int, files_done: int) -> None:
        self._progress.advance(bytes_done, files_done)

    def source(self, name: str, bytes_received: int) -> None:
        self._progress.source_bytes(name, bytes_received)

    def source_state(self, name: str, state: str) -> None:
        """A word beside a source's figures, such as "banned"; "" takes it away."""
        self._progress.source_state(name, state)

    def warning(self, text: str) -> None:
        self._warn(text)


@contextmanager
def observing(
    warn: Callable[[str], None], *, quiet: bool = False, json: bool = False
) -> Iterator[ProgressObserver]:
    """An observer whose display lives as long as the block: live on a terminal, else lines, else nothing.

    The live display goes to standard error, so that standard output stays clean for results. Lines go to
    standard output, and to standard error when that is for JSON.
    """
    progress = Progress()
    display = None if quiet else _display(progress, json)
    if display is not None:
        display.start()
    try:
        yield ProgressObserver(progress, warn)
    finally:
        if display is not None:
            display.stop()


def _display(progress: Progress, json: bool) -> Display:
    if sys.stderr.isatty():
        from p2psync.ui.live import LiveDisplay  # noqa: PLC0415 - rich only where there is a terminal

        return LiveDisplay(progress)
    from p2psync.ui.lines import LineDisplay  # noqa: PLC0415

    return LineDisplay(progress, sys.stderr if json else sys.stdout)

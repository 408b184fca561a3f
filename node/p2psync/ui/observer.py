"""Connects what engines report with what people see."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from p2psync.events import Event, Teller, Warned
from p2psync.ui.progress import Progress


class Display(Protocol):
    """Something that shows a Progress between start and stop."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


@contextmanager
def observing(warn: Callable[[str], None], *, quiet: bool = False, json: bool = False) -> Iterator[Teller]:
    """A teller whose display lives as long as the block: live on a terminal, else lines, else nothing.

    The live display goes to standard error, so that standard output stays clean for results. Lines go to
    standard output, and to standard error when that is for JSON.
    """
    progress = Progress()

    def hear(event: Event) -> None:
        if isinstance(event, Warned):
            warn(event.text)
        else:
            progress.hear(event)

    display = None if quiet else _display(progress, json)
    if display is not None:
        display.start()
    try:
        yield Teller(hear)
    finally:
        if display is not None:
            display.stop()


def _display(progress: Progress, json: bool) -> Display:
    if sys.stderr.isatty():
        from p2psync.ui.live import LiveDisplay  # noqa: PLC0415 - rich only where there is a terminal

        return LiveDisplay(progress)
    from p2psync.ui.lines import LineDisplay  # noqa: PLC0415

    return LineDisplay(progress, sys.stderr if json else sys.stdout)

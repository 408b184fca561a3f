"""Connects what engines tell with what people and programs are shown."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol, TextIO

from p2psync.events import Event, FileDone, Teller, Warned
from p2psync.progress import Progress, ProgressMeter


class Display(Protocol):
    """Something that shows progress between start and stop."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


@contextmanager
def observing(
    warn: Callable[[str], None],
    *,
    quiet: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    on_file: Callable[[FileDone], None] | None = None,
) -> Iterator[Teller]:
    """A teller whose display lives as long as the block: live on a terminal, else lines, else nothing.

    The live display goes to standard error, so that standard output stays clean for results. Lines go to
    standard output, and to standard error when that is for a program.

    Args:
        on_progress: the program's ear, once a second while something goes on.
        on_file: told of each file that is put in place, at once.
    """
    meter = ProgressMeter()

    def hear(event: Event) -> None:
        if isinstance(event, Warned):
            warn(event.text)
        elif isinstance(event, FileDone):
            if on_file is not None:
                on_file(event)
        elif displays:
            meter.hear(event)

    displays = [] if quiet else [_display(meter, sys.stdout if on_progress is None else sys.stderr)]
    if on_progress is not None:
        from p2psync.ui.lines import EVENT_EVERY, Ticker  # noqa: PLC0415

        displays.append(Ticker(meter, on_progress, EVENT_EVERY))
    with ExitStack() as stack:
        for display in displays:
            display.start()
            stack.callback(display.stop)
        yield Teller(hear, files=on_file is not None)


def _display(meter: ProgressMeter, lines_to: TextIO) -> Display:
    if sys.stderr.isatty():
        from p2psync.ui.live import LiveDisplay  # noqa: PLC0415 - rich only where there is a terminal

        return LiveDisplay(meter)
    from p2psync.ui.lines import LINE_EVERY, Ticker, line  # noqa: PLC0415

    return Ticker(meter, lambda now: print(line(now), file=lines_to, flush=True), LINE_EVERY)

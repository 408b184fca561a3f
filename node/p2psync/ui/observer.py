"""Connects what engines tell with what people and programs are shown."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final, Protocol, TextIO

from p2psync.events import Event, FileDone, Teller, Warned
from p2psync.progress import Progress, ProgressMeter

DUMB: Final = frozenset({"", "dumb", "unknown"})
"""Values of TERM for terminals on which nothing can be drawn over."""


class Display(Protocol):
    """Something that shows progress between start and stop."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


@contextmanager
def observing(
    warn: Callable[[str], None],
    *,
    quiet: bool = False,
    lines: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    on_file: Callable[[FileDone], None] | None = None,
) -> Iterator[Teller]:
    """A teller whose display lives as long as the block: live on a terminal, and lines on one that cannot be
    drawn on. Where there is none, nobody looks: lines come only if they are asked for.

    The live display goes to standard error, so that standard output stays clean for results. Lines go to
    standard output, and to standard error when that is for a program. What ends the block early leaves a
    line that says how far it came.

    Args:
        lines: a line now and then even where there is no terminal.
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

    displays: list[Display] = []
    lines_to = sys.stdout if on_progress is None else sys.stderr
    shown = not quiet and (lines or sys.stderr.isatty() or lines_to.isatty())
    if shown:
        displays.append(_display(meter, lines_to))
    if on_progress is not None:
        from p2psync.ui.lines import EVENT_EVERY, REST_EVERY, Ticker  # noqa: PLC0415

        displays.append(Ticker(meter, on_progress, EVENT_EVERY, REST_EVERY))
    try:
        with ExitStack() as stack:
            for display in displays:
                display.start()
                stack.callback(display.stop)
            yield Teller(hear, files=on_file is not None)
    except BaseException:
        if shown:
            _tell_end(meter.progress(), lines_to)
        raise


def _display(meter: ProgressMeter, lines_to: TextIO) -> Display:
    if sys.stderr.isatty() and os.environ.get("TERM", "") not in DUMB:
        from p2psync.ui.live import LiveDisplay  # noqa: PLC0415 - rich only where there is a terminal

        return LiveDisplay(meter)
    from p2psync.ui.lines import LINE_EVERY, Ticker, line  # noqa: PLC0415

    return Ticker(meter, lambda now: print(line(now), file=lines_to, flush=True), LINE_EVERY)


def _tell_end(now: Progress, lines_to: TextIO) -> None:
    """How far it had come when it was stopped: a display that is drawn leaves nothing behind."""
    from p2psync.ui.lines import line  # noqa: PLC0415

    if now.bytes or now.files:
        with suppress(OSError, ValueError):
            print(line(now._replace(eta=None, stalled=None)), file=lines_to, flush=True)

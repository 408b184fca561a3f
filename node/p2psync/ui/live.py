"""The display on a terminal: one bar for all, one line for each source, redrawn in place, by rich."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from p2psync.errors import show_path
from p2psync.progress import Progress, ProgressMeter, SourceProgress
from p2psync.text import clean_text, duration, rate, share, size

REDRAWS_PER_SECOND = 8
"""Fast enough to look alive, slow enough to cost nothing and to go over a slow ssh line."""
OTHER_ROWS = 4
"""Rows of the terminal that the list of sources leaves free."""
SOURCE_NAME_WIDTH = 44


class LiveDisplay:
    """Shows progress on standard error while the block runs; afterwards the terminal is as before."""

    def __init__(self, meter: ProgressMeter) -> None:
        self._meter = meter
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(
            get_renderable=self._draw,
            console=self._console,
            refresh_per_second=REDRAWS_PER_SECOND,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # What is printed meanwhile scrolls above the display.
            redirect_stderr=True,
        )

    def start(self) -> None:
        self._live.start()

    def stop(self) -> None:
        self._live.stop()

    def _draw(self) -> RenderableType:
        return render(self._meter.progress(), max(1, self._console.size.height - OTHER_ROWS))


def render(now: Progress, max_sources: int) -> RenderableType:
    """The whole display as a rich renderable. Names are hostile: they come as plain text, never as markup."""
    if not now.phase:
        return Text("")
    rows: list[RenderableType] = [_overall(now)]
    if now.total_files:
        rows.append(Text(f"  {now.files:,} of {now.total_files:,} files"))
    elif now.files:
        rows.append(Text(f"  {now.files:,} files"))
    if now.sources:
        rows.append(_sources(now.sources, max_sources))
    return Group(*rows)


def _overall(now: Progress) -> RenderableType:
    line = Table.grid(padding=(0, 1), expand=True)
    line.add_column(no_wrap=True)
    line.add_column(ratio=1, min_width=8)
    line.add_column(justify="right", no_wrap=True)
    known = bool(now.total_bytes or now.total_files)
    bar = ProgressBar(total=1.0 if known else None, completed=now.fraction, pulse=not known)
    figures = size(now.bytes)
    if now.total_bytes:
        figures = f"{share(now.bytes, now.total_bytes)}  {figures} of {size(now.total_bytes)}"
    figures += f"  {rate(now.rate)}"
    if now.eta is not None:
        figures += f"  {duration(now.eta)} left"
    line.add_row(Text(clean_text(now.phase), style="bold"), bar, Text(figures))
    return line


def _sources(lines: Sequence[SourceProgress], max_sources: int) -> RenderableType:
    """One row a source, the busiest when there is no room for all."""
    total = sum(line.received for line in lines)
    shown = lines
    if len(lines) > max_sources:
        busiest = sorted(lines, key=lambda line: (line.rate, line.received), reverse=True)[: max_sources - 1]
        shown = [line for line in lines if line in busiest]
    table = Table.grid(padding=(0, 2))
    table.add_column(max_width=SOURCE_NAME_WIDTH, no_wrap=True, overflow="ellipsis")
    for _ in range(3):
        table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for line in shown:
        style = "red" if line.state == "banned" else "yellow" if line.state else ""
        table.add_row(
            Text("  " + show_path(line.name), style=style),
            Text(share(line.received, total)),
            Text(size(line.received)),
            Text(rate(line.rate)),
            Text(show_path(line.state), style=style),
        )
    if len(shown) < len(lines):
        table.add_row(Text(f"  and {len(lines) - len(shown)} more"), "", "", "", "")
    return table

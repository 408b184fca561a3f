"""Tables for people: drawn by rich on a terminal, plain columns where the output goes elsewhere.

Cells may quote strangers; they are shown as plain text that no terminal obeys. rich is imported only where
there is a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from p2psync.text import clean_text

Row = Sequence[str]


@dataclass
class Table:
    """Rows of cells under headings. ``right``: the columns that are flush right."""

    title: str
    headings: Row
    rows: list[Row] = field(default_factory=list)
    right: frozenset[int] = frozenset()

    def lines(self) -> list[str]:
        """As plain columns."""
        return [self.title, *columns([self.headings, *self.rows], self.right)]


def columns(rows: Sequence[Row], right: frozenset[int] = frozenset()) -> list[str]:
    """Rows of as many cells each, aligned; those in the columns ``right`` are flush right."""
    cells = [[clean_text(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def show(table: Table) -> None:
    """Print a table; nothing if it has no rows."""
    if not table.rows:
        return
    if sys.stdout.isatty():
        _draw(table)
    else:
        print("\n".join(table.lines()), flush=True)


def _draw(table: Table) -> None:
    from rich import box  # noqa: PLC0415 - only a terminal needs it
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table as RichTable  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drawn = RichTable(
        title=table.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for column, heading in enumerate(table.headings):
        drawn.add_column(heading, justify="right" if column in table.right else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(clean_text(cell)) for cell in row))
    Console(highlight=False).print(drawn)

"""What the display on a terminal says, as lines of styled text that fit: pure, of a `Progress`, a size and a
moment.

Narrow terminals lose what matters least: first the bar, then figures from the end of their list, then
columns of the sources. The share that is done and the time left are never cut. Names are shown as
`show_path` writes them, and shortened from the front, since the end tells files apart.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len

from p2psync.errors import show_path
from p2psync.events import Resting
from p2psync.progress import Progress, SourceProgress
from p2psync.text import clean_text, duration, rate, share, size
from p2psync.ui.figures import figures, has_answered, headline, upload

INDENT: Final = "  "
BAR_MIN: Final = 6
"""Cells that a bar needs to tell anything."""
FIGURE_LINES: Final = 3
"""Lines that figures may take, where there is room: at 40 columns all that matters fits."""
SOURCE_WIDTH: Final = 44
"""Cells of the longest name of a source that is shown whole; longer ones are shortened."""
NAME_MIN: Final = 12
"""Cells that names are left with before columns of figures go."""


class Signs(NamedTuple):
    """What is drawn with, by what the terminal can show."""

    done: str
    rest: str
    more: str


UNICODE: Final = Signs("━", "─", "…")
ASCII: Final = Signs("#", "-", "..")


class Span(NamedTuple):
    """Text in one style, as rich names them."""

    text: str
    style: str = ""


Line = list[Span]


def layout(now: Progress, width: int, height: int, signs: Signs = UNICODE, *, at: float = 0.0) -> list[Line]:
    """The display: at most ``height`` lines of at most ``width`` cells. ``at``: when, in Unix seconds."""
    if now.resting is not None:
        return [[Span(line)] for line in flow(_resting(now, now.resting, at), width, height, indent="")]
    if not now.phase:
        return []
    lines = [_first(now, width, signs)]
    lines += [[Span(line)] for line in flow(figures(now), width, min(FIGURE_LINES, height - 1))]
    if now.path and len(lines) < height and width > len(INDENT):
        path = shorten(show_path(now.path), width - len(INDENT), signs.more)
        lines.append([Span(INDENT + path, "dim")])
    if len(lines) < height:
        lines += _sources(now.sources, width, height - len(lines), signs)
    return lines


def _first(now: Progress, width: int, signs: Signs) -> Line:
    """Phase, bar, share, time left: the last two whole, at the right."""
    known = bool(now.total_bytes or now.total_files)
    last = INDENT.join(headline(now))
    style = "yellow" if now.stalled is not None else ""
    if not last:
        return [Span(shorten(clean_text(now.phase), width, signs.more), "bold")]
    last = shorten(last, width, signs.more)
    name = shorten(clean_text(now.phase), max(width - cell_len(last) - 1, 0), signs.more)
    room = width - cell_len(name) - cell_len(last) - 2
    if room < BAR_MIN or not known:
        gap = " " * max(width - cell_len(name) - cell_len(last), 0) if known else INDENT
        return [Span(name, "bold"), Span(gap), Span(last, style)]
    done = int(room * now.fraction)
    return [
        Span(f"{name} ", "bold"),
        Span(signs.done * done, "green"),
        Span(signs.rest * (room - done), "dim"),
        Span(" "),
        Span(last, style),
    ]


def _resting(now: Progress, resting: Resting, at: float) -> list[str]:
    """What a node does that has nothing to fetch."""
    state, since, next_check = resting
    words = [clean_text(state) if since is None else f"{clean_text(state)} since {_moment(since, at)}"]
    if next_check is not None:
        words.append(f"next check in {duration(max(round(next_check - at), 0))}")
    return words + (upload(now) or ["nobody is connected"])


def _moment(unix: float, at: float) -> str:
    """A local time, with its day if that is not today."""
    then = time.localtime(unix)
    today = time.localtime(at)[:3] == then[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", then)


def flow(words: Sequence[str], width: int, lines: int, indent: str = INDENT) -> list[str]:
    """Words on as many lines as they need, ``lines`` at most; a word that does not fit ends it."""
    made: list[str] = []
    for word in words:
        longer = f"{made[-1]}{INDENT}{word}" if made else ""
        if made and cell_len(longer) <= width:
            made[-1] = longer
        elif len(made) < lines and cell_len(indent + word) <= width:
            made.append(indent + word)
        else:
            break
    return made


def shorten(text: str, width: int, more: str = UNICODE.more) -> str:
    """The end of a text that is too long, behind a sign that says so."""
    if cell_len(text) <= width:
        return text
    room = width - cell_len(more)
    if room <= 0:
        return more[: max(width, 0)]
    # The end is looked at alone: a name may be long, and each character is at most two cells.
    kept, used = len(text), 0
    while kept and used + (cells := cell_len(text[kept - 1])) <= room:
        kept, used = kept - 1, used + cells
    return more + text[kept:]


# Sources.


def _sources(sources: Sequence[SourceProgress], width: int, height: int, signs: Signs) -> list[Line]:
    """One line a source, the busiest when there is no room for all."""
    lines = [source for source in sources if has_answered(source)]
    total = sum(line.received for line in lines)
    shown = lines
    if len(lines) > height:
        ranked = sorted(lines, key=lambda line: (line.rate, line.received), reverse=True)
        busiest = set(ranked[: max(height - 1, 0)])
        shown = [line for line in lines if line in busiest]
    columns = [
        [share(line.received, total) for line in shown],
        [size(line.received) for line in shown],
        [rate(line.rate) for line in shown],
    ]
    names = [show_path(line.name) for line in shown]
    states = [show_path(line.state) for line in shown]
    longest = min(max(map(cell_len, names), default=0), SOURCE_WIDTH)
    state_width = max(map(cell_len, states), default=0)

    def room() -> int:
        cells = sum(len(INDENT) + max(map(len, column)) for column in columns if column)
        return width - len(INDENT) - cells - (len(INDENT) + state_width if state_width else 0)

    while len(columns) > 1 and room() < min(longest, NAME_MIN):
        del columns[0]  # The rate is what is looked for.
    name_width = max(min(longest, room()), 1)
    made: list[Line] = []
    for number, line in enumerate(shown):
        name = shorten(names[number], name_width, signs.more)
        text = INDENT + name + " " * (name_width - cell_len(name))
        for column in columns:
            text += INDENT + column[number].rjust(max(map(len, column)))
        text += f"{INDENT}{states[number]}" if states[number] else ""
        style = "red" if line.state == "banned" else "yellow" if line.state else ""
        made.append([Span(shorten(text, width, signs.more), style)])
    if len(shown) < len(lines):
        made.append([Span(shorten(f"{INDENT}and {len(lines) - len(shown)} more", width, signs.more))])
    return made

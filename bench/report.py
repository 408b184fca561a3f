"""The figures as text: lines for a terminal, a table for `docs/benchmarks.md`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.figures import OURS, Figure, Results, Series
from bench.targets import KINDS, Kind

BEGIN: Final = "<!-- table: written by make bench -->"
END: Final = "<!-- end of the table of make bench -->"
HEADINGS: Final = ("work", "contestant", "median", "from – to", "ratio", "to reach", "")
NOT_MET: Final = "**not met**"


def rows(results: Results) -> Iterator[tuple[str, ...]]:
    """One for each contestant of each figure measured, in the order of `KINDS`; ours last."""
    for kind in KINDS:
        figure = results.figures.get((kind.row, kind.name))
        if figure is None:
            continue
        contestants = sorted(figure.contestants.items(), key=lambda one: one[0].startswith(OURS))
        for number, (who, series) in enumerate(contestants):
            work = f"{figure.work}: {kind.name}" if number == 0 else "…"
            yield (work, who, *_values(kind, series), _ratio(kind, figure, who), *_verdict(kind, figure, who))


def _values(kind: Kind, series: Series) -> tuple[str, str]:
    if series.median is None:
        return series.remark or "–", ""
    low, high = min(series.values), max(series.values)
    spread = f"{low:,.{kind.digits}f} – {high:,.{kind.digits}f}" if len(series.values) > 1 else "one run"
    return kind.text(series.median), spread


def _ratio(kind: Kind, figure: Figure, who: str) -> str:
    """Of the median to that of the peer."""
    peer = figure.contestants.get(kind.peer)
    mine, theirs = figure.contestants[who].median, peer.median if peer is not None else None
    return "" if mine is None or not theirs else f"{mine / theirs:.2f} of {kind.peer}"


def _verdict(kind: Kind, figure: Figure, who: str) -> tuple[str, str]:
    if who != OURS or not kind.bounds:
        return "", ""
    met = []
    for bound in kind.bounds:
        reached = bound.reached(figure.contestants)
        met.append("not measured" if reached is None else "met" if reached[1] else NOT_MET)
    said = ", ".join(dict.fromkeys(met)) if len(set(met)) == 1 else ", ".join(met)
    return ", ".join(
        map(kind.bound_text, kind.bounds)
    ), said if figure.full else f"{said} (not the full size)"


def lines(results: Results) -> list[str]:
    """For a terminal: columns as wide as they need to be."""
    cells = [HEADINGS, *((*row[:-1], row[-1].replace("*", "")) for row in rows(results))]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def table(results: Results) -> str:
    """For the documentation."""
    made = [f"| {' | '.join(HEADINGS)} |", "| --- | --- | ---: | ---: | ---: | ---: | --- |"]
    return "\n".join([*made, *(f"| {' | '.join(row)} |" for row in rows(results))])


def write(results: Results, path: Path) -> None:
    """Put the table in its place in a document; ValueError if the document has no such place."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no place for the table, between {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}", encoding="utf-8")

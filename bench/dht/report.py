"""The figures as text: lines for a terminal, a table for `docs/benchmarks.md`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.dht.figures import TARGETS, Figure, Results, Target

BEGIN: Final = "<!-- table: written by make bench-dht -->"
END: Final = "<!-- end of the table -->"


def verdict(target: Target, figure: Figure | None) -> str:
    """Met, not met, or why there is no saying."""
    if figure is None or figure.value is None:
        return "not measured"
    is_met = target.is_met(figure.value)
    return "–" if is_met is None else "met" if is_met else "**not met**"


def told(target: Target, figure: Figure | None) -> str:
    if figure is None:
        return "–"
    return figure.detail if figure.value is None else target.text(figure.value)


def sample(figure: Figure | None) -> str:
    """How many nodes and operations a figure is made of."""
    if figure is None:
        return ""
    parts = [f"N {figure.nodes:,}"] if figure.nodes else []
    parts += [f"n {figure.count:,}"] if figure.count else []
    return ", ".join(parts)


def lines(results: Results) -> list[str]:
    """For a terminal."""
    rows = [("", "ours", "target", "", "kademlia 2.2.3")]
    for target in TARGETS:
        ours, package = (results.figures[side].get(target.name) for side in Results.SIDES)
        verdict_ = verdict(target, ours).strip("*")
        rows.append((target.what, told(target, ours), target.bound(), verdict_, told(target, package)))
    return [
        f"{what:<74} {ours:>14} {bound:>14}  {met:<12} {package}" for what, ours, bound, met, package in rows
    ]


def table(results: Results) -> str:
    """For the documentation."""
    rows = [
        "| what | ours | to reach | | measured with | `kademlia` 2.2.3 | measured with |",
        "| --- | ---: | ---: | --- | --- | --- | --- |",
    ]
    for target in TARGETS:
        ours, package = (results.figures[side].get(target.name) for side in Results.SIDES)
        cells = [
            target.what,
            told(target, ours),
            target.bound(),
            verdict(target, ours),
            sample(ours),
            told(target, package),
            sample(package),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def write(results: Results, path: Path) -> None:
    """Put the table in its place in a document; ValueError if the document has no such place."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no place for the table, between {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}", encoding="utf-8")

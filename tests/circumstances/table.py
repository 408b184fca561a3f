"""What came of each circumstance, as lines, and as the table of docs/circumstances.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from tests.circumstances.cases import Circumstance
from tests.circumstances.stage import Outcome

BEGIN: Final = "<!-- made by: make circumstances -->"
END: Final = "<!-- end -->"


class Row(NamedTuple):
    """One circumstance on one file system for one user."""

    circumstance: Circumstance
    place: str
    plain: bool
    ours: Outcome
    theirs: Outcome

    @property
    def worse(self) -> bool:
        """Whether p2psync left more undone than rsync, or did not say so."""
        if self.ours.undone - self.theirs.undone - self.circumstance.left or (
            self.ours.code > 0 and not self.ours.said
        ):
            return True
        return not self.ours.code and bool(self.theirs.code) and bool(self.ours.undone)

    def line(self) -> str:
        """For a terminal."""
        who = "user" if self.plain else "root"
        mark = "WORSE" if self.worse else "ok"
        return (
            f"{mark:5} {self.circumstance.name:38} {self.place:12} {who}  p2psync {self.ours.code:3} "
            f"({len(self.ours.wrong)} not as in the source)  "
            f"rsync {self.theirs.code:3} ({len(self.theirs.wrong)})"
        )

    def details(self) -> str:
        """What the programs left and said."""
        lines: list[str] = []
        for name, outcome in (("p2psync", self.ours), ("rsync", self.theirs)):
            lines += [
                f"      {name} left {_path(line)[:60]!r} ({line.split()[0]})" for line in outcome.wrong[:12]
            ]
            lines += [f"      {name}: {text[:230]}" for text in outcome.said[:12]]
        return "\n".join(lines)


def _path(line: str) -> str:
    return line.split(" ", 1)[1] if not line.startswith("*deleting") else line.split(None, 1)[1]


def page(text: str, rows: Sequence[Row]) -> str:
    """The page with its table made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table(rows)}\n{END}{after}"


def table(rows: Sequence[Row]) -> str:
    """One line for each outcome of each circumstance; file systems and users with the same share one."""
    lines = [
        "| what happens | where | p2psync: exit code, paths not as in the archive | rsync |",
        "| --- | --- | --- | --- |",
    ]
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        key = (row.circumstance.what, _shown(row.ours), _shown(row.theirs))
        groups.setdefault(key, []).append(row)
    for (what, ours, theirs), inside in groups.items():
        where = ", ".join(f"{row.place}{' (user)' if row.plain else ''}" for row in inside)
        lines.append(f"| {what.replace('|', chr(92) + '|')} | {where} | {ours} | {theirs} |")
    return "\n".join(lines) + "\n"


def _shown(outcome: Outcome) -> str:
    if not outcome.wrong:
        return str(outcome.code)
    return f"{outcome.code}, {len(outcome.wrong)}"

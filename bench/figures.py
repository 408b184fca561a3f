"""The figures of publishing and fetching: values per contestant, kept in a JSON file. What they are to reach
is `targets`'.
"""

from __future__ import annotations

import json
import os
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path

OURS = "p2psync"


@dataclass(slots=True)
class Series:
    """All that was measured of one contestant in one figure: a value a run, and a remark, such as why there
    is none.
    """

    values: list[float] = field(default_factory=list)
    remark: str = ""

    @property
    def median(self) -> float | None:
        return statistics.median(self.values) if self.values else None


@dataclass(slots=True)
class Figure:
    """One figure of a row, such as the wall time of a cold fetch, side by side for all contestants. ``work``
    says what was done, with the real size; ``full`` whether that was the full size, for which alone targets
    are meant.
    """

    work: str
    full: bool
    contestants: dict[str, Series] = field(default_factory=dict)


class Results:
    """Figures by row and name, kept in a JSON file if there is a path: a row that was measured is not lost
    when a later one is interrupted, and rows measured earlier stay.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.figures: dict[tuple[str, str], Figure] = {}
        if path is not None and path.exists():
            for key, one in json.loads(path.read_text(encoding="utf-8")).items():
                row, _, name = key.partition("/")
                series = {who: Series(**fields) for who, fields in one["contestants"].items()}
                self.figures[row, name] = Figure(one["work"], one["full"], series)

    def begin(self, row: str) -> None:
        """Forget what an earlier run measured of a row."""
        self.figures = {key: figure for key, figure in self.figures.items() if key[0] != row}

    def note(
        self, row: str, name: str, work: str, who: str, value: float | None, remark: str = "", *, full: bool
    ) -> None:
        """Add the value of one run; None, with a remark, where there is none."""
        figure = self.figures.setdefault((row, name), Figure(work, full))
        series = figure.contestants.setdefault(who, Series())
        if value is not None:
            series.values.append(value)
        series.remark = remark or series.remark
        self._save()

    def _save(self) -> None:
        if self._path is None:
            return
        content = {f"{row}/{name}": asdict(figure) for (row, name), figure in self.figures.items()}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(content, indent=1), encoding="utf-8")
        os.replace(fresh, self._path)

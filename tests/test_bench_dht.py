"""The benchmark of the DHT: its report, and that every row runs, on networks too small to mean anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.dht import adversaries, days, network, package, report
from bench.dht.__main__ import main
from bench.dht.figures import TARGETS, Figure, Results


class Noted:
    """A `Note` that keeps what it is given."""

    def __init__(self) -> None:
        self.values: dict[str, float | None] = {}

    def __call__(
        self, name: str, value: float | None, detail: str = "", *, nodes: int = 0, count: int = 0
    ) -> None:
        assert name in {target.name for target in TARGETS}
        self.values[name] = value


def results(path: Path | None = None) -> Results:
    made = Results(path)
    made.note("ours", "dead found", Figure(99.95, nodes=1000, count=3000))
    made.note("ours", "miss datagrams", Figure(57.8, nodes=1000, count=1000))
    made.note("ours", "quorum datagrams", Figure(40.0))
    made.note("package", "dead found", Figure(97.7, nodes=200, count=200))
    made.note("package", "hostile alive", Figure(None, "does not survive"))
    return made


def test_every_target_is_a_line_and_names_are_unique() -> None:
    assert len({target.name for target in TARGETS}) == len(TARGETS)
    assert len(report.lines(Results())) == len(TARGETS) + 1


def test_table_tells_met_from_not_met_and_measured_from_not() -> None:
    rows = report.table(results()).splitlines()
    dead = next(row for row in rows if "heads found" in row and "40 %" in row)
    assert "99.95 %" in dead and "| met |" in dead and "97.70 %" in dead and "N 1,000, n 3,000" in dead
    assert any("57.8" in row and "**not met**" in row for row in rows)
    assert any("40.0 | – | – |" in row for row in rows)
    assert any("does not survive" in row and "not measured" in row for row in rows)


def test_bounds_hold_at_the_bound_itself() -> None:
    by_name = {target.name: target for target in TARGETS}
    assert by_name["dead found"].is_met(99.9) and not by_name["dead found"].is_met(99.89)
    assert by_name["put datagrams"].is_met(120) and not by_name["put datagrams"].is_met(120.1)


def test_results_survive_an_interruption(tmp_path: Path) -> None:
    results(tmp_path / "build" / "results.json")
    again = Results(tmp_path / "build" / "results.json")
    assert again.figures == results().figures
    assert [target.name for target in again.not_met()] == ["miss datagrams"]


def test_table_is_written_between_its_marks_only(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text(f"before\n{report.BEGIN}\nformer\n{report.END}\nafter\n", encoding="utf-8")
    report.write(results(), document)
    text = document.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{report.BEGIN}\n| what") and text.endswith(f"{report.END}\nafter\n")
    assert "former" not in text
    document.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match="no place"):
        report.write(results(), document)


def test_documentation_has_the_place_for_the_table() -> None:
    text = (Path(__file__).parents[1] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert text.index(report.BEGIN) < text.index(report.END)


def test_rows_of_ours() -> None:
    noted = Noted()
    network.lookups(30, 6, noted)
    network.sweep(25, 5, noted)
    adversaries.liars(25, 3, noted)
    adversaries.hostile(20, 0, noted, datagrams=500)
    network.churn(25, 4, noted, hours=0.5)
    assert noted.values["dead found"] == noted.values["churn"] == noted.values["hostile alive"] == 100
    assert noted.values["hostile errors"] == noted.values["hostile taken"] == 0


def test_a_day_of_liars_fakes_false_holders_and_churn_hides_no_honest_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Little more than an hour of it: the second heads are what is wanted, and liars tell the first."""
    monkeypatch.setattr(days, "ARCHIVES", 1)
    monkeypatch.setattr(days, "HOLDERS", 3)
    noted = Noted()
    days.day(25, 4, noted, hours=1.2)
    assert noted.values["day heads"] == noted.values["day holders"] == 100


def test_rows_of_the_package() -> None:
    noted = Noted()
    package.lookups(25, 4, noted)
    package.liars(25, 4, noted)
    package.local(0, 0, noted, stored=500)
    package.hostile(0, 0, noted)
    assert noted.values["hostile alive"] is None
    assert (noted.values["miss datagrams"] or 0) > 0


def test_unknown_row_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["bench.dht", "liers"])
    with pytest.raises(SystemExit):
        main()
    assert "no row 'liers'" in capsys.readouterr().err

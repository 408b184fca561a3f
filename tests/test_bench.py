"""The benchmark of publishing and fetching: its report, and rows on trees too small to mean anything."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from bench import data, liar, report
from bench.__main__ import main
from bench.contestants import aria2
from bench.figures import Results
from bench.memory import memory_of
from bench.processes import BenchError, Running, family, run
from bench.rows import ROWS
from bench.targets import KINDS


def results(path: Path | None = None, *, full: bool = True) -> Results:
    made = Results(path)
    for who, walls in {"p2psync": (1.0, 1.2, 5.0), "rsync": (1.1, 1.0, 1.3), "aria2c": (1.5,)}.items():
        for wall in walls:
            made.note("big", "wall", "cold, one file", who, wall, full=full)
    made.note("crowd", "sent by the origin", "crowd", "p2psync", None, "skipped: needs root", full=full)
    return made


def test_every_kind_of_figure_belongs_to_a_row_and_has_a_name_of_its_own() -> None:
    assert {kind.row for kind in KINDS} == set(ROWS)
    assert len({(kind.row, kind.name) for kind in KINDS}) == len(KINDS)


def test_table_has_median_spread_ratio_and_a_verdict_for_each_bound() -> None:
    rows = report.table(results()).splitlines()
    ours = next(row for row in rows if "| p2psync |" in row)
    assert "1.20 s" in ours and "1.00 – 5.00" in ours and "1.09 of rsync" in ours
    assert re.search(r"\| ≤ [\d.]+ of rsync, ≤ [\d.]+ of aria2c \|", ours) and ours.count("**not met**") == 1
    theirs = next(row for row in rows if "| aria2c |" in row)
    assert "one run" in theirs and "≤" not in theirs
    assert "skipped: needs root" in rows[-1]


def test_targets_are_meant_for_the_full_size() -> None:
    (big,) = (kind for kind in KINDS if (kind.row, kind.name) == ("big", "wall"))
    assert big.missed(results().figures["big", "wall"])
    assert not big.missed(results(full=False).figures["big", "wall"])
    assert "not the full size" in report.table(results(full=False))


def test_results_survive_an_interruption_and_a_row_measured_anew_replaces_its_own(tmp_path: Path) -> None:
    path = tmp_path / "build" / "results.json"
    before = results(path)
    again = Results(path)
    assert again.figures == before.figures
    again.begin("big")
    assert set(again.figures) == {("crowd", "sent by the origin")}


def test_table_is_written_between_its_marks_only(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text(f"before\n{report.BEGIN}\nformer\n{report.END}\nafter\n", encoding="utf-8")
    report.write(results(), document)
    text = document.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{report.BEGIN}\n| work") and text.endswith(f"{report.END}\nafter\n")
    assert "former" not in text
    document.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match="no place"):
        report.write(results(), document)


def test_documentation_has_the_place_for_the_table_and_names_every_row() -> None:
    text = (Path(__file__).parents[1] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert text.index(report.BEGIN) < text.index(report.END)
    assert ", ".join(ROWS) in " ".join(text.split())


def test_rows_run_and_leave_nothing_but_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    rows = ["help", "small", "nochange", "publish-small"]
    options = ["--runs", "1", "--scale", "0.0005", "--folder", str(tmp_path), "--results", str(path)]
    only = [word for name in ("p2psync", "rsync", "reading") for word in ("--only", name)]
    code = main([*rows, *options, *only])
    assert code in (0, 1), capsys.readouterr().err
    figures = Results(path).figures
    assert {row for row, _ in figures} == set(rows)
    walls = figures["small", "wall"].contestants
    assert set(walls) == {"p2psync", "p2psync, known network", "rsync"}
    assert all(value > 0 for series in walls.values() for value in series.values)
    assert not figures["small", "wall"].full and figures["help", "CPU"].full
    assert figures["nochange", "received"].contestants["p2psync"].values
    assert list(tmp_path.iterdir()) == [path], "what was made is removed"


def test_a_contestant_that_fails_ends_its_row_and_the_run_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        run(["sh", "-c", "echo no route; exit 3"], tmp_path / "log")

    monkeypatch.setitem(ROWS, "help", fail)
    assert main(["help", "--folder", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "ended with 3: no route" in told and "failed: help" in told


def test_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["smal"])
    assert "no row 'smal'" in capsys.readouterr().err


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(BenchError, match="aria2c is not here: apt-get install aria2"):
        aria2.Aria2(tmp_path)


def test_data_is_the_same_for_the_same_seed_and_no_block_occurs_twice(tmp_path: Path) -> None:
    one, other = (data.one_file(tmp_path / name, 5 << 20) / "file" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    blocks = [one.read_bytes()[at : at + 4096] for at in range(0, 5 << 20, 4096)]
    assert len(set(blocks)) == len(blocks)
    tree = data.many_files(tmp_path / "many", 250, 100_000)
    assert len(data.files_of(tree)) == 250 and 50_000 < data.size_of(tree) < 150_000


def test_trees_that_differ_are_refused(tmp_path: Path) -> None:
    tree, copy = (data.many_files(tmp_path / name, 5, 1000) for name in ("tree", "copy"))
    data.assert_equal(tree, copy, with_times=True)
    file = data.files_of(copy)[0]
    file.touch()
    data.assert_equal(tree, copy, with_times=False)
    with pytest.raises(BenchError, match="does not equal"):
        data.assert_equal(tree, copy, with_times=True)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(BenchError, match="does not equal"):
        data.assert_equal(tree, copy, with_times=False)


def test_metalink_has_pieces_of_large_files_and_every_source(tmp_path: Path) -> None:
    tree = data.one_file(tmp_path / "tree", aria2.PIECE + 1)
    (tree / "a&b").write_bytes(b"small")
    described = [aria2.described(tree, path) for path in data.files_of(tree)]
    text = aria2.metalink(described, ["http://one", "http://two"])
    assert 'name="a&amp;b"' in text and ">http://two/a%26b<" in text
    assert text.count("<pieces ") == 1 and text.count("<hash") == 3


def test_a_liar_has_every_block_wrong(tmp_path: Path) -> None:
    original = data.one_file(tmp_path / "tree", 10 * liar.BLOCK) / "file"
    image = tmp_path / "image"
    image.write_bytes(bytes(liar.BLOCK) + original.read_bytes() + bytes(liar.BLOCK))
    liar.flip(image, original)
    false = image.read_bytes()[liar.BLOCK : -liar.BLOCK]
    for at in range(0, len(false), liar.BLOCK):
        assert false[at : at + liar.BLOCK] != original.read_bytes()[at : at + liar.BLOCK]
    image.write_bytes(bytes(liar.BLOCK))
    with pytest.raises(BenchError, match="cannot be made wrong"):
        liar.flip(image, original)


def test_a_frozen_server_is_silent_with_its_children_and_can_still_be_stopped(tmp_path: Path) -> None:
    running = Running(["sh", "-c", "sleep 600 & echo ready; wait"], tmp_path / "log")
    while "ready" not in running.output:
        assert running.process.poll() is None
    running.freeze()
    members = family(running.pid)
    assert len(members) == 2
    for pid in members:
        while " T " not in Path(f"/proc/{pid}/stat").read_text():
            assert running.process.poll() is None
    running.stop()
    assert running.process.returncode == -signal.SIGTERM
    os.kill(members[1], signal.SIGKILL)


def test_memory_of_a_process_that_has_ended_is_none() -> None:
    pss, rss = memory_of(1 << 22)
    assert pss == rss == 0

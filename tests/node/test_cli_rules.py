"""Filter rules given on the command line become the Filter that the engine uses."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from p2psync.cli.app import program, run
from p2psync.cli.not_built import REASONS
from p2psync.cli.rules import build_filter
from p2psync.errors import FileError, UsageError


def test_the_first_rule_that_matches_decides() -> None:
    chosen = build_filter([("include", "keep.tmp"), ("exclude", "*.tmp"), ("filter", "- /cache/")])
    assert not chosen.hidden(b"keep.tmp", False)
    assert chosen.hidden(b"other.tmp", False)
    assert chosen.hidden(b"cache", True)
    reversed_ = build_filter([("exclude", "*.tmp"), ("include", "keep.tmp")])
    assert reversed_.hidden(b"keep.tmp", False)


def test_patterns_are_bytes() -> None:
    assert build_filter([("exclude", os.fsdecode(b"\xff*"))]).hidden(b"\xffx", False)


def test_merge_files_are_read(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.write_text("# a comment\n+ a.log\n- *.log\n")
    chosen = build_filter([("filter", f". {rules}")])
    assert not chosen.hidden(b"a.log", False)
    assert chosen.hidden(b"b.log", False)


def test_a_merge_file_that_is_missing_is_an_error() -> None:
    with pytest.raises(FileError, match="/does/not/exist"):
        build_filter([("filter", ". /does/not/exist")])


def test_a_rule_that_is_none_is_an_error() -> None:
    with pytest.raises(UsageError):
        build_filter([("filter", "nonsense")])


@pytest.mark.parametrize("command", ["fetch", "mirror"])
def test_options_of_rsync_that_are_not_there_say_why(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    offered = {name for param in click_command(command).params for name in param.opts}
    assert not offered & REASONS.keys()
    for option in ("--inplace", "-K", "-H", "-avH", "--link-dest=x", "--temp-dir"):
        assert run([command, option, "p2psync://x", "d"]) == 1
        assert "is not an option here: " in capfd.readouterr().err
    assert run([command, "--inplase", "p2psync://x", "d"]) == 1
    assert "no such option" in capfd.readouterr().err
    assert run(["ls", "-K", "p2psync://x"]) == 1
    assert "no such option" in capfd.readouterr().err


def click_command(name: str) -> click.Command:
    found = program.get_command(click.Context(program), name)
    assert found is not None
    return found

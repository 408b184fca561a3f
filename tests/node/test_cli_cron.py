"""Runs that overlap in one directory: who asks, who goes once more, and that nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from p2psync.cli.cron_options import Status, in_turn
from p2psync.cli.options import Common
from p2psync.cli.output import Output
from p2psync.errors import PlaceBusy
from p2psync.state import State
from p2psync.state.queued import Queued

PLACE = b"/somewhere"


@pytest.fixture
def common(tmp_path: Path) -> Common:
    return Common(tmp_path / "state", Output())


def queued(common: Common) -> Queued:
    with State.open(common.state_path) as state:
        return Queued(state.path, os.path.realpath(PLACE))


def runs(*steps: int | Callable[[], int]) -> tuple[Callable[[], int], list[int]]:
    """A run that does these one after the other, and how often it was called."""
    left = list(steps)
    called: list[int] = []

    def run() -> int:
        called.append(len(called))
        step = left.pop(0)
        return step if isinstance(step, int) else step()

    return run, called


def busy() -> int:
    raise PlaceBusy("somebody is at work")


def test_who_was_asked_meanwhile_goes_once_more(common: Common) -> None:
    def asked() -> int:
        queued(common).ask()
        queued(common).ask()
        return 23

    run, called = runs(asked, 0)
    assert in_turn(common, PLACE, run) == 0
    assert len(called) == 2
    assert not queued(common).take()


def test_who_comes_while_another_is_at_work_asks_and_ends(common: Common) -> None:
    run, called = runs(busy, busy)
    assert in_turn(common, PLACE, run) is None
    assert len(called) == 2
    assert queued(common).take()


def test_if_the_other_ended_before_it_could_see_that_it_is_ones_own_turn(common: Common) -> None:
    run, called = runs(busy, 5, 0)
    # What was asked is still there: it may have been for the other one, so there is one run more at most.
    assert in_turn(common, PLACE, run) == 0
    assert len(called) == 3


def test_what_was_asked_before_is_answered_by_the_first_run(common: Common) -> None:
    queued(common).ask()
    run, called = runs(0)
    assert in_turn(common, PLACE, run) == 0
    assert len(called) == 1


def test_directories_wait_for_their_own_alone(common: Common) -> None:
    queued(common).ask()
    with State.open(common.state_path) as state:
        assert not Queued(state.path, b"/elsewhere").take()
        assert not Queued(state.path, b"/" + b"x" * 4000).take()


def test_a_status_file_that_cannot_be_written_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = Status(tmp_path / "none" / "status", "src", PLACE, Output())
    status.ended(0)
    assert "cannot be written" in capsys.readouterr().err


def test_what_was_in_the_status_file_may_be_anything(tmp_path: Path) -> None:
    for text in ("", "[", "[1]", '{"format": 9}', "\0" * 100):
        (tmp_path / "status").write_text(text)
        Status(tmp_path / "status", "src", PLACE, Output()).failed(10, "no")
        assert '"last_success": null' in (tmp_path / "status").read_text()

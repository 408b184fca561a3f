"""What long work tells: each event once, warnings once a run, files only to those who ask."""

from __future__ import annotations

import pytest

from p2psync.events import (
    SILENT,
    WARNINGS_REMEMBERED,
    Advanced,
    Arrived,
    Awaiting,
    Event,
    FileDone,
    Phase,
    Received,
    Resting,
    Served,
    SourceState,
    Teller,
    Warned,
    warnings_to,
)


@pytest.fixture
def heard() -> list[Event]:
    return []


def test_each_method_tells_its_event(heard: list[Event]) -> None:
    tell = Teller(heard.append, files=True)
    tell.phase("fetching", 10, 1)
    tell.advance(10, 1)
    tell.advance(5, 0, reused=5, path=b"g")
    tell.awaiting(True)
    tell.arrived("a:1", 12)
    tell.received("a:1", 10)
    tell.served(7, 1)
    tell.source_state("a:1", "banned")
    tell.warn("careful")
    tell.file_done(b"f", 10)
    tell.idle()
    tell.rest("up to date", 1.0, 2.0)
    assert heard == [
        Phase("fetching", 10, 1),
        Advanced(10, 1),
        Advanced(5, 0, 5, b"g"),
        Awaiting(True),
        Arrived("a:1", 12),
        Received("a:1", 10),
        Served(7, 1),
        SourceState("a:1", "banned"),
        Warned("careful"),
        FileDone(b"f", 10),
        Phase(""),
        Resting("up to date", 1.0, 2.0),
    ]


def test_files_are_told_to_those_who_ask(heard: list[Event]) -> None:
    tell = Teller(heard.append)
    assert not tell.wants_files
    tell.file_done(b"f", 1)
    assert heard == []
    assert not Teller(files=True).wants_files, "nobody hears"


def test_a_warning_is_told_once_a_run(heard: list[Event]) -> None:
    tell = Teller(heard.append)
    for _ in range(16):
        tell.warn("a:1 does not answer")
    tell.warn("b:2 does not answer")
    assert heard == [Warned("a:1 does not answer"), Warned("b:2 does not answer")]
    tell.idle()
    tell.warn("a:1 does not answer")
    assert heard[2:] == [Phase(""), Warned("a:1 does not answer")]


def test_remembered_warnings_are_bounded_and_none_is_lost(heard: list[Event]) -> None:
    tell = Teller(heard.append)
    for number in range(2 * WARNINGS_REMEMBERED):
        tell.warn(f"warning {number}")
    assert len(heard) == 2 * WARNINGS_REMEMBERED
    assert len(tell._warned) == WARNINGS_REMEMBERED


def test_what_an_observer_raises_ends_the_work() -> None:
    def refuse(event: Event) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        Teller(refuse).advance(1, 0)


def test_without_an_observer_nothing_happens() -> None:
    SILENT.phase("fetching")
    SILENT.warn("careful")
    assert SILENT._warned == set()


def test_warnings_alone_can_be_heard() -> None:
    said: list[str] = []
    tell = Teller(warnings_to(said.append))
    tell.phase("fetching")
    tell.warn("careful")
    assert said == ["careful"]

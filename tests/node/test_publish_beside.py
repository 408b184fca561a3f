"""Small files are hashed by a process beside the walk, and nobody can tell from the result."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from tests.node.loading import assert_light
from tests.node.publishing import write

from p2psync.format.ids import EMPTY, Ref
from p2psync.publish import beside, files, publish
from p2psync.state import State
from p2psync.tree import hasher_main
from p2psync.tree.hasher_main import Outcome, hash_named, outcomes_of, pack_answer, pack_question
from p2psync.tree.reading import Content, KeptChanging, TooLarge
from p2psync.tree.scan import Found


@pytest.fixture
def many(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree whose files are hashed beside from the second on, a few at a time."""
    monkeypatch.setattr(files, "BESIDE_FILES", 1)
    monkeypatch.setattr(files, "BATCH_FILES", 3)
    for directory in ("", "a", "a/b", "a/b/c", "z"):
        for number in range(20):
            write(tree / directory / f"{number}", os.urandom(number * 10_000))
    return tree


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[beside.Batch]]:
    """What the process was sent."""
    made: list[beside.Batch] = []
    send = beside.Beside.send

    def noted(self: beside.Beside, batch: beside.Batch) -> bool:
        made.append(batch)
        return send(self, batch)

    monkeypatch.setattr(beside.Beside, "send", noted)
    yield made


def alone(tree: Path, folder: Path) -> Any:
    """What a walk makes of it that hashes everything itself."""
    with pytest.MonkeyPatch.context() as patch, State.open(folder) as state:
        patch.setattr(files, "BESIDE_FILES", 1_000_000)
        return publish(state, tree).root


def test_the_result_is_that_of_a_walk_that_does_everything_itself(
    state: State, many: Path, tmp_path: Path, sent: list[beside.Batch]
) -> None:
    done = publish(state, many)
    assert sum(len(batch.rows) for batch in sent) > 20
    assert done.root == alone(many, tmp_path / "other")
    assert not publish(state, many).changed
    (tree,) = state.trees.all()
    assert len(state.trees.files_in(tree.id, b"a/b")) == 20
    assert all(row.stamp for _, row in state.trees.directories(tree.id))


@pytest.mark.parametrize("after", [0, 2])
def test_what_a_process_that_dies_leaves_is_done_by_the_walk(
    state: State, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    send = beside.Beside.send
    left = [after]

    def killed(self: beside.Beside, batch: beside.Batch) -> bool:
        left[0] -= 1
        if left[0] == -1 and self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        return send(self, batch)

    monkeypatch.setattr(beside.Beside, "send", killed)
    assert publish(state, many).root == alone(many, tmp_path / "other")
    assert left[0] < 0


def test_without_a_process_the_walk_does_everything(
    state: State, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(module: str) -> None:
        raise BlockingIOError

    monkeypatch.setattr(beside, "start_process", fail)
    assert publish(state, many).root == alone(many, tmp_path / "other")


def test_what_changed_since_it_was_listed_is_read_as_it_is(tree: Path) -> None:
    write(tree / "same", b"x" * 5)
    write(tree / "grows", b"x")
    write(tree / "large", os.urandom(200_000))
    write(tree / "empty", b"")
    (tree / "link").symlink_to("same")
    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        names = [b"same", b"grows", b"large", b"empty", b"link", b"gone"]
        rows = [Found.of(name, os.stat(tree / "same")) for name in names]
        outcomes = [hash_named(fd, row) for row in rows]
    finally:
        os.close(fd)
    same, grows, large, empty, link, gone = outcomes
    assert isinstance(grows, Content) and grows.found.size == 1
    assert isinstance(same, Content) and same.recipe is None and same.ref.size == 5
    assert isinstance(large, Content) and large.recipe is not None
    assert isinstance(empty, Content) and empty.ref == EMPTY
    assert isinstance(link, OSError) and isinstance(gone, FileNotFoundError)


def test_what_it_answers_arrives() -> None:
    row = Found(b"\xff\n", 0o100644, 5 << 30, -1, 2, (1 << 64) - 1)
    outcomes: list[Outcome] = [
        Content(row, Ref(row.size, b"d" * 32), b"recipe", 7, 8),
        Content(row._replace(size=3), Ref(3, b"e" * 32), None, 7, 8),
        KeptChanging(9),
        TooLarge(),
        PermissionError(13, "Permission denied"),
    ]
    rows = [row] * len(outcomes)
    assert msgpack.unpackb(pack_question(rows)[4:]) == [list(row)] * len(rows)
    came = outcomes_of(rows, msgpack.unpackb(pack_answer(rows, outcomes)))
    assert came[:2] == outcomes[:2]
    assert isinstance(came[2], KeptChanging) and came[2].read_bytes == 9
    assert isinstance(came[3], TooLarge)
    assert isinstance(came[4], PermissionError) and came[4].errno == 13 and came[4].strerror


def test_the_process_loads_no_more_than_it_needs() -> None:
    assert_light(hasher_main, "p2psync.publish")

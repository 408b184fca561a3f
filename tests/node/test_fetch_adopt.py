"""A directory that has content before its first fetch: indexed once, within a limit, if it seems related."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.help.held import Held, cancel_while_held

from p2psync.events import SILENT, Advanced, Event, Teller
from p2psync.fetch.adopt import adopt
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry, file_entry
from p2psync.publish import builder
from p2psync.publish.builder import Builder
from p2psync.state import State
from p2psync.state.trees import Tree


@pytest.fixture
def tree(tmp_path: Path, state: State) -> Tree:
    place = tmp_path / "dest"
    (place / "sub").mkdir(parents=True)
    (place / "one").write_bytes(b"1" * 1000)
    (place / "sub" / "two").write_bytes(b"2" * 1000)
    return state.trees.ensure(os.fsencode(place), "fetch", None)


WANTED = [file_entry(b"one", 0o644, 0, Ref(1, b"x" * 32))]


async def test_what_is_here_is_indexed_with_its_listings(state: State, tree: Tree) -> None:
    assert await adopt(state, tree, WANTED, SILENT)
    assert set(state.trees.files_in(tree.id, b"")) == {b"one"}
    row = state.trees.dir_row(tree.id, b"sub")
    assert row is not None
    assert state.meta.has(row.listing.digest)


async def test_what_is_known_already_is_not_read_again(state: State, tree: Tree) -> None:
    assert await adopt(state, tree, WANTED, SILENT)
    assert not await adopt(state, tree, WANTED, SILENT)


@pytest.mark.parametrize("wanted", [[], [file_entry(b"other", 0o644, 0, Ref(1, b"x" * 32))]])
async def test_unrelated_content_is_not_read(state: State, tree: Tree, wanted: list[Entry]) -> None:
    assert not await adopt(state, tree, wanted, SILENT)
    assert state.trees.is_empty(tree)


async def test_more_than_the_limit_is_not_read(state: State, tree: Tree) -> None:
    assert not await adopt(state, tree, WANTED, SILENT, limit=1999)
    assert await adopt(state, tree, WANTED, SILENT, limit=2000)


async def test_a_reader_that_nobody_waits_for_stops_and_has_ended_then(
    state: State, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Event] = []
    ended: list[bool] = []

    class Watched(Builder):
        def build(self, path: bytes) -> Any:
            try:
                return super().build(path)
            finally:
                ended.append(True)

    def stuck(event: Event) -> None:
        if isinstance(event, Advanced):
            heard.append(event)
            task.get_loop().call_soon_threadsafe(task.cancel)
            while not task.cancelling():
                pass

    monkeypatch.setattr(builder, "Builder", Watched)
    task = asyncio.create_task(adopt(state, tree, WANTED, Teller(stuck)))
    await asyncio.wait([task])
    assert task.cancelled()
    assert (len(heard), ended) == (1, [True])


async def test_a_walk_that_nobody_waits_for_stops_and_has_ended_then(
    state: State, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[bytes] = []
    first = Held()

    def list_one(path: bytes) -> Any:
        listed.append(path)
        first.work()
        return os.scandir(path)

    monkeypatch.setattr("p2psync.fetch.adopt.os", SimpleNamespace(**vars(os) | {"scandir": list_one}))
    await cancel_while_held(asyncio.create_task(adopt(state, tree, WANTED, SILENT)), first)
    assert listed == [tree.path]

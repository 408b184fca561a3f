"""Heads that are asked for again: from memory while they are the newest, and never longer."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from tests.node.wire_support import served

from p2psync.content import library
from p2psync.content.library import StateLibrary
from p2psync.publish import publish
from p2psync.sources.wire import head_path
from p2psync.state import State


def tree_in(path: Path, text: str) -> Path:
    path.mkdir(exist_ok=True)
    (path / "file").write_text(text)
    return path


async def test_a_head_that_another_process_signs_is_answered_at_once(tmp_path: Path) -> None:
    tree = tree_in(tmp_path / "tree", "one")
    async with served(tmp_path, tree) as node, aiohttp.ClientSession() as session:

        async def head() -> bytes:
            async with session.get(f"http://{node.address}{head_path(node.archive)}") as answer:
                assert answer.status == 200
                return await answer.read()

        first = await head()
        assert await head() == first == node.library.known_head(node.archive)
        with State.open(node.state.path) as theirs:
            publish(theirs, tree_in(tree, "two"))
            newest = theirs.heads.newest(node.archive)
        assert newest is not None
        assert newest.raw != first
        assert await head() == newest.raw
        assert await head() == newest.raw


def test_only_what_was_read_of_this_index_is_known(tmp_path: Path) -> None:
    with State.open(tmp_path / "state") as state, State.open(tmp_path / "state") as other:
        archive = publish(state, tree_in(tmp_path / "tree", "one")).archive
        node = StateLibrary(state)
        assert node.known_head(archive) is None
        head = node.head(archive)
        assert node.known_head(archive) == head is not None
        assert node.known_head(bytes(32)) is None
        assert node.head(bytes(32)) is None
        tree = other.trees.by_archive(archive)[0]
        other.trees.remove(tree)
        assert node.known_head(archive) is None
        assert node.head(archive) is None
        node.close()


def test_heads_in_memory_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "HEADS_KNOWN", 2)
    with State.open(tmp_path / "state") as state:
        archives = [publish(state, tree_in(tmp_path / f"tree{number}", "")).archive for number in range(5)]
        node = StateLibrary(state)
        for archive in archives:
            assert node.head(archive) == node.known_head(archive)
            assert sum(node.known_head(each) is not None for each in archives) <= 2
        node.close()

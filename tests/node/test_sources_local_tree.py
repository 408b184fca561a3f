"""A directory of this machine as a source of content: what it gives, and what it does not follow."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.node.bulk_support import digest

from p2psync.arena import Extent
from p2psync.errors import NetworkError
from p2psync.sources.local_tree import SCHEME, LocalTree
from p2psync.sources.opening import SourceSettings, open_source
from p2psync.sources.orders import Answer, Check, Order
from p2psync.sources.source import Span

DATA = bytes(range(256)) * 100
D = b"\x11" * 32
AT = 4096
"""Where in the memory the answers go."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree/dir").mkdir(parents=True)
    (tmp_path / "tree/dir/file").write_bytes(DATA)
    return tmp_path / "tree"


async def ask(
    tree: Path, path: bytes | None, *pieces: tuple[int, int], size: int | None = len(DATA)
) -> tuple[Answer, bytes]:
    """What comes of neighbouring pieces (offset, length) of one file."""
    memory = bytearray(1 << 16)
    spans = [Span(D, offset, length, path, size) for offset, length in pieces]
    checks = [
        Check(number, 0, length, digest(DATA[offset : offset + length]))
        for number, (offset, length) in enumerate(pieces)
    ]
    source = open_source(f"{SCHEME}{tree}", SourceSettings(memoryview(memory)))
    assert isinstance(source, LocalTree)
    told: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    source.content.ask(Order(1, spans, checks, Extent(AT, 1 << 15)), told.set_result)
    answer = await told
    await source.close()
    return answer, bytes(memory)


async def test_neighbouring_pieces_of_a_file_come_verified(tree: Path) -> None:
    answer, memory = await ask(tree, b"dir/file", (100, 50), (150, 1000))
    assert answer.complete
    assert answer.positions == [AT, AT + 50]
    assert memory[AT : AT + 1050] == DATA[100:1150]


async def test_other_content_of_the_same_size_is_told_to_be_wrong(tree: Path) -> None:
    (tree / "dir/file").write_bytes(DATA[::-1])
    answer, _ = await ask(tree, b"dir/file", (0, 10))
    assert answer.wrong == [0]


@pytest.mark.parametrize(
    "path", [None, b"none", b"dir", b"link", b"linked/file", b"../outside", b"pipe", b"dir/file/x"]
)
async def test_only_regular_files_below_it_are_there(tree: Path, path: bytes | None) -> None:
    (tree.parent / "outside").write_bytes(DATA)
    (tree / "link").symlink_to("dir/file")
    (tree / "linked").symlink_to("dir")
    os.mkfifo(tree / "pipe")
    answer, _ = await ask(tree, path, (0, 10))
    assert answer.error is None
    assert answer.positions == [-1]


async def test_a_file_of_another_size_is_another_one(tree: Path) -> None:
    for size, there in ((len(DATA) + 1, False), (None, True)):
        answer, _ = await ask(tree, b"dir/file", (0, 10), size=size)
        assert answer.complete == there
    answer, _ = await ask(tree, b"dir/file", (len(DATA) - 5, 10), size=None)
    assert answer.positions == [-1]


async def test_an_order_that_is_no_longer_wanted_is_answered_as_given_up(tree: Path) -> None:
    source = LocalTree(f"{SCHEME}{tree}", memoryview(bytearray(1 << 16)))
    told: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    order = Order(7, [Span(D, 0, 10, b"dir/file", None)], [], Extent(AT, 4096))
    source.content.ask(order, told.set_result)
    source.content.cancel(7)
    assert isinstance((await told).error, NetworkError)
    await source.close()

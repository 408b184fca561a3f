"""Attacks with small requests that are meant to cost a node much."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from tests.node.publishing import write
from tests.node.wire_support import Served, served

from p2psync.chunking import cut_object
from p2psync.content import objects, opened
from p2psync.content.objects import Objects
from p2psync.content.rows import ROOM
from p2psync.sources import wire
from p2psync.sources.wire import Row

NAMES = 3000
MANY = 32


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    """A node that has a directory of many names."""
    write(tmp_path / "tree/large/file", b"content")
    for number in range(NAMES):
        (tmp_path / f"tree/large/link{number:05}").symlink_to("file")
    async with served(tmp_path, tmp_path / "tree") as made:
        yield made


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often listings were gone through as a whole, and pieces of them decoded to be shown."""
    calls: Counter[str] = Counter()

    def counting(name: str) -> Callable[..., object]:
        method: Callable[..., object] = getattr(Objects, name)

        def counted(*args: object) -> object:
            calls[name] += 1
            return method(*args)

        return counted

    monkeypatch.setattr(Objects, "piece", counting("piece"))
    return calls


async def test_many_heads_of_a_large_directory_decode_nothing_of_it(node: Served, read: Counter[str]) -> None:
    async with aiohttp.ClientSession() as session:

        async def ask(path: str) -> int:
            async with session.head(f"{node.url}/{path}") as answer:
                return answer.status

        answers = await asyncio.gather(*(ask("large/") for _ in range(MANY)), ask("large/link02999"))
        assert answers == [200] * (MANY + 1)
        assert read["piece"] == 0
        async with session.get(f"{node.url}/large/") as answer:
            body = await answer.read()
        assert body.count(b"<tr>") == NAMES + 2
        assert read["piece"] > 3, "shown a piece at a time"


def gathered(node: Served, rows: list[Row]) -> list[bytes | None]:
    """The rows of an answer."""
    room = memoryview(bytearray(ROOM))
    found: list[bytes | None] = []
    at = 0
    for size in node.library.gather(rows, room).sizes:
        (length,) = wire.ROW_LENGTH.unpack_from(room, at)
        found.append(None if length == wire.NOT_HERE else bytes(room[at + wire.ROW_LENGTH.size : at + size]))
        at += size
    return found


async def test_a_batch_that_names_one_directory_thousands_of_times_reads_it_once(
    node: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "IN_MEMORY_MAX", 1000)
    listing = node.entry(b"large")
    raw = node.state.meta.get(listing.digest)
    assert raw is not None and 1000 < len(raw) < objects.IN_PLACE_MAX
    reads: Counter[str] = Counter()
    for name in ("read_into", "pieces"):
        method = getattr(node.state.meta, name)

        def counted(*args: object, name: str = name, method: Callable[..., object] = method) -> object:
            reads[name] += 1
            return method(*args)

        monkeypatch.setattr(node.state.meta, name, counted)
    rows = [(listing.digest, number % len(raw), 1) for number in range(wire.BATCH_ROWS_MAX)]
    assert b"".join(filter(None, gathered(node, rows))) == bytes(raw[at] for _, at, _ in rows)
    assert reads == {"read_into": 1, "pieces": 1}


async def test_rows_of_a_byte_that_cost_a_chunk_each_to_check_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was touched is hashed again, a whole chunk for each row."""
    data = os.urandom(1 << 20)
    write(tmp_path / "tree/file", data)
    async with served(tmp_path, tmp_path / "tree") as node:
        os.utime(tmp_path / "tree/file")
        digest = node.entry(b"file").digest
        rows = [(digest, 1, 1) for _ in range(100)]
        assert gathered(node, rows) == [data[1:2]] * 100
        (_, chunk), *_ = cut_object(data)[1]
        monkeypatch.setattr(opened, "READ_MAX", 50 * chunk)
        some = gathered(node, rows)
        assert 0 < some.count(data[1:2]) < 100
        assert gathered(node, rows[:1]) == [data[1:2]], "the next request has a budget of its own"

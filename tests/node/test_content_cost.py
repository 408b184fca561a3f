"""Attacks with small requests that are meant to cost a node much."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from tests.node.publishing import write
from tests.node.wire_support import Served, served

from p2psync.content.objects import Objects

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

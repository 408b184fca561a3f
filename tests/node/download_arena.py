"""Archives and sources for tests of downloads over a swarm in memory, and how long those take."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.node.simulator import Link, Publisher, Tree, content
from tests.node.swarm_sim import Arena, Clock, SimSource, virtual

from p2psync.chunking import cut_object
from p2psync.supply.result import Result

RATE = 6.25e6
"""50 Mbit/s, in bytes."""
Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    return virtual(monkeypatch)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Arena]]:
    made: list[Arena] = []

    def arena(tree: Tree, *sources: SimSource) -> Arena:
        publisher = Publisher()
        publisher.publish(tree)
        for source in sources:
            source.publisher = publisher
        arena = Arena(tmp_path, publisher, sources, chance=random.Random(1))
        arena.know_metadata()
        made.append(arena)
        return arena

    yield arena
    for each in made:
        each.close()


NOBODY = Publisher()


def source(name: str, **faults: Any) -> SimSource:
    return SimSource(name, NOBODY, **faults)


def sources(count: int, **faults: Any) -> list[SimSource]:
    return [source(f"good {number}", **faults) for number in range(count)]


BIG_DATA = content("big", 24 << 20)
BIG: Tree = {b"big": BIG_DATA}
BIG_RECIPE = cut_object(BIG_DATA)[1]
MANY: Tree = {
    b"d%d" % number: {b"f%d" % each: content(f"{number}/{each}", 3000 + each) for each in range(40)}
    for number in range(10)
}
MIXED: Tree = {
    b"big": content("mixed", 3 << 20),
    b"again": content("mixed", 3 << 20),
    b"empty": b"",
    b"dir": {
        b"small": b"small",
        b"same": b"small",
        b"link": Link(b"../big"),
        b"inner": {b"x": b"x" * 70_000},
    },
    b"hollow": {},
}


async def timed(arena: Arena, **options: Any) -> tuple[Result, float]:
    began = Clock.monotonic()
    result = await arena.fetch(**options)
    return result, Clock.monotonic() - began


def share(arena: Arena, name: str) -> float:
    return arena.watcher.by_source.get(name, 0) / sum(arena.watcher.by_source.values())

"""A node that others cannot reach: whom it asks to try, and what it does with the answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.node.announce_bench import Bench, Told, announcing, local_to

from p2psync.daemon import gossip
from p2psync.daemon.announce import RETRY
from p2psync.daemon.gossip import UNREACHED_MIN


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    yield from announcing(tmp_path, monkeypatch)


async def test_who_cannot_be_reached_says_so_to_its_operator_and_to_nobody_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.tree("mirror", bench.publish())
    for number in range(UNREACHED_MIN):
        bench.knows(bench.holder(f"peer {number}", f"203.0.113.{number}"))
    monkeypatch.setattr(Told, "cannot_reach_us", True)
    assert await bench.announcer.round() <= RETRY
    assert bench.dht.heads
    assert bench.dht.holders == []
    assert "--advertise" in bench.warnings[0]
    bench.clock.now += RETRY
    await bench.announcer.round()
    assert bench.dht.holders == []
    assert len(bench.warnings) == 1
    monkeypatch.setattr(Told, "cannot_reach_us", False)
    bench.clock.now += 2 * RETRY
    await bench.announcer.round()
    assert len(bench.dht.holders) == 1


@pytest.mark.parametrize(
    ("local", "holder", "asked"),
    [
        ("192.0.2.7", "203.0.113.1", True),
        ("192.168.1.2", "203.0.113.1", True),  # a NAT between us
        ("192.168.1.2", "192.168.1.3", False),  # beside us, who sees our private address
        ("198.51.100.1", "203.0.113.1", False),  # another of our own addresses
    ],
)
async def test_who_sees_us_at_our_endpoint_is_asked_to_reach_us(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, local: str, holder: str, asked: bool
) -> None:
    monkeypatch.setattr(gossip, "local_address", local_to(local))
    bench.tree("mirror", bench.publish())
    bench.knows(bench.holder("peer", holder))
    await bench.announcer.round()
    assert ("holder" in [what for _, what, _ in Told.log]) is asked


async def test_one_that_cannot_reach_us_is_no_proof(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.tree("mirror", bench.publish())
    bench.knows(bench.holder("peer", "203.0.113.1"))
    monkeypatch.setattr(Told, "cannot_reach_us", True)
    await bench.announcer.round()
    assert len(bench.dht.holders) == 1

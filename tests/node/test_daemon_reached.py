"""A node that others cannot reach: whom it asks to try, and what it does with the answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.node.announce_bench import Bench, Told, announcing, local_to

from p2psync.daemon import gossip, place
from p2psync.daemon.announce import RETRY
from p2psync.daemon.reached import UNREACHED_MIN, Reached
from p2psync.format.url import host_and_port
from p2psync.sources.source import Unreachable
from p2psync_dht import Endpoint, HolderRecord


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


FOUR, SIX = Endpoint("192.0.2.7", 8730), Endpoint("2001:db8::7", 8730)
BOTH = [FOUR, SIX]


def test_an_address_that_nobody_reaches_is_left_out_and_the_other_announced() -> None:
    reached = Reached()
    assert (reached.lost(BOTH), reached.worth_announcing(BOTH)) == ([], BOTH)
    reached.succeeded("203.0.113.1:8730")
    for number in range(UNREACHED_MIN):
        reached.failed(f"[2001:db8:1::{number}]:8730")
    assert (reached.lost(BOTH), reached.worth_announcing(BOTH)) == ([SIX], [FOUR])
    reached.begin()
    assert reached.lost(BOTH) == [SIX]
    reached.succeeded("[2001:db8:1::9]:8730")
    assert (reached.lost(BOTH), reached.worth_announcing(BOTH)) == ([], BOTH)


def test_an_address_that_nobody_has_tried_is_no_reason_to_announce_one_that_nobody_reaches() -> None:
    reached = Reached()
    for number in range(UNREACHED_MIN):
        reached.failed(f"203.0.113.{number}:8730")
    assert (reached.lost(BOTH), reached.worth_announcing(BOTH)) == ([FOUR], [])
    reached.succeeded("[2001:db8:1::9]:8730")
    assert reached.worth_announcing(BOTH) == [SIX]


def test_who_fails_after_another_has_got_through_is_not_believed() -> None:
    reached = Reached()
    reached.begin()
    reached.succeeded("203.0.113.1:8730")
    for number in range(2, 2 + UNREACHED_MIN):
        reached.failed(f"203.0.113.{number}:8730")
    assert reached.lost(BOTH) == []
    reached.begin()
    for number in range(2, 2 + UNREACHED_MIN):
        reached.failed(f"203.0.113.{number}:8730")
    assert reached.lost(BOTH) == [FOUR]


async def test_a_record_without_the_lost_address_is_announced(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nominate(self: Told, archive: bytes, raw: bytes) -> None:
        if ":" in self.address.rpartition(":")[0]:
            raise Unreachable("no way")

    monkeypatch.setattr(Told, "nominate", nominate)
    monkeypatch.setattr(place, "own_address", {socket.AF_INET6: "2001:db8::7"}.get)
    there = {"203.0.113.1": "192.0.2.7", "2001:db8:1::1": "2001:db8::7", "2001:db8:1::2": "2001:db8::7"}

    async def local(name: str) -> str | None:
        return there.get(host_and_port(name)[0])

    monkeypatch.setattr(gossip, "local_address", local)
    bench.tree("mirror", bench.publish())
    for ip in there:
        bench.knows(bench.holder(f"at {ip}", ip))
    await bench.build(("::", 8730)).round()
    (raw,) = bench.dht.holders
    assert [each.ip for each in HolderRecord.decode(raw).endpoints] == ["192.0.2.7"]
    assert "[2001:db8::7]:8730" in bench.warnings[0] and "that address is not announced" in bench.warnings[0]


async def test_a_holder_with_two_addresses_is_told_once(bench: Bench) -> None:
    head = bench.publish()
    bench.tree("publish", head)
    bench.knows(bench.holder("both", "203.0.113.1", "2001:db8:1::1"))
    await bench.announcer.round()
    assert {address for address, what, _ in Told.log if what == "head"} == {"203.0.113.1:8730"}

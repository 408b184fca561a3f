"""A node that others cannot reach: whom it asks to try, and what it does with the answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.node.announce_bench import Bench, Told, announcing, local_to

from p2psync.daemon import gossip, place, reached
from p2psync.daemon.announce import RENEW, RETRY
from p2psync.daemon.reached import REACHED_FOR, UNREACHED_MIN, Reached
from p2psync.format.url import host_and_port
from p2psync.sources.source import Unreachable
from p2psync_dht import Endpoint, HolderRecord


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    yield from announcing(tmp_path, monkeypatch)


async def test_who_cannot_be_reached_says_so_to_its_operator_and_to_nobody_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own test has found the same."""
    bench.closed = True
    bench.tree("mirror", bench.publish())
    for number in range(UNREACHED_MIN):
        bench.knows(bench.holder(f"peer {number}", f"203.{number}.113.1"))
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


async def test_who_gave_us_what_was_right_is_believed_that_it_does_not_reach_us(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two: a mirror's sources, where only UDP is forwarded to it."""
    bench.tree("mirror", bench.publish())
    monkeypatch.setattr(Told, "cannot_reach_us", True)
    peers = [bench.holder(f"peer {number}", f"203.{number}.113.1") for number in range(UNREACHED_MIN)]
    for peer in peers:
        bench.knows(peer)
    bench.state.nodes.delivered([peers[0].node_key], bench.clock.time())
    await bench.announcer.round()
    assert bench.dht.holders == []
    assert "--advertise" in bench.warnings[0]


async def test_one_that_cannot_reach_us_is_no_proof(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.tree("mirror", bench.publish())
    bench.knows(bench.holder("peer", "203.0.113.1"))
    monkeypatch.setattr(Told, "cannot_reach_us", True)
    await bench.announcer.round()
    assert len(bench.dht.holders) == 1


FOUR, SIX = Endpoint("192.0.2.7", 8730), Endpoint("2001:db8::7", 8730)
BOTH = [FOUR, SIX]


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(reached, "time", made)
    return made


def closed_door() -> Reached:
    """Of a node whose own test has found that nobody reaches it."""
    return Reached(lambda: True)


def open_door() -> Reached:
    return Reached(lambda: False)


def test_an_address_that_nobody_reaches_is_left_out_and_the_other_announced(clock: Clock) -> None:
    tried = closed_door()
    assert (tried.lost(BOTH), tried.worth_announcing(BOTH)) == ([], BOTH)
    tried.succeeded("203.0.113.1:8730")
    for number in range(UNREACHED_MIN):
        tried.failed(f"[2001:db{number}:1::1]:8730", stranger=True)
    assert (tried.lost(BOTH), tried.worth_announcing(BOTH)) == ([SIX], [FOUR])
    tried.succeeded("[2001:db8:1::9]:8730")
    assert (tried.lost(BOTH), tried.worth_announcing(BOTH)) == ([], BOTH)


def test_an_address_that_nobody_has_tried_is_no_reason_to_announce_one_that_nobody_reaches(
    clock: Clock,
) -> None:
    tried = closed_door()
    for number in range(UNREACHED_MIN):
        tried.failed(f"203.{number}.113.1:8730", stranger=True)
    assert (tried.lost(BOTH), tried.worth_announcing(BOTH)) == ([FOUR], [])
    tried.succeeded("[2001:db8:1::9]:8730")
    assert tried.worth_announcing(BOTH) == [SIX]


@pytest.mark.parametrize("stranger", [True, False])
def test_one_who_got_through_outweighs_for_a_day_all_who_say_that_they_did_not(
    clock: Clock, stranger: bool
) -> None:
    tried = closed_door()
    tried.succeeded("203.0.113.1:8730")
    for hour in range(int(REACHED_FOR / 3600)):
        clock.now = hour * 3600.0
        for number in range(20):
            tried.failed(f"{11 + number}.0.0.1:8730", stranger=stranger)
        assert tried.lost(BOTH) == []
    clock.now = REACHED_FOR
    assert tried.lost(BOTH) == [FOUR]


def test_strangers_shut_no_door_that_the_nodes_own_test_finds_open(clock: Clock) -> None:
    tried = open_door()
    for number in range(1, 200):
        tried.failed(f"{number}.0.0.1:8730", stranger=True)
    assert tried.lost(BOTH) == []
    tried.failed("203.0.113.1:8730", stranger=False)
    assert tried.lost(BOTH) == [FOUR]


def test_one_who_is_no_stranger_is_not_enough(clock: Clock) -> None:
    for tried in (open_door(), closed_door()):
        tried.failed("203.0.113.1:8730", stranger=False)
        assert tried.lost(BOTH) == []


@pytest.mark.parametrize(
    "pattern", ["203.0.113.{n}:8730", "203.0.{n}.1:8730", "[2001:db8:{n:x}::1]:8730", "127.0.0.1:{n}"]
)
def test_two_liars_of_one_network_have_one_vote(clock: Clock, pattern: str) -> None:
    tried = closed_door()
    for number in range(1, 200):
        tried.failed(pattern.format(n=number), stranger=False)
    assert tried.lost([*BOTH, Endpoint("127.0.0.1", 1)]) == []


async def test_liars_who_refuse_late_silence_neither_a_mirror_nor_the_origins_renewals(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers from everywhere, in every round, after they have let the others wait."""

    async def nominate(self: Told, archive: bytes, raw: bytes) -> None:
        await asyncio.sleep(0)
        raise Unreachable("no way")

    monkeypatch.setattr(Told, "nominate", nominate)
    bench.tree("publish", bench.publish())
    for number in range(1, 60):
        bench.knows(bench.holder(f"liar {number}", f"{number}.0.0.1"))
    for _ in range(3):
        await bench.announcer.round()
        bench.clock.now += RENEW
    assert len(bench.dht.holders) == 3
    assert bench.warnings == []


async def test_a_record_without_the_lost_address_is_announced(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nominate(self: Told, archive: bytes, raw: bytes) -> None:
        if ":" in self.address.rpartition(":")[0]:
            raise Unreachable("no way")

    monkeypatch.setattr(Told, "nominate", nominate)
    monkeypatch.setattr(place, "own_address", {socket.AF_INET6: "2001:db8::7"}.get)
    there = {"203.0.113.1": "192.0.2.7", "2001:db9::1": "2001:db8::7", "2001:dba::2": "2001:db8::7"}
    bench.closed = True

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


async def test_a_mirror_that_has_nothing_yet_waits_until_somebody_reaches_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers put off what would be of use to nobody, and not what is there as a whole."""
    monkeypatch.setattr(Told, "cannot_reach_us", True)
    tree = bench.tree("mirror")
    for number in range(UNREACHED_MIN):
        bench.knows(bench.holder(f"peer {number}", f"203.{number}.113.1"))
    assert await bench.announcer.round() <= RETRY
    assert bench.dht.holders == []
    head = bench.publish()
    tree.epoch, tree.seq, tree.snapshot = head.epoch, head.seq, head.snapshot
    bench.state.trees.update(tree)
    await bench.announcer.round()
    assert len(bench.dht.holders) == 1

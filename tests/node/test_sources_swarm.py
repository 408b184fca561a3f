"""The policy on sources: who is asked, who is left alone for how long, who is banned."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from tests.node.simulator import Publisher
from tests.node.swarm_sim import SimSource

from p2psync.events import Teller, warnings_to
from p2psync.sources.swarm import (
    BACKOFF_MAX,
    FAILURES_MAX,
    LACK_SECONDS,
    LACKING_MAX,
    REQUEST_FIRST,
    REQUEST_MAX,
    REQUEST_MIN,
    SOURCES_MAX,
    STRIKES_MAX,
    Member,
    Swarm,
)

PUBLISHER = Publisher()


class Bench:
    """A swarm with a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.warnings: list[str] = []
        self.swarm = Swarm(lambda: self.now, Teller(warnings_to(self.warnings.append)).warn)

    def add(
        self,
        name: str,
        *,
        whole: bool = True,
        claims: tuple[int, int] | None = None,
        web: bool = False,
        **more: Any,
    ) -> Member:
        member = Member(SimSource(name, PUBLISHER, web=web), whole=whole, claims=claims, **more)
        self.swarm.add(member)
        return member


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_wrong_bytes_for_three_chunks_ban_a_source(bench: Bench) -> None:
    member = bench.add("liar")
    for chunk in range(STRIKES_MAX):
        assert bench.swarm.alive() == [member]
        bench.swarm.lied(member, b"object", chunk)
    assert member.banned
    assert bench.swarm.alive() == []
    assert bench.swarm.hopeless()
    assert sum("banned" in text for text in bench.warnings) == 1


def test_the_same_chunk_again_is_the_same_strike(bench: Bench) -> None:
    member = bench.add("broken disk block")
    for _ in range(10):
        bench.swarm.lied(member, b"object", 7)
    assert not member.banned


def test_who_lied_about_an_object_is_never_asked_for_it_again(bench: Bench) -> None:
    member = bench.add("liar", whole=False)
    bench.swarm.lied(member, b"object", 0)
    bench.now += 10**9
    assert bench.swarm.lacks(member, b"object")
    bench.swarm.forgive_lacking()
    assert bench.swarm.lacks(member, b"object")


def test_another_version_on_a_web_mirror_is_no_lie(bench: Bench) -> None:
    member = bench.add("http://mirror/", web=True)
    for number in range(10 * STRIKES_MAX):
        bench.swarm.lied(member, b"object %d" % number, 0)
    assert not member.banned
    assert bench.swarm.lacks(member, b"object 3")
    assert len(bench.warnings) == 1


def test_a_web_server_that_sends_nonsense_is_banned(bench: Bench) -> None:
    member = bench.add("http://mirror/", web=True)
    for number in range(STRIKES_MAX):
        bench.swarm.lied(member, b"object %d" % number, -1)
    assert member.banned


def test_a_failing_source_is_left_alone_for_longer_each_time(bench: Bench) -> None:
    member = bench.add("flaky", given=True)
    pauses = []
    for _ in range(FAILURES_MAX - 1):
        bench.swarm.failed(member, "reset")
        pauses.append(member.retry_at - bench.now)
        assert bench.swarm.ready() == []
        assert bench.swarm.alive() == [member]
        bench.now = member.retry_at
        assert bench.swarm.ready() == [member]
    assert all(later > sooner for sooner, later in itertools.pairwise(pauses))
    assert max(pauses) <= BACKOFF_MAX * 1.25
    bench.swarm.failed(member, "reset")
    assert member.dead
    assert bench.swarm.alive() == []
    assert any("flaky" in text and "reset" in text for text in bench.warnings)


def test_success_ends_the_back_off(bench: Bench) -> None:
    member = bench.add("flaky")
    for _ in range(10 * FAILURES_MAX):
        bench.swarm.failed(member, "reset")
        bench.swarm.succeeded(member, 1, 1.0)
    assert not member.dead


def test_a_peer_that_left_is_no_news(bench: Bench) -> None:
    member = bench.add("peer")
    for _ in range(FAILURES_MAX):
        bench.swarm.failed(member, "reset")
        bench.now = member.retry_at
    assert member.dead
    assert bench.warnings == []


def test_a_partial_holder_may_get_what_it_lacked(bench: Bench) -> None:
    member = bench.add("peer", whole=False)
    bench.swarm.missed(member, b"object")
    assert bench.swarm.lacks(member, b"object")
    bench.now += LACK_SECONDS + 0.1
    assert not bench.swarm.lacks(member, b"object")
    assert bench.warnings == []


@pytest.mark.parametrize(
    ("claims", "forever"), [((0, 9), True), ((0, 10), True), ((0, 8), False), (None, False)]
)
def test_who_claims_the_very_snapshot_is_not_asked_twice(
    bench: Bench, claims: tuple[int, int] | None, forever: bool
) -> None:
    bench.swarm.wanted = (0, 9)
    member = bench.add("mirror", claims=claims)
    bench.swarm.missed(member, b"object")
    bench.now += 10**6
    assert bench.swarm.lacks(member, b"object") == forever
    assert bool(bench.warnings) == forever
    bench.swarm.forgive_lacking()
    assert not bench.swarm.lacks(member, b"object")


def test_what_a_source_lacks_is_remembered_within_bounds(bench: Bench) -> None:
    member = bench.add("empty", whole=False)
    for number in range(3 * LACKING_MAX):
        bench.swarm.missed(member, number.to_bytes(4, "big"))
    assert len(member.lacking) <= LACKING_MAX
    assert bench.swarm.lacks(member, (3 * LACKING_MAX - 1).to_bytes(4, "big"))


def test_requests_fit_the_rate(bench: Bench) -> None:
    fast, slow = bench.add("fast"), bench.add("slow")
    assert fast.request_size == REQUEST_FIRST
    for _ in range(30):
        bench.swarm.succeeded(fast, 10**9, 1.0)
        bench.swarm.succeeded(slow, 100_000, 10.0)
    assert fast.request_size == REQUEST_MAX
    assert slow.request_size == REQUEST_MIN
    assert bench.swarm.alive() == [fast, slow]


def test_an_answer_without_bytes_says_nothing_of_the_rate(bench: Bench) -> None:
    member = bench.add("peer")
    bench.swarm.succeeded(member, 0, 1.0)
    bench.swarm.succeeded(member, 0, 0.0)
    assert member.rate == 0.0


def test_a_node_is_one_source_under_all_its_addresses(bench: Bench) -> None:
    member = bench.add("192.0.2.1:8730")
    member.node_key = b"key"
    assert bench.swarm.knows("192.0.2.1:8730", None)
    assert bench.swarm.knows("[2001:db8::1]:8730", b"key")
    assert not bench.swarm.knows("[2001:db8::1]:8730", b"other")
    assert not bench.swarm.knows("[2001:db8::1]:8730", None)


def test_room_is_made_by_those_that_are_gone(bench: Bench) -> None:
    members = [bench.add(f"peer {number}") for number in range(SOURCES_MAX)]
    version = bench.swarm.version
    assert not bench.swarm.has_room()
    members[0].dead = True
    assert bench.swarm.has_room()
    bench.add("late")
    assert bench.swarm.version == version + 1
    assert not bench.swarm.has_room()


def test_who_has_cut_a_long_answer_is_asked_for_shorter_ones_for_good(bench: Bench) -> None:
    member = bench.add("behind a proxy")
    bench.swarm.succeeded(member, 100 << 20, 1.0)
    assert member.request_size == REQUEST_MAX
    bench.swarm.cut_short(member, REQUEST_MAX)
    bench.swarm.cut_short(member, REQUEST_MAX)
    assert member.request_size == REQUEST_MAX // 4
    bench.swarm.succeeded(member, 100 << 20, 1.0)
    assert member.request_size == REQUEST_MAX // 4
    bench.swarm.cut_short(member, 2 * REQUEST_MIN)
    bench.swarm.cut_short(member, 1)
    assert member.request_size == REQUEST_MIN

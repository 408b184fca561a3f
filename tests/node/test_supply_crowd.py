"""Those who fetch the same at the same time: what each asks a source for that has all, and what it leaves
to the others.
"""

from __future__ import annotations

from collections import Counter

from tests.node.simulator import identity
from tests.node.test_supply_queue import LIMIT, Bench, job

from p2psync.sources.swarm import Member
from p2psync.supply.crowd import PATIENCE, crowd_of, is_ours
from p2psync.supply.jobs import Job, Part

WANTED = (0, 2)
KEYS = [identity(f"node {number}").public_key for number in range(10)]


class Crowd(Bench):
    """A queue of one node of a crowd: source "a" has all, the others are mirrors of the snapshot before."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.swarm.wanted = WANTED
        self.swarm.own_key = KEYS[0]
        self.origin, *self.mirrors = self.members
        for member, key in zip(self.mirrors, KEYS[1:], strict=False):
            member.node_key, member.claims = key, (0, 1)

    def wants(self, number: int) -> list[Job]:
        jobs = [job(f"file {each}", 50_000) for each in range(number)]
        for each in jobs:
            self.queue.add(each)
        return jobs

    def has(self, member: Member, one: Job, jobs: list[Job]) -> None:
        """Of all that is wanted, a mirror has said to have one; and it gives what it has."""
        for each in jobs:
            self.swarm.without(member, each.digest)
        self.swarm.claimed(member, one.digest)
        member.held = {one.digest: b"\xff" * len(one.have)}
        member.delivered, member.rate = 1, 1e6


def test_a_mirror_of_the_snapshot_before_is_no_source_that_has_all() -> None:
    bench = Crowd()
    assert crowd_of(bench.swarm) == KEYS[1:3]
    bench.mirrors[0].claims = WANTED
    assert crowd_of(bench.swarm) == KEYS[2:3]


def test_a_crowd_shares_everything_out_so_that_each_part_is_one_nodes() -> None:
    parts = [Part(job(f"small {number}", 1000), 0, 1) for number in range(500)]
    large = job("large", 8 << 20)
    parts += [Part(large, first, first + 1) for first in range(0, large.chunks, 8)]
    shares: Counter[bytes] = Counter()
    for part in parts:
        owners = [own for own in KEYS if is_ours(part, own, [key for key in KEYS if key != own])]
        assert len(owners) == 1
        shares[owners[0]] += 1
    assert min(shares[key] for key in KEYS) > len(parts) / len(KEYS) / 3


def test_two_nodes_of_a_crowd_ask_for_different_things_first() -> None:
    asked: list[set[bytes]] = []
    for own, other in ((KEYS[0], KEYS[1]), (KEYS[1], KEYS[0])):
        bench = Crowd(("a", "b"))
        bench.swarm.own_key, bench.mirrors[0].node_key = own, other
        bench.wants(40)
        asked.append({part.job.digest for part in bench.take(bench.origin).parts})
    assert asked[0].isdisjoint(asked[1])


def test_while_the_others_bring_it_who_has_all_is_asked_for_ones_own_share_alone() -> None:
    bench = Crowd(("a", "b"))
    jobs = bench.wants(40)
    ours = {each.digest for each in jobs if is_ours(Part(each, 0, each.chunks), KEYS[0], KEYS[1:2])}
    bench.has(bench.mirrors[0], jobs[0], jobs)
    bench.take(bench.mirrors[0])  # It is at work.
    asked: set[bytes] = set()
    while (request := bench.queue.take(bench.origin, LIMIT)) is not None:
        asked |= {part.job.digest for part in request.parts}
    assert asked == ours - {jobs[0].digest}


def test_a_mirror_leaves_the_others_a_moment_to_get_what_is_theirs_and_who_fetches_for_people_does_not() -> (
    None
):
    for patient in (True, False):
        bench = Crowd(("a", "b"))
        bench.swarm.patient = patient
        jobs = bench.wants(40)
        ours = {each.digest for each in jobs if is_ours(Part(each, 0, each.chunks), KEYS[0], KEYS[1:2])}
        asked: set[bytes] = set()
        while (request := bench.queue.take(bench.origin, LIMIT)) is not None:
            asked |= {part.job.digest for part in request.parts}
        assert asked == (ours if patient else {each.digest for each in jobs})
        bench.now += PATIENCE
        while (request := bench.queue.take(bench.origin, LIMIT)) is not None:
            asked |= {part.job.digest for part in request.parts}
        assert asked == {each.digest for each in jobs}


def test_what_the_others_do_not_bring_is_asked_of_who_has_all() -> None:
    """They may be dead, slow, or not fetch at all."""
    bench = Crowd(("a", "b"))
    jobs = bench.wants(40)
    bench.has(bench.mirrors[0], jobs[0], jobs)
    given = bench.take(bench.mirrors[0])
    while (request := bench.queue.take(bench.origin, LIMIT)) is not None:
        bench.deliver(request)
    bench.deliver(given)
    bench.now += 1
    while (request := bench.queue.take(bench.origin, LIMIT)) is not None:
        bench.deliver(request)
    assert bench.queue.idle and not bench.queue.parked


def test_a_slow_crowd_is_not_waited_for() -> None:
    bench = Crowd(("a", "b"))
    jobs = bench.wants(40)
    bench.has(bench.mirrors[0], jobs[0], jobs)
    bench.mirrors[0].rate, bench.origin.rate, bench.swarm.line = 1e4, 1e7, 1e7
    bench.take(bench.mirrors[0])
    left = {each.digest for each in jobs[1:]}
    while (request := bench.queue.take(bench.origin, LIMIT)) is not None:
        left -= {part.job.digest for part in request.parts}
    assert not left

"""The queue of a fetch: whatever the sources do, in whatever order, each chunk is delivered or parked, and
the end is reached.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.node.simulator import MTIME, Publisher, content
from tests.node.swarm_sim import SimSource

from p2psync.chunking import cut_object
from p2psync.format.listing import file_entry
from p2psync.format.recipe import Recipe
from p2psync.sources.swarm import REQUEST_MIN, Member, Swarm
from p2psync.supply.jobs import Job, Part, Target
from p2psync.supply.queue import (
    COPIES_MAX,
    ENDGAME_AGE,
    LATE_AFTER,
    LATE_MAX,
    LATE_TIMES,
    PARTS_MAX,
    RANGE_SIZE,
    Queue,
    Request,
)

PUBLISHER = Publisher()
LIMIT = 4 << 20


def job(name: str, size: int) -> Job:
    ref, recipe = cut_object(content(name, size))
    entry = file_entry(name.encode(), 0o644, MTIME, ref)
    return Job(ref, Recipe.single(ref) if ref.is_single else recipe, [Target(b"", entry)])


@dataclass
class Bench:
    """A queue, its swarm, and a clock set by hand."""

    names: tuple[str, ...] = ("a", "b", "c")
    whole: bool = True
    now: float = 100.0
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.swarm = Swarm(lambda: self.now, self.warnings.append)
        self.queue = Queue(self.swarm, lambda: self.now)
        self.members = [Member(SimSource(name, PUBLISHER), whole=self.whole) for name in self.names]
        for member in self.members:
            self.swarm.add(member)

    def take(self, member: Member, limit: int = LIMIT) -> Request:
        request = self.queue.take(member, limit)
        assert request is not None
        return request

    def deliver(self, request: Request) -> None:
        for part in request.parts:
            for index in range(part.first, part.last):
                part.job.mark(index)
        self.queue.done(request)


def test_small_objects_go_together_and_large_runs_alone() -> None:
    bench = Bench()
    small = [job(f"small {number}", 5_000) for number in range(10)]
    large = job("large", 2 * RANGE_SIZE)
    for each in [*small[:5], large, *small[5:]]:
        bench.queue.add(each)
    first = bench.take(bench.members[0])
    assert [part.job for part in first.parts] == small[:5]
    second = bench.take(bench.members[0])
    assert {part.job for part in second.parts} == {large}
    assert len(second.parts) == 1


def test_a_request_has_the_size_that_suits_its_source() -> None:
    bench = Bench()
    bench.queue.add(job("large", 3_000_000))
    fast, slow, _ = bench.members
    fast.rate, slow.rate = 10e6, 1.0
    assert bench.take(slow).size <= REQUEST_MIN + (64 << 10)
    assert bench.take(fast, 100_000).size <= 100_000
    assert bench.take(fast).size > 2_000_000


def test_no_request_names_too_many_objects() -> None:
    bench = Bench()
    bench.members[0].rate = 10e6
    for number in range(PARTS_MAX + 50):
        bench.queue.add(job(f"tiny {number}", 20))
    assert len(bench.take(bench.members[0]).parts) == PARTS_MAX
    assert len(bench.take(bench.members[0]).parts) == 50


def test_what_a_source_lacks_is_left_to_the_others() -> None:
    bench = Bench()
    one, two = job("one", 100), job("two", 100)
    bench.queue.add(one)
    bench.queue.add(two)
    a, b, _ = bench.members
    bench.swarm.missed(a, one.ref.digest)
    assert [part.job for part in bench.take(a).parts] == [two]
    assert [part.job for part in bench.take(b).parts] == [one]


def test_what_nobody_has_is_parked_until_somebody_may_have_it() -> None:
    bench = Bench(whole=False)
    one = job("one", 100)
    bench.queue.add(one)
    for member in bench.members:
        request = bench.take(member)
        bench.swarm.missed(member, one.ref.digest)
        bench.queue.done(request)
    assert bench.queue.idle
    assert [part.job for part in bench.queue.parked] == [one]
    assert bench.queue.take(bench.members[0], LIMIT) is None
    bench.queue.unpark()
    assert bench.queue.parked
    bench.now += 100
    bench.queue.unpark()
    assert not bench.queue.parked
    assert bench.take(bench.members[1]).parts[0].job is one


def test_with_all_sources_gone_everything_is_parked_and_a_new_one_takes_it() -> None:
    bench = Bench()
    bench.queue.add(job("one", 100))
    request = bench.take(bench.members[0])
    for member in bench.members:
        member.dead = True
    bench.queue.done(request)
    assert bench.queue.idle
    assert bench.queue.parked
    fresh = Member(SimSource("fresh", PUBLISHER), whole=True)
    bench.swarm.add(fresh)
    bench.queue.unpark()
    assert bench.take(fresh).size == 100


def test_what_was_given_up_is_not_asked_for_again() -> None:
    bench = Bench()
    one = job("one", 100)
    bench.queue.add(one)
    request = bench.take(bench.members[0])
    one.targets.clear()
    bench.queue.done(request)
    assert bench.queue.idle
    assert not bench.queue.parked


class TestEndgame:
    """When nothing is left to ask, old requests are asked of others too."""

    def start(self) -> tuple[Bench, Request]:
        bench = Bench()
        bench.queue.add(job("one", 200_000))
        request = bench.take(bench.members[0])
        bench.queue.closed = True
        return bench, request

    def test_not_while_more_may_come(self) -> None:
        bench, _ = self.start()
        bench.queue.closed = False
        bench.now += 10 * ENDGAME_AGE
        assert bench.queue.take(bench.members[1], LIMIT) is None

    def test_not_for_a_young_request(self) -> None:
        bench, _ = self.start()
        bench.now += ENDGAME_AGE / 2
        assert bench.queue.take(bench.members[1], LIMIT) is None

    def test_not_of_the_same_source(self) -> None:
        bench, _ = self.start()
        bench.now += 2 * ENDGAME_AGE
        assert bench.queue.take(bench.members[0], LIMIT) is None

    def test_the_first_to_bring_it_wins(self) -> None:
        bench, original = self.start()
        bench.now += 2 * ENDGAME_AGE
        copy = bench.take(bench.members[1])
        assert copy.size == original.size
        assert bench.queue.take(bench.members[2], LIMIT) is None  # two are enough
        bench.deliver(copy)
        bench.queue.done(original)
        assert bench.queue.idle

    def test_a_copy_that_fails_can_be_replaced(self) -> None:
        bench, original = self.start()
        bench.now += 2 * ENDGAME_AGE
        bench.queue.done(bench.take(bench.members[1]))
        assert not bench.queue.idle
        again = bench.take(bench.members[2])
        assert again.duplicate_of is original

    def test_a_copy_whose_original_failed_can_be_doubled_in_turn(self) -> None:
        bench, original = self.start()
        bench.now += 2 * ENDGAME_AGE
        copy = bench.take(bench.members[1])
        bench.queue.done(original)
        assert bench.queue.take(bench.members[2], LIMIT) is None
        bench.now += 2 * ENDGAME_AGE
        assert bench.take(bench.members[2]).duplicate_of is copy

    def test_a_request_larger_than_a_copy_may_be_is_doubled_in_pieces(self) -> None:
        bench, original = self.start()
        bench.now += 2 * ENDGAME_AGE
        limit = 70_000
        brought = 0
        while (copy := bench.queue.take(bench.members[1], limit)) is not None:
            assert copy.size <= limit or len(copy.parts) == 1
            brought += copy.size
            bench.deliver(copy)
        assert brought == original.size


class TestLate:
    """While more may come: a request that is late is asked of a source that has delivered."""

    def start(self) -> tuple[Bench, Request]:
        bench = Bench(("late", "quick", "new"))
        bench.queue.add(job("one", 200_000))
        request = bench.take(bench.members[0])
        bench.swarm.succeeded(bench.members[1], 1_000_000, 1.0)
        return bench, request

    def test_the_first_to_bring_it_wins_and_the_other_is_over(self) -> None:
        bench, original = self.start()
        bench.now += LATE_AFTER
        copy = bench.take(bench.members[1])
        assert copy.size == original.size
        assert bench.queue.overtaken(copy) == []
        for part in copy.parts:
            for index in range(part.first, part.last):
                part.job.mark(index)
        assert bench.queue.overtaken(copy) == [original]
        bench.queue.done(copy)
        bench.queue.done(original)
        assert bench.queue.idle

    def test_not_before_it_is_late(self) -> None:
        bench, _ = self.start()
        bench.now += LATE_AFTER / 2
        assert bench.queue.take(bench.members[1], LIMIT) is None

    def test_not_of_one_that_has_delivered_nothing(self) -> None:
        bench, _ = self.start()
        bench.now += LATE_AFTER
        assert bench.queue.take(bench.members[2], LIMIT) is None

    def test_not_while_it_comes_about_as_quickly_as_it_would_elsewhere(self) -> None:
        bench, _ = self.start()
        bench.members[0].pace = 1_000_000 / LATE_TIMES + 1
        bench.now += 10 * LATE_AFTER
        assert bench.queue.take(bench.members[1], LIMIT) is None

    def test_not_while_its_source_takes_no_longer_than_usual(self) -> None:
        bench, _ = self.start()
        bench.members[0].rate = 100_000.0
        bench.now += LATE_AFTER + 0.1
        assert bench.queue.take(bench.members[1], LIMIT) is None
        bench.now += LATE_MAX
        assert bench.queue.take(bench.members[1], LIMIT) is not None

    def test_who_is_late_is_reliable_no_more_until_it_is_in_time(self) -> None:
        bench, _ = self.start()
        late = bench.members[0]
        late.given = True
        bench.now += LATE_AFTER
        bench.take(bench.members[1])
        assert not late.is_reliable
        bench.swarm.succeeded(late, 1000, 3.0, late=True)
        assert not late.is_reliable
        bench.swarm.succeeded(late, 1000, 0.1)
        assert late.is_reliable

    def test_those_who_give_nothing_do_not_keep_those_from_it_who_would(self) -> None:
        bench, _ = self.start()
        bench.queue.closed = True
        bench.now += 2 * ENDGAME_AGE
        fake = bench.take(bench.members[2])
        assert fake.member.name == "new"
        assert bench.take(bench.members[1]).member.name == "quick"


def test_a_large_object_is_not_gone_through_for_each_request() -> None:
    """The work for one request follows its size, not that of the object."""
    looked: Counter[str] = Counter()

    class Counted(Job):
        def has(self, index: int) -> bool:
            looked["has"] += 1
            return super().has(index)

    ref, recipe = cut_object(content("huge", 24 << 20))
    bench = Bench()
    made = Counted(ref, recipe, [Target(b"", file_entry(b"huge", 0o644, MTIME, ref))])
    bench.queue.add(made)
    looked.clear()
    while (request := bench.queue.take(bench.members[0], LIMIT)) is not None:
        bench.deliver(request)
    assert looked["has"] < 10 * len(recipe)


@settings(max_examples=120)
@given(st.data())
def test_any_order_of_events_delivers_or_parks_every_chunk(data: st.DataObject) -> None:
    bench = Bench(whole=data.draw(st.booleans()))
    sizes = data.draw(st.lists(st.sampled_from([1, 300, 60_000, 300_000, 900_000]), min_size=1, max_size=6))
    jobs = [job(f"{number} {size}", size) for number, size in enumerate(sizes)]
    to_add = list(jobs)
    under_way: list[Request] = []
    delivered: Counter[tuple[bytes, int]] = Counter()
    for _ in range(data.draw(st.integers(0, 60))):
        event = data.draw(
            st.sampled_from(["add", "take", "take", "done", "part", "miss", "lie", "fail", "wait"])
        )
        if event == "add" and to_add:
            bench.queue.add(to_add.pop())
            bench.queue.closed = not to_add
        elif event == "take":
            member = data.draw(st.sampled_from(bench.members))
            if not (member.banned or member.dead):
                request = bench.queue.take(member, data.draw(st.sampled_from([1, 100_000, LIMIT])))
                if request is not None:
                    assert request.parts
                    under_way.append(request)
        elif event == "wait":
            bench.now += data.draw(st.sampled_from([0.5, 2.0, 10.0]))
            bench.queue.unpark()
        elif under_way:
            request = under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))
            end(bench, request, event, delivered, data)
        check(bench, jobs, to_add, under_way)
    for each in to_add:
        bench.queue.add(each)
    bench.queue.closed = True
    for request in under_way:
        bench.queue.done(request)
    finish(bench, jobs, delivered)


def end(
    bench: Bench, request: Request, event: str, delivered: Counter[tuple[bytes, int]], data: st.DataObject
) -> None:
    """One request ends in the way that ``event`` says."""
    for part in request.parts:
        if event == "miss":
            bench.swarm.missed(request.member, part.job.digest)
        elif event == "lie":
            bench.swarm.lied(request.member, part.job.digest, part.first)
        elif event in ("done", "part"):
            for index in range(part.first, part.last):
                if not part.job.has(index) and (event == "done" or data.draw(st.booleans())):
                    delivered[part.job.digest, index] += 1
                    part.job.mark(index)
    if event == "fail":
        bench.swarm.failed(request.member, "reset")
    bench.queue.done(request)


def check(bench: Bench, jobs: list[Job], to_add: list[Job], under_way: list[Request]) -> None:
    """No chunk that is missing is forgotten, and none is asked of too many."""
    asked: Counter[tuple[bytes, int]] = Counter()
    for request in under_way:
        for part in request.parts:
            asked.update((part.job.digest, index) for index in range(part.first, part.last))
    assert all(count <= COPIES_MAX for count in asked.values())
    waiting: Counter[tuple[bytes, int]] = Counter()
    for part in (*bench.queue._waiting, *bench.queue.parked):
        waiting.update((part.job.digest, i) for i in range(part.first, part.last) if not part.job.has(i))
    assert all(count == 1 for count in waiting.values())
    for each in jobs:
        if each not in to_add:
            for index in each.missing():
                key = each.ref.digest, index
                assert key in asked or key in waiting


def finish(bench: Bench, jobs: list[Job], delivered: Counter[tuple[bytes, int]]) -> None:
    """A source that has all and never fails brings the rest; everything came once."""
    saviour = Member(SimSource("saviour", PUBLISHER), whole=True)
    bench.swarm.add(saviour)
    bench.queue.unpark()
    for _ in range(10_000):
        request = bench.queue.take(saviour, LIMIT)
        if request is None:
            break
        for part in request.parts:
            for index in range(part.first, part.last):
                delivered[part.job.digest, index] += not part.job.has(index)
                part.job.mark(index)
        bench.queue.done(request)
    assert bench.queue.idle
    assert not bench.queue.parked
    assert all(not each.left for each in jobs)
    assert set(delivered.values()) <= {1}
    assert sum(delivered.values()) == sum(len(each.recipe) for each in jobs)


def test_parts_under_way_do_not_count_as_idle() -> None:
    bench = Bench()
    bench.queue.add(job("one", 10))
    request = bench.take(bench.members[0])
    assert not bench.queue.idle
    assert isinstance(request.parts[0], Part)
    bench.deliver(request)
    assert bench.queue.idle

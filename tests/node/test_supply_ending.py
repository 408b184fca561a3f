"""The end of a fetch: sources of very different speed are done at the same time."""

from __future__ import annotations

import heapq
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.node.test_supply_queue import LIMIT, Bench, job

from p2psync.supply.download import DEPTH
from p2psync.supply.ending import WAITING_MAX, share
from p2psync.supply.jobs import Job
from p2psync.supply.queue import Request

SIZE = 24 << 20
LARGE = job("large", SIZE)


def seconds(rates: list[float]) -> float:
    """What a fetch of one large file takes of sources of these rates, in bytes a second, each answering its
    requests one after the other.
    """
    bench = Bench(names=tuple(f"source{number}" for number in range(len(rates))))
    for member, rate in zip(bench.members, rates, strict=True):
        member.rate = rate
    large = Job(LARGE.recipe.ref(), LARGE.recipe, LARGE.targets)
    bench.queue.add(large)
    bench.queue.closed = True
    bench.now = 0.0
    answers: list[tuple[float, int, Request]] = []
    free_at = [0.0] * len(rates)
    depth = [0] * len(rates)
    number = count()
    while large.left:
        for index, member in enumerate(bench.members):
            while depth[index] < DEPTH and (request := bench.queue.take(member, LIMIT)) is not None:
                free_at[index] = max(free_at[index], bench.now) + request.size / rates[index]
                heapq.heappush(answers, (free_at[index], next(number), request))
                depth[index] += 1
        bench.now, _, request = heapq.heappop(answers)
        depth[bench.members.index(request.member)] -= 1
        bench.deliver(request)
    return bench.now


@pytest.mark.parametrize("slow", [0.6e6, 0.2e6, 3e6])
def test_nobody_waits_for_the_last_request_of_a_slow_source(slow: float) -> None:
    rates = [6e6, 6e6, 6e6, slow]
    assert seconds(rates) <= SIZE / sum(rates) + 0.35, "of a chunk or two of the slow one"


@given(st.lists(st.floats(3e5, 2e7), min_size=1, max_size=6))
@settings(max_examples=25)
def test_whatever_the_rates_all_of_it_comes_and_nearly_as_fast_as_it_can(rates: list[float]) -> None:
    longest = 2 * max(LARGE.recipe.lengths()) / min(rates)
    assert seconds(rates) <= SIZE / sum(rates) + longest + 0.1


def test_a_source_with_nothing_to_do_is_always_asked() -> None:
    bench = Bench()
    fast, slow, _ = bench.members
    fast.rate, slow.rate = 1e9, 1.0
    assert share(slow, 1000, left=500, own=0, alive=bench.members) == 1
    assert share(slow, 1000, left=500, own=100, alive=bench.members) == 0
    assert share(fast, 1000, left=500, own=100, alive=bench.members) == 399


def test_without_a_measured_rate_nothing_is_held_back() -> None:
    bench = Bench()
    assert share(bench.members[0], 1000, left=10, own=1000, alive=bench.members) == 1000


def test_far_from_the_end_requests_are_as_large_as_ever() -> None:
    bench = Bench()
    for number in range(2 * WAITING_MAX):
        bench.queue.add(job(f"small {number}", 1000))
    bench.queue.closed = True
    slow = bench.members[1]
    bench.members[0].rate, slow.rate = 1e9, 1.0
    bench.take(slow)
    assert bench.queue.take(slow, LIMIT) is not None

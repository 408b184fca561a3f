"""Small files that travel together: what a bundle makes of them is what each by itself would have become, and
where anything is different it goes on file by file.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.node.simulator import MTIME, Publisher, content
from tests.node.swarm_sim import SimSource

from p2psync.chunking import cut_object
from p2psync.format.limits import SINGLE_CHUNK_MAX
from p2psync.format.listing import Entry, file_entry
from p2psync.sources.orders import Answer, Check
from p2psync.sources.source import Span
from p2psync.sources.swarm import Member, Swarm
from p2psync.state.trees import FileRow
from p2psync.supply.bundles import Bundle, fits
from p2psync.supply.jobs import Job
from p2psync.supply.queue import ENDGAME_AGE, PARTS_MAX, Queue, Request
from p2psync.tree.orders import File

PUBLISHER = Publisher()
LIMIT = 4 << 20


def entry(name: str, size: int) -> Entry:
    return file_entry(name.encode(), 0o640, MTIME, cut_object(content(name, size))[0])


def bundle(sizes: list[int], directory: bytes = b"d") -> Bundle:
    entries = [entry(f"{number} of {size}", size) for number, size in enumerate(sizes)]
    return Bundle(directory, entries, [number % 3 == 0 for number in range(len(entries))])


sizes = st.lists(st.integers(1, 3000), min_size=1, max_size=30)


class Bench:
    def __init__(self) -> None:
        self.now = 100.0
        self.swarm = Swarm(lambda: self.now, lambda _: None)
        self.begun: list[Job] = []
        self.queue = Queue(self.swarm, lambda: self.now, self.jobs_of)
        self.a, self.b = (Member(SimSource(name, PUBLISHER), whole=True) for name in "ab")
        for member in (self.a, self.b):
            self.swarm.add(member)

    def jobs_of(self, made: Bundle) -> list[Job]:
        jobs = made.jobs()
        self.begun += jobs
        return jobs

    def take(self, member: Member, limit: int = LIMIT) -> Request:
        request = self.queue.take(member, limit)
        assert request is not None
        return request


def test_only_files_of_one_chunk_travel_in_bundles() -> None:
    assert [fits(entry("x", size)) for size in (0, 1, SINGLE_CHUNK_MAX, SINGLE_CHUNK_MAX + 1)] == [
        False,
        True,
        True,
        False,
    ]


@given(sizes)
def test_column_by_column_is_what_file_by_file_would_be(some: list[int]) -> None:
    made = bundle(some)
    positions = [1000 * number for number in range(len(some))]
    stamps = [(size, 2, 3, number) for number, size in enumerate(some)]
    assert list(made.spans()) == [Span(e.digest, 0, e.size, None, e.size) for e in made.entries]
    assert list(made.checks(7)) == [Check(7 + n, 0, e.size, e.digest) for n, e in enumerate(made.entries)]
    columns = list(zip(made.targets(), positions, stamps, strict=True))
    assert made.files(positions) == [
        File(t.entry.name, t.entry.mode, t.entry.mtime_ns, at, t.entry.size, t.replaces)
        for t, at, _ in columns
    ]
    assert made.rows(stamps) == [FileRow(t.entry.name, *stamp, t.entry.digest) for t, _, stamp in columns]
    assert list(made.stamped(stamps)) == [(t.entry.name, 0o100640, *stamp) for t, _, stamp in columns]


@given(sizes, st.integers(0, 20_000), st.integers(1, 40))
def test_a_split_keeps_every_file_in_order_and_goes_on(some: list[int], size: int, count: int) -> None:
    whole = bundle(some)
    first, rest = whole.split(size, count)
    assert 1 <= len(first) <= count
    assert first.size <= size or len(first) == 1
    assert [*first.targets(), *(rest.targets() if rest else [])] == whole.targets()


def test_a_request_takes_bundles_up_to_its_size_and_number() -> None:
    bench = Bench()
    bench.a.rate = bench.b.rate = 10e6
    bench.queue.add_bundles([bundle([1000] * 10, b"one"), bundle([1000] * 10, b"two")])
    first = bench.take(bench.a, 15_000)
    assert [(each.directory, len(each)) for each in first.bundles] == [(b"one", 10), (b"two", 5)]
    assert first.size == 15_000
    second = bench.take(bench.b)
    assert [(each.directory, len(each)) for each in second.bundles] == [(b"two", 5)]
    bench.queue.add_bundles([bundle([20] * 3000), bundle([20] * 3000)])
    assert sum(map(len, bench.take(bench.a).bundles)) == PARTS_MAX
    for request in (first, second):
        bench.queue.done(request)
    assert bench.begun == []
    assert not bench.queue.idle


def test_a_source_that_lacks_something_is_asked_file_by_file() -> None:
    bench = Bench()
    made = bundle([100, 200, 300])
    bench.swarm.missed(bench.a, made.entries[1].digest)
    bench.queue.add_bundles([made])
    request = bench.take(bench.a)
    assert request.bundles == []
    assert [part.job.size for part in request.parts] == [100, 300]
    assert [part.job.size for part in bench.take(bench.b).parts] == [200]


def test_the_last_files_are_asked_of_another_source_too() -> None:
    bench = Bench()
    bench.queue.add_bundles([bundle([100, 200])])
    bench.queue.closed = True
    slow = bench.take(bench.a)
    assert bench.queue.take(bench.b, LIMIT) is None
    bench.now += ENDGAME_AGE
    copy = bench.take(bench.b)
    assert [part.job for part in copy.parts] == [part.job for part in slow.parts] == bench.begun
    for job in bench.begun:
        job.mark(0)
    for request in (copy, slow):
        bench.queue.done(request)
    assert bench.queue.idle


@pytest.mark.parametrize(
    ("positions", "wrong", "complete"), [([0, 5], [], True), ([0, -1], [], False), ([0, 5], [1], False)]
)
def test_only_an_answer_with_everything_in_it_is_complete(
    positions: list[int], wrong: list[int], complete: bool
) -> None:
    assert Answer(1, positions, wrong, 0.1).complete is complete

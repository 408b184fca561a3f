"""Chunks that a file has several times are written everywhere, some at a time, and their bytes are kept for
it.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
from tests.node.simulator import MTIME

from p2psync.arena import Extent
from p2psync.events import SILENT
from p2psync.format.listing import file_entry
from p2psync.format.recipe import Recipe
from p2psync.supply import copies as module
from p2psync.supply.change import Change
from p2psync.supply.copies import Copies
from p2psync.supply.jobs import Job, Target
from p2psync.supply.lease import Lease, Piece
from p2psync.supply.placing import Placing
from p2psync.supply.share import Nothing
from p2psync.tree import orders

LENGTH = 5000


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Job:
    """Eight chunks, two kinds of them; three may be written in one go."""
    monkeypatch.setattr(module, "COPIES_BYTES", 3 * LENGTH)
    recipe = Recipe.of(
        [(b"0" * 32, LENGTH), (b"1" * 32, LENGTH), *[(b"0" * 32, LENGTH)] * 5, (b"1" * 32, LENGTH)]
    )
    made = Job(recipe.ref(), recipe, [Target(b"", file_entry(b"f", 0o644, MTIME, recipe.ref()))])
    made.fold()
    return made


@pytest.fixture
def given_back() -> list[Extent]:
    return []


def test_all_places_are_written_some_at_a_time(job: Job, given_back: list[Extent]) -> None:
    copies, lease = Copies(), Lease(Extent(0, 2 * LENGTH), given_back.append)
    copies.add(job, [Piece(job, 0, 0, LENGTH), Piece(job, 1, LENGTH, LENGTH)], lease)
    lease.done()
    places = []
    while (some := copies.next(job)) is not None:
        piece, indices, whose = some
        assert len(indices) <= 3
        assert not given_back, "the bytes are needed"
        places.append((piece.number, list(indices)))
        whose.done()
    assert places == [(0, [2, 3, 4]), (0, [5, 6]), (1, [7])]
    assert given_back == [Extent(0, 2 * LENGTH)]
    assert job not in copies


def test_what_is_dropped_is_written_nowhere_and_its_bytes_are_free(
    job: Job, given_back: list[Extent]
) -> None:
    copies, lease = Copies(), Lease(Extent(0, LENGTH), given_back.append)
    copies.add(job, [Piece(job, 0, 0, LENGTH)], lease)
    lease.done()
    some = copies.next(job)
    assert some is not None
    copies.drop(job)
    assert not given_back
    some[2].done()
    assert given_back
    assert copies.next(job) is None


def test_what_occurs_once_has_no_copies(job: Job, given_back: list[Extent]) -> None:
    copies = Copies()
    copies.add(job, [], Lease(Extent(0, 1), given_back.append))
    assert job not in copies


# As orders to the writer.


class Told:
    """A writer that only remembers what it is told."""

    def __init__(self) -> None:
        self.orders: list[orders.Order] = []

    def send(self, order: orders.Order) -> None:
        self.orders.append(order)

    def places(self) -> list[list[int]]:
        """Of each order to write, the chunks."""
        return [
            [
                chunk
                for offset, _, size in order.parts
                for chunk in range(offset // LENGTH, (offset + size) // LENGTH)
            ]
            for order in self.orders
            if isinstance(order, orders.WriteObject)
        ]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def placing(told: Told) -> Placing:
    nothing = cast(Any, None)
    return Placing(
        told, nothing, nothing, SILENT, Nothing(), Change(), moved=lambda *_: None, made=lambda *_: None
    )


def done(told: Told, result: orders.Result = (0, 0, 0, 0), *, which: int = -1) -> orders.Done:
    """An order was carried out, if nothing else is said the last one."""
    order = told.orders[which]
    assert isinstance(order, orders.WriteObject)
    return orders.Done(order.token, [result], [])


def put(placing: Placing, job: Job, given_back: list[Extent], *chunks: int) -> None:
    lease = Lease(Extent(0, 2 * LENGTH), given_back.append)
    assert placing.put([Piece(job, index, index * LENGTH, LENGTH) for index in chunks], lease) == sum(
        LENGTH for _ in chunks
    )
    lease.done()


def test_one_order_follows_the_other_and_the_object_is_finished_after_the_last(
    placing: Placing, told: Told, job: Job, given_back: list[Extent]
) -> None:
    put(placing, job, given_back, 0, 1)
    placing.take(done(told, which=1))
    for _ in range(3):
        assert not isinstance(told.orders[-1], orders.FinishObject)
        placing.take(done(told))
    assert told.places() == [[0, 1], [2, 3, 4], [5, 6], [7]]
    assert isinstance(told.orders[-1], orders.FinishObject)
    assert placing.result.copied == 6 * LENGTH
    assert given_back == [Extent(0, 2 * LENGTH)]
    assert job.written == bytearray([0xFF])


def test_what_comes_while_copies_are_written_waits_for_its_turn(
    placing: Placing, told: Told, job: Job, given_back: list[Extent]
) -> None:
    put(placing, job, given_back, 0)
    put(placing, job, given_back, 1)
    placing.take(done(told))
    assert told.places() == [[0], [2, 3, 4], [1]]


def test_who_stops_waits_for_no_more_copies(
    placing: Placing, told: Told, job: Job, given_back: list[Extent]
) -> None:
    put(placing, job, given_back, 0, 1)
    placing.stop()
    placing.take(done(told))
    assert told.places() == [[0, 1], [2, 3, 4]], "nothing is sent to a writer that is going to be closed"


def test_where_one_copy_cannot_be_written_the_others_are_not_tried(
    placing: Placing, told: Told, job: Job, given_back: list[Extent]
) -> None:
    put(placing, job, given_back, 0, 1)
    placing.take(done(told, "the file is too large"))
    assert told.places() == [[0, 1], [2, 3, 4]]
    assert isinstance(told.orders[-1], orders.FinishObject), "it says for each place why it is not there"
    assert placing.result.copied == 0

"""Jobs and parts: what is missing of an object is asked for exactly once, however it is cut."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from tests.node.simulator import MTIME, content

from p2psync.chunking import cut_object
from p2psync.format.listing import file_entry
from p2psync.format.recipe import Recipe
from p2psync.supply.jobs import Job, Part, Target

DATA = content("jobs", 1_500_000)
REF, RECIPE = cut_object(DATA)
COUNT = len(RECIPE)
ENTRY = file_entry(b"file", 0o644, MTIME, REF)


def job(done: frozenset[int] = frozenset()) -> Job:
    made = Job(REF, RECIPE, [Target(b"dir", ENTRY)])
    for index in done:
        made.mark(index)
    return made


def chunks(parts: list[Part]) -> list[int]:
    return [index for part in parts for index in range(part.first, part.last)]


done_sets = st.frozensets(st.integers(0, COUNT - 1))


@given(done_sets)
def test_parts_are_the_runs_of_missing_chunks(done: frozenset[int]) -> None:
    made = job(done)
    parts = list(made.parts())
    expected = [index for index in range(COUNT) if index not in done]
    assert chunks(parts) == expected == list(made.missing())
    assert made.left == len(expected)
    assert all(one.last < other.first for one, other in itertools.pairwise(parts))


@given(done_sets, st.lists(st.integers(1, 600_000), min_size=1, max_size=20))
def test_splitting_loses_nothing_and_repeats_nothing(done: frozenset[int], sizes: list[int]) -> None:
    made = job(done)
    asked: list[Part] = []
    waiting = list(made.parts())
    turn = 0
    while waiting:
        size = sizes[turn % len(sizes)]
        taken, rest = waiting.pop(0).split(size)
        assert taken.size <= size or taken.last - taken.first == 1
        asked.append(taken)
        if rest is not None:
            waiting.insert(0, rest)
        turn += 1
    assert chunks(asked) == list(made.missing())
    assert sum(part.size for part in asked) == sum(RECIPE.chunk(index)[1] for index in made.missing())


@given(done_sets, done_sets, st.integers(0, COUNT - 1), st.integers(1, COUNT))
def test_what_others_brought_is_not_unfinished(
    before: frozenset[int], after: frozenset[int], first: int, length: int
) -> None:
    made = job(before)
    part = Part(made, first, min(first + length, COUNT))
    for index in after:
        made.mark(index)
    left = part.unfinished()
    assert chunks(left) == [i for i in range(part.first, part.last) if i not in before | after]
    assert all(DATA[p.offset : p.offset + p.size] for p in left)


def test_a_chunk_counts_once() -> None:
    made = job()
    made.mark(3)
    made.mark(3)
    assert made.left == COUNT - 1
    assert made.has(3)
    assert not made.has(2)
    assert made.have[0] == 0b0001_0000  # most significant bit first


def test_an_object_of_one_chunk_is_one_part() -> None:
    ref, _ = cut_object(b"small")
    made = Job(ref, Recipe.single(ref), [Target(b"", file_entry(b"f", 0o644, MTIME, ref))])
    (part,) = made.parts()
    assert (part.offset, part.size) == (0, 5)
    assert part.split(1) == (part, None)
    made.mark(0)
    assert part.unfinished() == []
    assert list(made.parts()) == []


repeats = st.lists(st.integers(0, 5), min_size=2, max_size=60)


@given(repeats, st.data())
def test_of_equal_chunks_only_the_first_missing_one_is_to_come(kinds: list[int], draw: st.DataObject) -> None:
    """Each other one is a copy of it, and none is forgotten."""
    recipe = Recipe.of((bytes([kind]) * 32, 5000 + kind) for kind in kinds)
    made = Job(recipe.ref(), recipe, [Target(b"dir", ENTRY)])
    there = draw.draw(st.frozensets(st.integers(0, len(kinds) - 1)))
    for index in there:
        made.mark(index)
    made.fold()
    come = list(made.missing())
    assert len({kinds[index] for index in come}) == len(come) == made.left
    copies = [copy for index in come for copy in made.copies(index)]
    assert all(kinds[copy] == kinds[index] for index in come for copy in made.copies(index))
    assert sorted([*there, *come, *copies]) == list(range(len(kinds)))
    assert set(chunks(list(made.parts()))) == set(come)


def test_chunks_that_only_begin_alike_are_no_copies() -> None:
    digests = [b"same" + bytes([n]) * 28 for n in (1, 2, 1)]
    recipe = Recipe.of((digest, 5000) for digest in digests)
    made = Job(recipe.ref(), recipe, [Target(b"dir", ENTRY)])
    made.fold()
    assert list(made.missing()) == [0, 1]
    assert list(made.copies(0)) == [2]
    assert recipe.repeated() == [0, 1, 2]


def test_where_nothing_repeats_nothing_is_folded() -> None:
    made = job()
    made.fold()
    assert list(made.missing()) == list(range(COUNT))
    assert RECIPE.repeated() == []

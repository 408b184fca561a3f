"""The arena: extents never overlap, and what is given back can be taken again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.arena import ALIGN, Arena, Extent


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena(64 * ALIGN)
    yield made
    made.close()


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 20 * ALIGN)), max_size=60))
def test_extents_do_not_overlap_and_nothing_is_lost(steps: list[tuple[bool, int]]) -> None:
    arena = Arena(64 * ALIGN)
    held: list[Extent] = []
    try:
        for take, size in steps:
            if take or not held:
                there_is_room = arena.has(size)
                extent = arena.take(size)
                assert there_is_room or extent is None
                if extent is not None:
                    assert extent.size >= size
                    assert all(
                        extent.offset + extent.size <= each.offset or each.offset + each.size <= extent.offset
                        for each in held
                    )
                    held.append(extent)
            else:
                arena.give(held.pop(size % len(held)))
            assert arena.free + sum(extent.size for extent in held) == arena.size
        for extent in held:
            arena.give(extent)
        whole = arena.take(arena.size)
        assert whole == Extent(0, arena.size)  # All pieces have become one again.
    finally:
        arena.close()


def test_a_full_arena_says_so(arena: Arena) -> None:
    assert arena.take(arena.size + 1) is None
    assert arena.take(arena.size) is not None
    assert not arena.has(1)
    assert arena.take(1) is None


def test_it_can_be_closed_while_somebody_still_holds_a_part_of_it() -> None:
    arena = Arena(ALIGN)
    part = arena.view[:10]
    arena.close()
    part[0] = 1
    assert part[0] == 1

"""Chunking: a pure function of content and size, the same in every implementation and in every window."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.node.simulator import content

from p2psync.chunking import AVERAGE_MAX, AVERAGE_MIN, CHUNKS_WANTED, Chunker, average_for, cut_object
from p2psync.format.ids import EMPTY, chunk_id
from p2psync.format.limits import CHUNK_MAX, CHUNK_MIN, OBJECT_BYTES_MAX, SINGLE_CHUNK_MAX
from p2psync.format.recipe import FASTCDC_2020, WHOLE, Recipe

# FastCDC as docs/spec/manifest.md describes it, written down again: byte by byte, from the text alone.

GEAR = [int.from_bytes(hashlib.md5(bytes([i]) * 64).digest()[:8], "big") for i in range(256)]  # noqa: S324 a table of numbers, not security
MASKS = {  # average: (before it is reached, after)
    16 << 10: (0x0000D90303537000, 0x0000D90103530000),
    32 << 10: (0x0000D90703537000, 0x0000D90303530000),
    64 << 10: (0x0000D90707537000, 0x0000D90313530000),
    128 << 10: (0x0000D91707537000, 0x0000D90F03530000),
    256 << 10: (0x0000D91747537000, 0x0000D90303537000),
    512 << 10: (0x0000D91767537000, 0x0000D90703537000),
    1024 << 10: (0x0000D93767537000, 0x0000D90707537000),
}


def reference_length(data: memoryview, average: int) -> int:
    """Length of the first chunk of ``data``, which is the whole rest of an object."""
    least, end = average // 4, min(len(data), average * 4)
    if len(data) <= least:
        return len(data)
    before, after = MASKS[average]
    value = 0
    for position in range(least, end - end % 2):
        value = (2 * value + GEAR[data[position]]) % 2**64
        if value & (before if position < average else after) == 0:
            return position
    return end


def reference_lengths(data: bytes, average: int) -> Iterator[int]:
    rest = memoryview(data)
    while rest:
        length = reference_length(rest, average)
        yield length
        rest = rest[length:]


@pytest.mark.parametrize("average", MASKS)
def test_cuts_are_those_of_the_specification(average: int) -> None:
    size = average * CHUNKS_WANTED
    data = content(f"reference {average}", max(3 * average, 150_000) + 1)
    assert list(Chunker(size).cut(memoryview(data))) == list(reference_lengths(data, average))


@given(st.binary(min_size=1, max_size=40), st.integers(0, 60_000))
@settings(max_examples=15)
def test_cuts_of_dull_content_are_those_of_the_specification(pattern: bytes, extra: int) -> None:
    data = (pattern * 40_000)[: 30_000 + extra]
    assert list(Chunker(len(data)).cut(memoryview(data))) == list(reference_lengths(data, AVERAGE_MIN))


def test_averages_follow_the_size_and_stay_within_their_bounds() -> None:
    for power in range(50):
        for size in ((1 << power) - 1, 1 << power, (1 << power) + 1):
            average = average_for(size)
            assert AVERAGE_MIN <= average <= AVERAGE_MAX
            assert average & (average - 1) == 0
            if AVERAGE_MIN < average < AVERAGE_MAX:
                assert average / 2 < size / CHUNKS_WANTED <= average
            assert average_for(size + 1) >= average


def test_the_bounds_of_recipes_are_those_of_the_chunker() -> None:
    assert AVERAGE_MIN // 4 == CHUNK_MIN
    assert AVERAGE_MAX * 4 == CHUNK_MAX
    assert Chunker(OBJECT_BYTES_MAX).max_chunk == CHUNK_MAX


@pytest.mark.parametrize("size", [1, 4095, SINGLE_CHUNK_MAX - 1, SINGLE_CHUNK_MAX])
def test_up_to_64_kib_an_object_is_one_chunk_and_its_id_is_the_chunks(size: int) -> None:
    data = content(size, size)
    ref, recipe = cut_object(data)
    assert (ref.size, ref.digest) == (size, chunk_id(data))
    assert ref.is_single
    assert (recipe.chunker, list(recipe)) == (WHOLE, [(chunk_id(data), size)])


def test_above_64_kib_an_object_has_a_recipe() -> None:
    ref, recipe = cut_object(content("one more", SINGLE_CHUNK_MAX + 1))
    assert not ref.is_single
    assert recipe.chunker == FASTCDC_2020
    assert len(recipe) > 1
    assert Recipe.decode(recipe.encode(), ref) == recipe


def test_the_empty_object_has_no_chunk() -> None:
    assert cut_object(b"") == (EMPTY, Recipe(WHOLE, b""))


@given(st.binary(min_size=1, max_size=3000), st.integers(1, 400), st.binary(max_size=200))
@settings(max_examples=40)
def test_whatever_the_content_its_recipe_describes_it_and_is_accepted(
    block: bytes, times: int, tail: bytes
) -> None:
    data = block * times + tail
    ref, recipe = cut_object(data)
    offsets = recipe.offsets
    assert offsets[-1] == recipe.size == ref.size == len(data)
    for index, (digest, length) in enumerate(recipe):
        assert chunk_id(data[offsets[index] : offsets[index] + length]) == digest
    if not ref.is_single:
        assert Recipe.decode(recipe.encode(), ref) == recipe


WINDOW_DATA = content("windows of a file", 3 << 20)
WHOLE_LENGTHS = list(Chunker(len(WINDOW_DATA)).cut(memoryview(WINDOW_DATA)))


@given(st.data())
@settings(max_examples=60)
def test_a_part_of_an_object_is_cut_as_the_whole_up_to_one_greatest_chunk_before_its_end(
    data: st.DataObject,
) -> None:
    """What lets a file be read and cut in windows of bounded memory."""
    chunker = Chunker(len(WINDOW_DATA))
    first = data.draw(st.integers(0, len(WHOLE_LENGTHS) - 1))
    begin = sum(WHOLE_LENGTHS[:first])
    end = data.draw(st.integers(begin, len(WINDOW_DATA)))
    position = begin
    for found, right in zip(
        chunker.cut(memoryview(WINDOW_DATA)[begin:end]), WHOLE_LENGTHS[first:], strict=False
    ):
        if position + chunker.max_chunk > end:
            break
        assert found == right
        position += found


@given(st.integers(70_000, 1_000_000))
@settings(max_examples=20)
def test_a_file_read_in_windows_has_the_recipe_of_the_whole(window: int) -> None:
    chunker = Chunker(len(WINDOW_DATA))
    window = max(window, chunker.max_chunk)
    lengths: list[int] = []
    position = 0
    while position < len(WINDOW_DATA):
        part = memoryview(WINDOW_DATA)[position : position + window]
        last = position + len(part) == len(WINDOW_DATA)
        begin = position
        for length in chunker.cut(part):
            if not last and position + chunker.max_chunk > begin + len(part):
                break
            lengths.append(length)
            position += length
    assert lengths == WHOLE_LENGTHS


def test_an_insertion_changes_few_chunks() -> None:
    """What content-defined chunking is for."""
    before = {digest for digest, _ in cut_object(WINDOW_DATA)[1]}
    middle = len(WINDOW_DATA) // 2
    after = [digest for digest, _ in cut_object(WINDOW_DATA[:middle] + b"new" + WINDOW_DATA[middle:])[1]]
    assert sum(digest not in before for digest in after) <= 4


def test_equal_content_has_one_id_wherever_it_comes_from() -> None:
    assert cut_object(bytes(WINDOW_DATA)) == cut_object(memoryview(bytearray(WINDOW_DATA)))

"""Recipes and references: sums, hashes and counts that do not fit are refused."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.node.memory import traced_memory
from tests.node.simulator import content

from p2psync.chunking import cut_object
from p2psync.errors import FormatError
from p2psync.format import recipe as recipe_module
from p2psync.format.ids import EMPTY, Ref, object_id
from p2psync.format.limits import (
    CHUNK_MAX,
    CHUNK_MIN,
    OBJECT_BYTES_MAX,
    RECIPE_CHUNKS_MAX,
    SINGLE_CHUNK_MAX,
)
from p2psync.format.recipe import CHUNKER_MAX, FASTCDC_2020, WHOLE, Recipe, recipe_bytes_max

D = b"d" * 32

lengths = st.lists(st.integers(CHUNK_MIN, CHUNK_MAX), min_size=1, max_size=20)


def pack(chunks: list[tuple[bytes, int]], chunker: int = FASTCDC_2020) -> bytes:
    rows = b"".join(digest + length.to_bytes(4, "big") for digest, length in chunks)
    packed: bytes = msgpack.packb([chunker, rows])
    return packed


def refused(raw: bytes, size: int, match: str, digest: bytes | None = None) -> None:
    with pytest.raises(FormatError, match=match):
        Recipe.decode(raw, Ref(size, object_id(raw) if digest is None else digest))


# References


@pytest.mark.parametrize(
    ("size", "digest"),
    [
        (0, D),
        (1, b""),
        (-1, D),
        (1, D[1:]),
        (1, D + b"x"),
        (OBJECT_BYTES_MAX + 1, D),
        (True, D),
        (1.0, D),
        (1, "d" * 32),
    ],
)
def test_a_reference_that_can_name_nothing_is_refused(size: int, digest: bytes) -> None:
    with pytest.raises(FormatError):
        Ref(size, digest)
    with pytest.raises(FormatError):
        Ref.from_row([size, digest], "it")


@pytest.mark.parametrize("value", [None, [], [1], [1, D, 2], (1, D), {"size": 1}, D])
def test_a_reference_is_a_pair(value: object) -> None:
    with pytest.raises(FormatError, match="pair"):
        Ref.from_row(value, "it")


@pytest.mark.parametrize(
    ("size", "single"), [(1, True), (SINGLE_CHUNK_MAX, True), (SINGLE_CHUNK_MAX + 1, False)]
)
def test_a_reference_knows_whether_its_object_is_one_chunk(size: int, single: bool) -> None:
    assert Ref(size, D).is_single is single
    assert not Ref(size, D).is_empty
    assert EMPTY.is_empty
    assert not EMPTY.is_single


# Round trips


@given(lengths, st.integers(1, CHUNK_MIN), st.binary(min_size=32, max_size=32))
def test_a_recipe_reads_back(some: list[int], last: int, digest: bytes) -> None:
    some = [SINGLE_CHUNK_MAX, *some, last]
    recipe = Recipe.of((digest, length) for length in some)
    raw = recipe.encode()
    found = Recipe.decode(raw, recipe.ref())
    assert found == recipe
    assert found.encode() == raw
    assert [found.chunk(index) for index in range(len(found))] == list(found) == [(digest, n) for n in some]
    assert list(found.offsets) == [sum(some[:count]) for count in range(len(some) + 1)]


@pytest.mark.parametrize("size", [0, 1, SINGLE_CHUNK_MAX])
def test_the_recipe_of_one_chunk_or_none_follows_from_the_reference(size: int) -> None:
    ref, recipe = cut_object(content(1, size))
    assert Recipe.single(ref) == recipe
    assert recipe.ref() == ref
    assert recipe.size == size


def test_the_recipe_of_several_chunks_does_not() -> None:
    with pytest.raises(ValueError, match="recipe of its own"):
        Recipe.single(Ref(SINGLE_CHUNK_MAX + 1, D))


# Recipes that lie


def test_a_recipe_with_another_hash_is_refused() -> None:
    ref, recipe = cut_object(content(1, 100_000))
    raw = bytearray(recipe.encode())
    raw[-1] ^= 1
    refused(bytes(raw), ref.size, "hash", ref.digest)
    refused(recipe.encode(), ref.size, "hash", D)


@pytest.mark.parametrize("wrong", [-1, 1, 65_536])
def test_a_recipe_that_does_not_add_up_is_refused(wrong: int) -> None:
    ref, recipe = cut_object(content(1, 200_000))
    refused(recipe.encode(), ref.size + wrong, "describes 200000 bytes")


@pytest.mark.parametrize(
    "some",
    [[], [100_000], [50_000, CHUNK_MIN - 1, 50_000], [100_000, 0], [0, 100_000], [100_000, CHUNK_MAX + 1]],
)
def test_a_recipe_with_a_chunk_that_is_none_is_refused(some: list[int]) -> None:
    refused(pack([(D, length) for length in some]), max(sum(some), 1), "chunk")


def test_the_lengths_of_chunks_are_bounded_at_their_limits() -> None:
    for some in ([CHUNK_MIN, CHUNK_MAX, 1], [CHUNK_MAX, CHUNK_MAX], [CHUNK_MIN, SINGLE_CHUNK_MAX]):
        raw = pack([(D, length) for length in some])
        assert Recipe.decode(raw, Ref(sum(some), object_id(raw))).size == sum(some)


def test_an_object_that_must_be_one_chunk_cannot_have_a_recipe() -> None:
    """Else one content would have two ids."""
    raw = pack([(D, CHUNK_MIN), (D, SINGLE_CHUNK_MAX - CHUNK_MIN)])
    refused(raw, SINGLE_CHUNK_MAX, "describes")


def test_a_row_cut_short_is_refused() -> None:
    rows = (D + (50_000).to_bytes(4, "big")) * 3
    refused(msgpack.packb([1, rows[:-1]]), 150_000, "broken row")


@pytest.mark.parametrize("chunker", [WHOLE, CHUNKER_MAX + 1, 255])
def test_a_chunker_that_cannot_be_is_refused(chunker: int) -> None:
    refused(pack([(D, 50_000), (D, 50_000)], chunker), 100_000, "chunker|damaged")


def test_a_chunker_that_is_not_known_here_is_no_hindrance_to_fetching() -> None:
    raw = pack([(D, 50_000), (D, 50_000)], CHUNKER_MAX)
    assert Recipe.decode(raw, Ref(100_000, object_id(raw))).encode() == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x92",
        b"\x92\x01",
        b"\x92\x01\xc4",
        b"\x93\x01\xc4\x00\x01",
        b"\x92\x01\xd9\x48" + (b"d" * 32 + b"\0\0\xc3P") * 2,
        b"\x92\x01\xc4\x00",
        b"\x92\xcc\x01\xc4\x48" + (b"d" * 32 + b"\0\0\xc3P") * 2,
        b"\xdc\x00\x02\x01\xc4\x48" + (b"d" * 32 + b"\0\0\xc3P") * 2,
        b"\x92\x01\xc5\x00\x48" + (b"d" * 32 + b"\0\0\xc3P") * 2,
        b"\x92\x01\xc6\x00\x00\x00\x48" + (b"d" * 32 + b"\0\0\xc3P") * 2,
        b"\x92\x01\xc4\x49" + (b"d" * 32 + b"\0\0\xc3P") * 2,
        b"\x92\x01\xc4\x48" + (b"d" * 32 + b"\0\0\xc3P") * 2 + b"\0",
    ],
)
def test_what_is_no_recipe_or_spelled_otherwise_is_refused(raw: bytes) -> None:
    refused(raw, 100_000, "damaged|canonical|chunks of a recipe|broken")


def test_the_number_of_chunks_is_bounded_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe_module, "RECIPE_CHUNKS_MAX", 3)
    for count in (3, 4):
        raw = pack([(D, 50_000)] * count)
        if count == 3:
            assert len(Recipe.decode(raw, Ref(count * 50_000, object_id(raw)))) == 3
        else:
            refused(raw, count * 50_000, "at most")


def test_the_longest_recipe_fits_its_limit() -> None:
    rows = bytes(RECIPE_CHUNKS_MAX * 36)
    assert len(Recipe(FASTCDC_2020, rows).encode()) == recipe_bytes_max(OBJECT_BYTES_MAX)


def test_a_recipe_is_no_longer_than_its_object_needs() -> None:
    """Chunks of the least length, and a last one of one byte."""
    size = 20 * CHUNK_MIN + 1
    raw = pack([(D, CHUNK_MIN)] * 20 + [(D, 1)])
    assert len(raw) <= recipe_bytes_max(size)
    assert len(Recipe.decode(raw, Ref(size, object_id(raw)))) == 21
    refused(bytes(recipe_bytes_max(size) + 1), size, "at most")
    assert recipe_bytes_max(size) < size // 50


def test_a_hostile_recipe_costs_no_more_than_its_bytes() -> None:
    """Decoded as the nested arrays that it claims to be, it would take eighty times as much."""
    size = 4 << 20
    hostile = [
        b"\x92\x01" + b"\x90" * size,
        b"\x92" * size,
        b"\xdd\x00\x40\x00\x00" + b"\x90" * size,
        b"\x92\x01\xc6\xff\xff\xff\xff" + bytes(size),
    ]
    names = [object_id(raw) for raw in hostile]
    with traced_memory() as peak:
        for raw, digest in zip(hostile, names, strict=True):
            with pytest.raises(FormatError):
                Recipe.decode(raw, Ref(100_000, digest))
        assert peak() < 3 * size


@given(st.binary(max_size=300), st.integers(1, OBJECT_BYTES_MAX))
def test_random_bytes_are_a_recipe_or_a_format_error(tail: bytes, size: int) -> None:
    for raw in (tail, b"\x92\x01" + tail, msgpack.packb([1, tail])):
        try:
            found = Recipe.decode(raw, Ref(size, object_id(raw)))
        except FormatError:
            continue
        assert found.encode() == raw


@given(st.data())
def test_changed_bytes_are_another_recipe_or_a_format_error(data: st.DataObject) -> None:
    ref, recipe = cut_object(content("mutate", 150_000))
    raw = bytearray(recipe.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1) | st.integers(0, 6))] = data.draw(st.integers(0, 255))
    try:
        found = Recipe.decode(bytes(raw), Ref(ref.size, object_id(bytes(raw))))
    except FormatError:
        return
    assert found.encode() == raw
    assert found.size == ref.size

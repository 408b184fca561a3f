"""Canonical msgpack: one encoding per value, every other refused; hostile bytes cost little."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.node.format_strategies import depth, plain
from tests.node.memory import traced_memory

from p2psync.errors import FormatError
from p2psync.format.canonical import (
    WINDOW_BYTES,
    _decode_one_by_one,
    check_plain,
    decode,
    decode_sequence,
    encode,
    integer,
    mapping,
    octets,
    row,
)
from p2psync.format.limits import CONTAINER_ITEMS_MAX, EXTRA_DEPTH_MAX

LIMIT = 1 << 20


def refused(raw: bytes, match: str | None = None) -> None:
    with pytest.raises(FormatError, match=match):
        decode(raw, LIMIT, "it")
    with pytest.raises(FormatError, match=match):
        sequence(raw)


def sequence(raw: bytes) -> list[Any]:
    """All that is in ``raw``, as listings and attributes objects read it."""
    found = []
    for value in one_by_one(raw, 0, LIMIT):
        check_plain(value, "it")
        found.append(value)
    return found


def one_by_one(raw: bytes, begin: int, limit: int) -> Iterator[Any]:
    """All that is in ``raw`` from ``begin`` on, however it is handed over."""
    return chain.from_iterable(decode_sequence(raw, begin, limit, "it"))


@given(plain)
def test_every_value_reads_back_and_encodes_again_to_the_same_bytes(value: Any) -> None:
    raw = encode(value)
    assert decode(raw, LIMIT, "it") == value
    assert encode(decode(raw, LIMIT, "it")) == raw
    assert list(one_by_one(raw * 3, 0, LIMIT)) == [value] * 3


@given(st.dictionaries(st.text(max_size=5), st.integers(0, 9), min_size=2, max_size=6))
def test_the_order_in_which_a_map_was_made_does_not_matter(value: dict[str, int]) -> None:
    assert encode(value) == encode(dict(reversed(value.items())))
    keys = list(decode(encode(value), LIMIT, "it"))
    assert keys == sorted(value, key=lambda key: key.encode())


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("cc 01", id="an integer of two bytes where one does"),
        pytest.param("cd 00ff", id="of three where two do"),
        pytest.param("ce 0000ffff", id="of five where three do"),
        pytest.param("cf 00000000ffffffff", id="of nine where five do"),
        pytest.param("d0 01", id="a positive one spelled as signed"),
        pytest.param("d0 ff", id="a small negative one in two bytes"),
        pytest.param("d3 ffffffffffffffff", id="a small negative one in nine"),
        pytest.param("c5 0001 61", id="a byte string with a long length"),
        pytest.param("c6 00000001 61", id="a byte string with a longer length"),
        pytest.param("d9 01 61", id="text with a long length"),
        pytest.param("dc 0001 c0", id="an array with a long length"),
        pytest.param("de 0001 a161 c0", id="a map with a long length"),
        pytest.param("82 a162 01 a161 02", id="map keys in the wrong order"),
    ],
)
def test_another_encoding_of_a_value_is_refused(raw: str) -> None:
    refused(bytes.fromhex(raw.replace(" ", "")), "canonical|order")
    nested = b"\x91" + bytes.fromhex(raw.replace(" ", ""))
    refused(nested, "canonical|order")


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        pytest.param("82 a161 01 a161 02", "order", id="a key twice"),
        pytest.param("81 01 c0", "damaged", id="a number as key"),
        pytest.param("81 c4 01 61 c0", "text", id="bytes as key"),
        pytest.param("81 90 c0", "damaged", id="an array as key"),
        pytest.param("81 c0 c0", "damaged", id="null as key"),
        pytest.param("ca 00000000", "canonical", id="float 32"),
        pytest.param("cb 3ff0000000000000", "type", id="float 64"),
        pytest.param("d4 05 00", "damaged", id="fixext 1"),
        pytest.param("c7 00 05", "type", id="an empty extension"),
        pytest.param("c7 00 ff", "damaged", id="an empty timestamp"),
        pytest.param("d6 ff 00000001", "damaged", id="a timestamp"),
        pytest.param("d7 ff 0000000100000001", "damaged", id="a long timestamp"),
        pytest.param("c9 ffffffff 05", "damaged", id="an extension of 4 GiB"),
        pytest.param("c1", "damaged", id="the byte that is never used"),
        pytest.param("a1 ff", "damaged", id="text that is not UTF-8"),
        pytest.param("a3 eda080", "damaged", id="a lone surrogate"),
        pytest.param("92 01", "damaged", id="an array that ends early"),
        pytest.param("c4 05 61", "damaged", id="bytes that end early"),
        pytest.param("dd ffffffff", "damaged", id="an array of 2**32 - 1"),
        pytest.param("df ffffffff", "damaged", id="a map of 2**32 - 1"),
        pytest.param("c6 ffffffff", "damaged", id="bytes of 4 GiB"),
    ],
)
def test_what_the_format_does_not_have_is_refused(raw: str, match: str) -> None:
    refused(bytes.fromhex(raw.replace(" ", "")), match)


def test_bytes_behind_the_value_are_refused_and_so_is_nothing_at_all() -> None:
    for raw in (b"", b"\x01\x01", b"\x90\xc1"):
        with pytest.raises(FormatError):
            decode(raw, LIMIT, "it")


def test_the_limit_is_the_last_length_that_is_read() -> None:
    raw = encode(b"x" * 100)
    assert decode(raw, len(raw), "it") == b"x" * 100
    with pytest.raises(FormatError, match="at most 101"):
        decode(raw, len(raw) - 1, "it")
    assert list(one_by_one(raw * 2, 0, len(raw))) == [b"x" * 100] * 2
    with pytest.raises(FormatError, match="at most 101"):
        list(one_by_one(raw * 2, 0, len(raw) - 1))


def test_a_sequence_that_ends_in_the_middle_of_an_item_gives_what_is_whole_and_then_an_error() -> None:
    found = []
    with pytest.raises(FormatError, match="damaged"):
        for item in one_by_one(b"\xff\x01\x02\x92\x03", 1, LIMIT):
            found.append(item)  # noqa: PERF402 list() would lose what came before the error
    assert found == [1, 2]


def taken(items: Iterator[Any]) -> tuple[list[Any], str]:
    """What a sequence gives, and the error that it ends with."""
    found: list[Any] = []
    try:
        for item in items:
            found.append(item)  # noqa: PERF402 list() would lose what came before the error
    except FormatError as error:
        return found, str(error)
    return found, ""


@given(
    st.lists(st.one_of(plain, st.binary(max_size=9), st.just(b"x" * (WINDOW_BYTES // 3))), max_size=12),
    st.lists(st.tuples(st.integers(0, 2 * WINDOW_BYTES), st.integers(0, 255)), max_size=2),
    st.integers(0, 3),
)
def test_decoding_several_at_once_gives_what_decoding_each_by_itself_gives(
    values: list[Any], changes: list[tuple[int, int]], cut: int
) -> None:
    raw = bytearray(b"".join(map(encode, values)))
    for position, byte in changes:
        if raw:
            raw[position % len(raw)] = byte
    some = bytes(raw[: len(raw) - cut])
    for limit in (40, LIMIT):
        assert taken(one_by_one(some, 0, limit)) == taken(_decode_one_by_one(some, 0, limit, "it"))


def nested(levels: int) -> Any:
    value: Any = None
    for _ in range(levels):
        value = [value]
    return value


def test_nesting_is_bounded_at_its_limit() -> None:
    deepest = nested(EXTRA_DEPTH_MAX)
    assert depth(deepest) == EXTRA_DEPTH_MAX
    assert decode(encode(deepest), LIMIT, "it") == deepest
    refused(encode(nested(EXTRA_DEPTH_MAX + 1)), "nested")


@pytest.mark.parametrize("levels", [400, 600, 1_100, 100_000, LIMIT - 1])
@pytest.mark.parametrize("container", [b"\x91", b"\x81\xa1a", b"\xdc\x00\x01", b"\xdd\x00\x00\x0f\xff"])
def test_deep_nesting_is_refused_without_deep_recursion(levels: int, container: bytes) -> None:
    refused((container * levels)[: LIMIT - 1] + b"\xc0")


def test_containers_are_bounded_at_their_limit() -> None:
    for value in ([0] * CONTAINER_ITEMS_MAX, {f"{i:05}": 0 for i in range(CONTAINER_ITEMS_MAX)}):
        assert decode(encode(value), LIMIT, "it") == value
    refused(encode([0] * (CONTAINER_ITEMS_MAX + 1)), "damaged")
    refused(encode({f"{i:05}": 0 for i in range(CONTAINER_ITEMS_MAX + 1)}), "damaged")


def test_lengths_that_are_only_claimed_allocate_next_to_nothing() -> None:
    """Each level claims as many items as there are bytes: unbounded, that would be terabytes."""
    hostile = [
        b"\xdd\x00\x0f\xff\xff" * 200_000,
        (b"\xdd" + CONTAINER_ITEMS_MAX.to_bytes(4, "big")) * 200_000,
        (b"\xdf" + CONTAINER_ITEMS_MAX.to_bytes(4, "big")) * 200_000,
        b"\xc6\x7f\xff\xff\xff" + b"x" * 1_000_000,
    ]
    with traced_memory() as peak:
        for raw in hostile:
            refused(raw)
        assert peak() < 64 << 20


@given(st.binary(max_size=200))
def test_random_bytes_are_a_value_in_canonical_form_or_an_error(raw: bytes) -> None:
    try:
        value = decode(raw, LIMIT, "it")
    except FormatError:
        return
    assert encode(value) == raw


@given(plain, st.data())
def test_changed_bytes_are_a_value_in_canonical_form_or_an_error(value: Any, data: st.DataObject) -> None:
    raw = bytearray(encode(value))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for decoder in (lambda raw: [decode(raw, LIMIT, "it")], sequence):
        try:
            found = decoder(bytes(raw))
        except FormatError:
            continue
        assert b"".join(msgpack.packb(item) for item in found) == raw


def test_the_helpers_take_no_bool_for_a_number_and_no_subclass_for_bytes() -> None:
    assert integer(5, 5, 5, "it") == 5
    assert octets(b"12", 2, 2, "it") == b"12"
    assert row([1], 1, "it") == [1]
    assert mapping({}, "it") == {}
    for call in (
        lambda: integer(True, 0, 1, "it"),
        lambda: integer(4, 5, 6, "it"),
        lambda: integer(7, 5, 6, "it"),
        lambda: integer("5", 0, 9, "it"),
        lambda: octets(bytearray(2), 2, 2, "it"),
        lambda: octets("12", 2, 2, "it"),
        lambda: octets(b"1", 2, 2, "it"),
        lambda: row([], 1, "it"),
        lambda: row((1,), 1, "it"),
        lambda: mapping([], "it"),
    ):
        with pytest.raises(FormatError, match="it must be"):
            call()

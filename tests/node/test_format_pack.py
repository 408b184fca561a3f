"""Packs: what a writer puts in is found by its digest, and hostile ones are refused before they cost
anything.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.node.vectors.generate import FOLDER

from p2psync.errors import FormatError
from p2psync.format import pack
from p2psync.format.canonical import encode
from p2psync.format.ids import chunk_id

DIGEST = chunk_id(b"one")
DIGESTS = [chunk_id(bytes([number])) for number in range(12)]
SPECIFICATION = Path(__file__).parents[2] / "docs" / "spec" / "static.md"


def header_of(value: Any) -> bytes:
    raw = encode(value)
    return pack.FIXED.pack(pack.MAGIC, len(raw)) + raw


def index(rows: bytes) -> pack.Index:
    made = pack.Index(pack.decode_header(pack.encode_header(len(rows) // 36, [])))
    made.add(rows)
    return made


def test_what_lies_where_is_as_the_vector_says() -> None:
    (vector,) = json.loads((FOLDER / "packs.json").read_text())
    raw = bytes.fromhex(vector["pack"])
    header = pack.decode_header(raw)
    assert [name.hex() for name in header.packs] == vector["packs"]
    made = pack.Index(header)
    made.add(raw[header.begin : header.data])
    assert made.size == len(raw)
    for row in vector["rows"]:
        (at,) = made.rows_of(bytes.fromhex(row["digest"]), recipe=row["recipe"])
        assert made.place(at) == (row["offset"], row["length"])


def test_the_example_of_the_specification_is_the_vector() -> None:
    (vector,) = json.loads((FOLDER / "packs.json").read_text())
    raw = bytes.fromhex(vector["pack"])
    header = pack.decode_header(raw)
    example = SPECIFICATION.read_text().partition("70 32 70 73 79 6e 63 01   ")[2].split()
    assert int(example[0], 16) == header.begin - pack.FIXED.size
    words = [raw[at + 32 : at + 36].hex() for at in range(header.begin, header.data, 36)]
    assert [word for word in words if word in example] == words


@given(st.lists(st.tuples(st.sampled_from(DIGESTS), st.integers(1, 1000), st.booleans()), max_size=30))
def test_every_row_is_found_in_whatever_pieces_the_rows_came(rows: list[tuple[bytes, int, bool]]) -> None:
    raw = b"".join(pack.encode_row(digest, length, recipe=recipe) for digest, length, recipe in rows)
    made = pack.Index(pack.decode_header(pack.encode_header(len(rows), [])))
    middle = len(rows) // 2 * pack.ROW.size
    made.add(raw[:middle])
    made.add(raw[middle:])
    at = made.header.data
    for number, (digest, length, recipe) in enumerate(rows):
        assert number in list(made.rows_of(digest, recipe=recipe))
        assert made.place(number) == (at, length)
        at += length
    assert made.size == at


def test_an_object_is_not_found_as_a_recipe() -> None:
    made = index(pack.encode_row(DIGEST, 5, recipe=True))
    assert list(made.rows_of(DIGEST, recipe=True)) == [0]
    assert list(made.rows_of(DIGEST, recipe=False)) == []


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "ends before"),
        (b"<!DOCTYPE html><html>a captive portal</html>", "is damaged"),
        (b"p2psync\x02\0\0\0\x01\x80", "update it"),
        (b"p2psync\x01\xff\xff\xff\xff", "length of a pack's header"),
        (b"p2psync\x01\0\0\0\x09\x80", "cut off"),
        (header_of({"rows": 1}), "older packs"),
        (header_of({"packs": b"", "rows": pack.ROWS_MAX + 1}), "rows of a pack"),
        (header_of({"packs": b"", "rows": True}), "rows of a pack"),
        (header_of({"packs": bytes(33), "rows": 1}), "cut off"),
        (header_of({"packs": bytes(32 * (pack.PACKS_MAX + 1)), "rows": 1}), "older packs"),
        (header_of([]), "must be a map"),
    ],
)
def test_what_is_no_header_is_refused(raw: bytes, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        pack.decode_header(raw)


def test_fields_of_newer_writers_are_passed_over() -> None:
    assert pack.decode_header(header_of({"new": [1], "packs": b"", "rows": 0})).rows == 0


@pytest.mark.parametrize("word", [0, pack.RECIPE_BIT, pack.LENGTH_MAX + 1])
def test_a_row_of_nothing_or_of_too_much_is_refused(word: int) -> None:
    with pytest.raises(FormatError, match="without a length"):
        index(pack.ROW.pack(DIGEST, word))


def test_more_rows_than_were_announced_are_refused() -> None:
    made = pack.Index(pack.decode_header(pack.encode_header(1, [])))
    made.add(pack.encode_row(DIGEST, 1, recipe=False))
    with pytest.raises(FormatError, match="another number of rows"):
        made.add(pack.encode_row(DIGEST, 1, recipe=False))


def test_a_list_of_heads_is_read_as_it_was_written() -> None:
    places = [(1, 12), (0, 11), (0, 9)]
    assert pack.decode_list(pack.encode_list(places)) == places
    assert pack.decode_list(b"") == []


@pytest.mark.parametrize(
    "raw", [b"1\n", b"../1-2\n", b"1-2 \n", b"99999999999999999999-1\n", b"\xff\n", b"a" * 5000]
)
def test_what_is_no_list_of_heads_is_refused(raw: bytes) -> None:
    with pytest.raises(FormatError, match="list of heads"):
        pack.decode_list(raw)

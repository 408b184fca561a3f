"""Bodies of the wire: what goes in comes out, and hostile bytes are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.errors import FormatError
from p2psync.sources import wire
from p2psync.sources.http.head import ResponseHead
from p2psync.sources.http.sinks import BatchSink
from p2psync.sources.source import Span, places, runs
from p2psync.sources.wire import NOT_HERE

D = b"\x11" * 32
digests = st.binary(min_size=32, max_size=32)


@given(st.lists(st.tuples(digests, st.integers(0, 2**40), st.integers(1, 2000)), max_size=50))
def test_batches(rows: list[wire.Row]) -> None:
    assert wire.decode_batch(wire.encode_batch(rows)) == rows


@given(st.lists(st.one_of(st.booleans(), st.binary(min_size=1, max_size=50)), max_size=50))
def test_have_answers(answers: list[wire.Have]) -> None:
    assert wire.decode_have_answer(wire.encode_have_answer(answers), len(answers)) == answers


@given(st.lists(st.one_of(st.none(), st.binary(min_size=1, max_size=50)), max_size=50), st.integers(0, 5))
def test_answers_with_recipes(recipes: list[bytes | None], more: int) -> None:
    raw = wire.encode_recipes_answer(recipes)
    assert wire.decode_recipes_answer(raw, len(recipes) + more) == recipes


blocks = st.lists(st.tuples(st.binary(min_size=6, max_size=6), st.integers(1, 2048)), min_size=1, max_size=9)


@given(st.lists(st.one_of(st.none(), blocks), max_size=9))
def test_answers_with_blocks(rows: list[list[wire.Block] | None]) -> None:
    asked = [(D, 0, sum(size for _, size in row) if row else 5) for row in rows]
    raw = wire.encode_blocks_answer(rows)
    assert wire.decode_blocks_answer(raw, asked) == rows
    assert all(len(raw) <= wire.blocks_answer_max(asked) for row in rows if row and len(row) == 1)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\0",
        b"\0\0\0\1hhhhhh\0\4",
        b"\0\0\0\1hhhhhh\0\6",
        b"\0\0\0\1hhhhhh\0",
        b"\0\0\0\2hhhhhh\0\5hhhhhh\0\0",
        b"\0\0\0\1hhhhhh\0\5x",
        b"\xff\xff\xff\xffx",
        b"\xff\xff\xff\xfe",
    ],
)
def test_answers_with_blocks_that_do_not_fit_the_question(raw: bytes) -> None:
    with pytest.raises(FormatError, match="an answer with blocks"):
        wire.decode_blocks_answer(raw, [(D, 0, 5)])


@given(st.lists(st.one_of(st.none(), st.binary(min_size=1, max_size=50)), max_size=9))
def test_packed_answers(rows: list[bytes | None]) -> None:
    asked = [(D, 0, len(row or b"12345")) for row in rows]
    raw = b"".join(wire.ROW_LENGTH.pack(NOT_HERE if row is None else len(row)) + (row or b"") for row in rows)
    assert wire.decode_packed_answer(raw, asked) == rows


@pytest.mark.parametrize(
    "raw", [b"", b"\0\0\0\4four", b"\0\0\0\6sixsix", b"\0\0\0\5four", b"\0\0\0\5fivexx", b"\xff\xff\xff\xffx"]
)
def test_packed_answers_that_do_not_fit_the_question(raw: bytes) -> None:
    with pytest.raises(FormatError, match="a packed answer"):
        wire.decode_packed_answer(raw, [(D, 0, 5)])


def test_an_answer_with_recipes_ends_in_front_of_the_first_that_does_not_fit() -> None:
    half = b"r" * (wire.RECIPES_ANSWER_MAX // 2 - 4)
    cases: list[tuple[list[bytes | None], int]] = [
        ([half, half, b"r"], 2),
        ([half, None, half, b"r"], 2),
        ([b"r" * wire.RECIPES_ANSWER_MAX, b"r"], 0),
    ]
    for recipes, sent in cases:
        raw = wire.encode_recipes_answer(recipes)
        assert len(raw) <= wire.RECIPES_ANSWER_MAX
        assert wire.decode_recipes_answer(raw, len(recipes)) == recipes[:sent]


@pytest.mark.parametrize(
    "raw",
    [
        b"\0",
        b"\0\0\0\0",
        b"\0\0\0\2r",
        b"\xff\xff\xff\xfe",
        b"\0\0\0\1r\0\0\0\1r",
        b"\0\0\0\1r\xff",
        b"\xff\xff\xff\xff" * 2,
        bytes(wire.RECIPES_ANSWER_MAX + 1),
    ],
)
def test_answers_with_recipes_that_do_not_fit_the_question(raw: bytes) -> None:
    with pytest.raises(FormatError):
        wire.decode_recipes_answer(raw, 1)


@given(st.lists(st.binary(min_size=1, max_size=250), max_size=20))
def test_holders(records: list[bytes]) -> None:
    assert wire.decode_holders(wire.encode_holders(records)) == records


def test_info_with_keys_of_a_newer_version() -> None:
    info = wire.Info("ab" * 20, D, "1.2.3", (D, b"\xff" * 32))
    value = msgpack.unpackb(wire.encode_info(info)) | {"later": [1, 2]}
    assert wire.decode_info(msgpack.packb(value)) == info


def test_a_full_batch_fits_its_limits() -> None:
    rows = [(D, 2**40, wire.BATCH_BYTES_MAX // wire.BATCH_ROWS_MAX)] * wire.BATCH_ROWS_MAX
    assert len(wire.decode_batch(wire.encode_batch(rows))) == wire.BATCH_ROWS_MAX
    assert len(wire.encode_have([D] * wire.HAVE_DIGESTS_MAX)) <= wire.HAVE_BODY_MAX
    assert len(wire.encode_recipes([D] * wire.RECIPES_DIGESTS_MAX)) <= wire.RECIPES_BODY_MAX
    records = [b"r" * wire.HOLDER_BYTES_MAX] * wire.HOLDERS_MAX
    assert len(wire.encode_holders(records)) <= wire.HOLDERS_ANSWER_MAX
    info = wire.Info("ab" * 20, D, "v", tuple([D] * wire.INFO_ARCHIVES_MAX))
    assert len(wire.encode_info(info)) <= wire.INFO_ANSWER_MAX


REFUSED: list[tuple[Callable[[bytes], Any], Any]] = [
    (wire.decode_batch, 5),
    (wire.decode_batch, [[D, 0]]),
    (wire.decode_batch, [[D, 0, 0]]),
    (wire.decode_batch, [[D, -1, 1]]),
    (wire.decode_batch, [[D, True, 1]]),
    (wire.decode_batch, [[D[:31], 0, 1]]),
    (wire.decode_batch, [["x" * 32, 0, 1]]),
    (wire.decode_batch, [[D, 0, NOT_HERE]]),
    (wire.decode_batch, [[D, 0, wire.BATCH_ROW_MAX + 1]]),
    (wire.decode_batch, [[D, 0, wire.BATCH_ROW_MAX]] * 8 + [[D, 0, 1]]),
    (wire.decode_batch, [[D, 0, 1]] * (wire.BATCH_ROWS_MAX + 1)),
    (wire.decode_have, [b"short"]),
    (wire.decode_have, [D] * (wire.HAVE_DIGESTS_MAX + 1)),
    (wire.decode_recipes, [b"short"]),
    (wire.decode_recipes, [D] * (wire.RECIPES_DIGESTS_MAX + 1)),
    (lambda raw: wire.decode_have_answer(raw, 1), []),
    (lambda raw: wire.decode_have_answer(raw, 1), [1, 1]),
    (lambda raw: wire.decode_have_answer(raw, 1), [2]),
    (lambda raw: wire.decode_have_answer(raw, 1), [True]),
    (lambda raw: wire.decode_have_answer(raw, 1), [b""]),
    (lambda raw: wire.decode_have_answer(raw, 1), [b"x" * (wire.BITMAP_MAX + 1)]),
    (wire.decode_holders, [b""]),
    (wire.decode_holders, [b"x" * 251]),
    (wire.decode_holders, [b"x"] * 201),
    (wire.decode_info, []),
    (wire.decode_info, {"node": "ab" * 20, "key": D, "version": "v"}),
    (wire.decode_info, {"node": "AB" * 20, "key": D, "version": "v", "archives": []}),
    (wire.decode_info, {"node": "ab" * 20, "key": D, "version": "\x1b[2J", "archives": []}),
    (wire.decode_info, {"node": "ab" * 20, "key": D, "version": "v", "archives": ["no"]}),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_refused_values(case: int) -> None:
    decode, value = REFUSED[case]
    with pytest.raises(FormatError):
        decode(msgpack.packb(value))


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_a_format_error(raw: bytes) -> None:
    for decode in (
        wire.decode_batch,
        wire.decode_have,
        wire.decode_recipes,
        wire.decode_holders,
        wire.decode_info,
    ):
        try:
            decode(raw)
        except FormatError:
            continue


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(FormatError):
        wire.decode_batch(b"\x91" * 100_000)


def test_digests_in_paths() -> None:
    assert wire.parse_digest("ab" * 32) == b"\xab" * 32
    for text in ("AB" * 32, "ab" * 31, "ab" * 33, "zz" * 32, "../" + "a" * 61, ""):
        with pytest.raises(FormatError):
            wire.parse_digest(text)


@given(
    st.lists(st.one_of(st.none(), st.binary(min_size=1, max_size=40)), min_size=1, max_size=20),
    st.integers(1, 64),
)
def test_a_batch_answer_in_pieces_of_any_size(rows: list[bytes | None], step: int) -> None:
    sizes = [5 if row is None else len(row) for row in rows]
    raw = b"".join(
        NOT_HERE.to_bytes(4, "big") if row is None else len(row).to_bytes(4, "big") + row for row in rows
    )
    buffer = memoryview(bytearray(sum(sizes)))
    views = places([Span(D, 0, size) for size in sizes], buffer)
    sink = BatchSink(views)
    assert sink.begin(ResponseHead(200, {}, None, True))
    for start in range(0, len(raw), step):
        sink.feed(memoryview(raw)[start : start + step])
    sink.end()
    assert [bytes(view) if here else None for view, here in zip(views, sink.here, strict=True)] == rows


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0\0",
        b"\0\0\0\3abc",
        b"\0\0\0\4abcd\0",
        b"\0\0\0\4abcd\0\0\0\0",
        b"\0\0\0\5abcde",
        b"\0\0\0\4abc",
    ],
)
def test_batch_answers_that_do_not_fit_the_question(raw: bytes) -> None:
    sink = BatchSink([memoryview(bytearray(4))])
    assert sink.begin(ResponseHead(200, {}, None, True))
    with pytest.raises(FormatError):
        sink.feed(memoryview(raw))
        sink.end()


def test_neighbouring_spans_are_one_stretch() -> None:
    other = b"\x22" * 32
    spans = [Span(D, 0, 5), Span(D, 5, 5), Span(D, 11, 1), Span(other, 12, 3), Span(other, 15, 1)]
    assert [list(run) for run in runs(spans)] == [[0, 1], [2], [3, 4]]
    assert list(runs([])) == []


def test_a_buffer_must_fit_its_spans() -> None:
    with pytest.raises(ValueError, match="buffer"):
        places([Span(D, 0, 5)], memoryview(bytearray(6)))
    with pytest.raises(ValueError, match="span"):
        places([Span(D, 0, 0)], memoryview(bytearray(0)))

"""The examples of docs/spec/wire.md are what this implementation reads and writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from p2psync.chunking import BLOCK_AVERAGE, BLOCK_MAX, BLOCK_MIN, BlockCutter
from p2psync.format.url import archive_text
from p2psync.sources import wire
from p2psync.sources.http.head import ResponseHead
from p2psync.sources.http.sinks import BatchSink

SPEC = Path(__file__).parents[2] / "docs/spec/wire.md"
COUNTING, ONES = bytes(range(32)), b"\xff" * 32


def example(name: str) -> bytes:
    match = re.search(rf"<!-- {name} -->\n((?: {{4}}.*\n)+)", SPEC.read_text(encoding="utf-8"))
    assert match is not None, f"no example {name}"
    return bytes.fromhex(match[1])


def test_the_batch_request() -> None:
    rows: list[wire.Row] = [(COUNTING, 0, 5), (ONES, 65_536, 300)]
    assert wire.encode_batch(rows) == example("batch-request")
    assert wire.decode_batch(example("batch-request")) == rows


def test_the_batch_answer() -> None:
    views = [memoryview(bytearray(5)), memoryview(bytearray(300))]
    sink = BatchSink(views)
    assert sink.begin(ResponseHead(200, {}, None, True))
    sink.feed(memoryview(example("batch-answer")))
    sink.end()
    assert sink.here == [True, False]
    assert bytes(views[0]) == b"hello"


def test_have() -> None:
    digests = [COUNTING, ONES, COUNTING]
    assert wire.encode_have(digests) == example("have-request")
    assert wire.decode_have(example("have-request")) == digests
    answers: list[wire.Have] = [False, True, b"\xa0"]
    assert wire.encode_have_answer(answers) == example("have-answer")
    assert wire.decode_have_answer(example("have-answer"), 3) == answers


def test_recipes() -> None:
    digests = [COUNTING, ONES, COUNTING]
    assert wire.encode_recipes(digests) == example("recipes-request")
    assert wire.decode_recipes(example("recipes-request")) == digests
    assert wire.encode_recipes_answer([b"recipe", None]) == example("recipes-answer")
    assert wire.decode_recipes_answer(example("recipes-answer"), 3) == [b"recipe", None]


def test_blocks() -> None:
    rows: list[wire.Row] = [(COUNTING, 0, 5), (ONES, 65_536, 300)]
    assert BlockCutter().cut(memoryview(b"hello")) == [(b"\xea\x8f\x16\x3d\xb3\x86", 5)]
    answer = [BlockCutter().cut(memoryview(b"hello")), None]
    assert wire.encode_blocks_answer(answer) == example("blocks-answer")
    assert wire.decode_blocks_answer(example("blocks-answer"), rows) == answer
    assert (BLOCK_MIN, BLOCK_AVERAGE, BLOCK_MAX) == (128, 512, 2048)
    assert "average 512, minimum 128 and maximum 2,048 bytes" in SPEC.read_text(encoding="utf-8")


def test_info() -> None:
    info = wire.Info("ab" * 20, COUNTING, "0.1.0", (COUNTING,))
    assert wire.encode_info(info) == example("info")
    assert wire.decode_info(example("info")) == info


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/p2psync/v1/info", wire.INFO_PATH),
        ("/p2psync/v1/batch", wire.BATCH_PATH),
        ("/p2psync/v1/have", wire.HAVE_PATH),
        ("/p2psync/v1/blocks", wire.BLOCKS_PATH),
        ("/p2psync/v1/packed", wire.PACKED_PATH),
        ("/p2psync/v1/recipes", wire.RECIPES_PATH),
        ("/p2psync/v1/object/<digest>", wire.object_path(COUNTING)),
        ("/p2psync/v1/recipe/<digest>", wire.recipe_path(COUNTING)),
        ("/p2psync/v1/archive/<archive>/head", wire.head_path(COUNTING)),
        ("/p2psync/v1/archive/<archive>/holders", wire.holders_path(COUNTING)),
    ],
)
def test_paths(text: str, path: str) -> None:
    assert text in SPEC.read_text(encoding="utf-8")
    assert path == text.replace("<digest>", COUNTING.hex()).replace("<archive>", archive_text(COUNTING))

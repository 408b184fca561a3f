"""Compressed bodies: what goes in comes out, and a bomb unpacks to nothing."""

from __future__ import annotations

import contextlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from p2psync.errors import FormatError
from p2psync.sources.packing import pack, unpack


@given(st.binary(max_size=5000))
def test_what_is_packed_is_unpacked(data: bytes) -> None:
    assert unpack(pack(data), len(data), "it") == data


def test_a_bomb_is_refused_before_it_unpacks() -> None:
    bomb = pack(bytes(64 << 20))
    assert len(bomb) < 10_000
    with pytest.raises(FormatError, match="an answer unpacks to more than 1000 bytes"):
        unpack(bomb, 1000, "an answer")


GOOD = pack(b"content")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"content",
        GOOD[:-1],
        GOOD + b"x",
        GOOD + GOOD,
        zstandard.ZstdCompressor(write_content_size=False).compress(b"content"),
    ],
)
def test_what_is_no_whole_frame_is_refused(raw: bytes) -> None:
    with pytest.raises(FormatError):
        unpack(raw, 1000, "it")


@given(st.binary(max_size=200))
def test_anything_else_is_refused_or_short(raw: bytes) -> None:
    with contextlib.suppress(FormatError):
        assert len(unpack(raw, 100, "it")) <= 100

"""What an older version of a file gives for chunks of the new one."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.chunking import BlockCutter, cut_object
from p2psync.format.listing import file_entry
from p2psync.sources.source import Span
from p2psync.supply.jobs import Job, Target
from p2psync.supply.local import LocalChunks
from p2psync.supply.older import OLD_MAX, SLACK, Gap, Match, gaps, is_right, wants

RANDOM = random.Random(3)
OLD = RANDOM.randbytes(400_000)
D = b"d" * 32

edits = st.lists(st.tuples(st.integers(0, 30_000), st.integers(0, 500), st.binary(max_size=300)), max_size=8)


@given(st.binary(max_size=200), edits)
def test_new_content_is_made_of_old_blocks_and_what_is_asked_for(
    begin: bytes, edits: list[tuple[int, int, bytes]]
) -> None:
    old = OLD[:30_000]
    new = begin + old
    for at, removed, added in edits:
        new = new[:at] + added + new[at + removed :]
    span = Span(D, 100, len(new))
    blocks = BlockCutter().cut(memoryview(new))
    match = Match([old])
    literals = match.literals(span, blocks)
    assert all(each.offset >= 100 and each.offset + each.length <= 100 + len(new) for each in literals)
    came = iter([memoryview(new)[each.offset - 100 : each.offset - 100 + each.length] for each in literals])
    made = bytearray(len(new))
    given_bytes = match.put(blocks, came, memoryview(made))
    assert made == new
    assert next(came, None) is None
    assert given_bytes == len(new) - sum(each.length for each in literals)
    if not edits:
        assert given_bytes > len(old) * 0.9


class FakeLocal:
    """Old content that is in one file."""

    def __init__(self, path: Path, old: bytes) -> None:
        self.path = path
        path.write_bytes(old)
        _, recipe = cut_object(old)
        self.at = {digest: at for (digest, _), at in zip(recipe, recipe.offsets, strict=False)}

    def open_old(self, path: bytes) -> int | None:
        return os.open(self.path, os.O_RDONLY) if path == b"d/f" else None

    def where(self, path: bytes, digest: bytes) -> int | None:
        return self.at.get(digest) if path == b"d/f" else None


def job_of(new: bytes, local: FakeLocal) -> Job:
    """It has what is in both."""
    ref, recipe = cut_object(new)
    job = Job(ref, recipe, [Target(b"d", file_entry(b"f", 0o644, 0, ref), replaces=True)])
    for index, (digest, _) in enumerate(recipe):
        if digest in local.at:
            job.mark(index)
    return job


def listed(local: FakeLocal, job: Job, size: int = 1 << 20, path: bytes = b"d/f") -> Iterator[Gap]:
    return gaps(local, job, path, size)  # type: ignore[arg-type]  # what is used of it


def test_a_gap_has_the_old_bytes_between_the_chunks_that_both_have(tmp_path: Path) -> None:
    new = OLD[:100_000] + b"in between" + OLD[100_000:300_000] + b"instead" + OLD[300_100:]
    local = FakeLocal(tmp_path / "old", OLD)
    job = job_of(new, local)
    found = list(listed(local, job))
    assert len(found) == 2
    assert sum(gap.size for gap in found) == sum(job.recipe.chunk(index)[1] for index in job.missing())
    for gap, at in zip(found, (100_000, 300_000), strict=True):
        assert OLD[at - 50 : at] in gap.old
        assert len(gap.old) < 2 * gap.size
    assert {want.key.number for gap in found for want in wants(gap)} == set(job.missing())


def test_of_a_file_that_shares_no_chunk_the_whole_old_one_is_looked_at(tmp_path: Path) -> None:
    old = OLD[:50_000]
    local = FakeLocal(tmp_path / "old", old)
    job = job_of(b"x" + old[:20_000] + b"y" + old[20_000:], local)
    assert [gap.old for gap in listed(local, job)] == [old]


def test_long_gaps_come_in_parts_with_the_old_bytes_about_there(tmp_path: Path) -> None:
    old = random.Random(4).randbytes(24 << 20)
    local = FakeLocal(tmp_path / "old", old)
    local.at.clear()
    job = job_of(b"moved a little" + old, local)
    found = list(listed(local, job, 4 << 20))
    assert len(found) >= 6
    assert all(len(gap.old) <= OLD_MAX for gap in found)
    for gap in found:
        begin, end = job.bounds(gap.first, gap.last)
        at = old.find(gap.old[:64])
        assert at <= begin and at + len(gap.old) >= min(end, len(old)) - SLACK


def test_an_old_file_that_is_gone_gives_nothing(tmp_path: Path) -> None:
    local = FakeLocal(tmp_path / "old", OLD)
    job = job_of(OLD + b"more", local)
    assert list(listed(local, job, path=b"d/other")) == []


def test_chunks_longer_than_a_row_are_asked_for_in_several_and_verified_as_one() -> None:
    data = RANDOM.randbytes(3 << 20)
    ref, recipe = cut_object(data[: 1 << 16])
    job = Job(ref, recipe if not ref.is_single else None, [])
    (want,) = wants(Gap(job, 0, 1, b""))
    assert [span.length for span in want.spans] == [1 << 16]
    assert is_right(want, memoryview(data)[: 1 << 16])
    assert not is_right(want, memoryview(bytes(1 << 16)))


def test_the_old_content_is_the_one_that_a_run_knows() -> None:
    assert {"open_old", "where"} <= set(dir(LocalChunks)), "what the stand-in above stands for"


@pytest.mark.parametrize("length", [0, 1, 127, 128, 5000])
def test_blocks_make_up_what_they_are_of(length: int) -> None:
    data = memoryview(OLD)[:length]
    blocks = BlockCutter().cut(data)
    assert sum(size for _, size in blocks) == length
    assert all(len(digest) == 6 for digest, _ in blocks)

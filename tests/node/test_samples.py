"""Random chunks of a snapshot: whatever an archive is like, what is drawn is in it, and all of it may be."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from tests.node.publishing import write

from p2psync.daemon.samples import BY_BYTES, BY_FILES, RUN_BYTES, Samples, draw
from p2psync.format.ids import chunk_id
from p2psync.publish import publish
from p2psync.state import State

RANDOM = random.Random(5)


def drawn(state: State, tree: Path, seed: int = 1) -> Samples:
    done = publish(state, tree)
    head = state.heads.newest(done.archive)
    assert head is not None
    made = draw(state, head.snapshot, random.Random(seed))
    assert made is not None
    return made


def test_what_is_drawn_is_what_the_files_have(state: State, tree: Path) -> None:
    write(tree / "large", RANDOM.randbytes(3_000_000))
    for number in range(30):
        write(tree / f"d{number % 4}" / "inner" / f"f{number}", RANDOM.randbytes(1 + 900 * number))
    write(tree / "empty", b"")
    (tree / "link").symlink_to("large")
    samples = drawn(state, tree)
    assert len(samples.anywhere) >= BY_BYTES + BY_FILES // 2
    for sample in [*samples.anywhere, *samples.parts]:
        data = (tree / sample.path.decode()).read_bytes()
        assert sample.ref.size == len(data)
        for offset, length, digest in sample.chunks:
            assert chunk_id(data[offset : offset + length]) == digest
        assert sample.length <= RUN_BYTES


def test_there_is_a_sample_of_each_directory_at_the_root_however_small(state: State, tree: Path) -> None:
    write(tree / "large" / "f", RANDOM.randbytes(3_000_000))
    for number in range(10):
        write(tree / f"small{number}" / "deep" / "f", b"%d" % number)
    (tree / "nothing").mkdir()
    samples = drawn(state, tree)
    assert {sample.part for sample in samples.parts} == {b"large", *(b"small%d" % n for n in range(10))}


def test_files_and_bytes_have_equal_chances(state: State, tree: Path) -> None:
    for number in range(8):
        write(tree / f"d{number % 2}" / f"f{number}", RANDOM.randbytes(2000))
    write(tree / "z", RANDOM.randbytes(1_000_000))
    counted: Counter[bytes] = Counter()
    for seed in range(40):
        counted.update(sample.path for sample in drawn(state, tree, seed).anywhere)
    assert len(counted) == 9
    small = [counted[path] for path in counted if path != b"z"]
    assert max(small) < 2 * min(small)
    assert counted[b"z"] > 40 * BY_BYTES * 0.9


def test_a_directory_of_many_pieces_is_drawn_from_to_its_end(state: State, tree: Path) -> None:
    for number in range(1500):
        write(tree / f"a file with a rather long name, number {number:05}", b"%d" % number)
    paths = sorted(sample.path for seed in range(8) for sample in drawn(state, tree, seed).anywhere)
    assert paths[0] < b"a file with a rather long name, number 00100"
    assert paths[-1] > b"a file with a rather long name, number 01400"


def test_of_an_archive_without_content_nothing_is_drawn(state: State, tree: Path) -> None:
    write(tree / "d" / "empty", b"")
    assert drawn(state, tree)[1:] == ([], [])


def test_a_snapshot_that_is_not_here_has_no_samples(state: State, tree: Path) -> None:
    write(tree / "f", b"f")
    samples = drawn(state, tree)
    assert draw(state, samples.snapshot._replace(digest=bytes(32)), random.Random(1)) is None

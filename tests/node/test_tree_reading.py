"""Reading files that others write to, and cutting large ones in parallel: never a wrong hash."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2psync.chunking import cut_object
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry, Totals, decode_listing
from p2psync.format.recipe import Recipe
from p2psync.format.snapshot import Snapshot
from p2psync.publish import Published, publish
from p2psync.state import State
from p2psync.tree import reading
from p2psync.tree.scan import Found
from p2psync.tree.stamp import COARSE_TICK_NS, FINE_TICK_NS, is_racy


def entries(state: State, done: Published) -> dict[bytes, Entry]:
    raw = state.meta.get(done.head.snapshot.digest)
    assert raw is not None
    listing = state.meta.get(Snapshot.decode(raw).root.digest)
    assert listing is not None
    return {entry.name: entry for entry in decode_listing(listing)}


def mixed(size: int, seed: int) -> bytes:
    """Random, constant and repeating stretches: the constant ones never fall into step on their own."""
    made = random.Random(seed)
    parts = bytearray()
    while len(parts) < size:
        length = made.randrange(1, 400_000)
        kind = made.randrange(4)
        if kind == 0:
            parts += bytes(length)
        elif kind == 1:
            parts += (made.randbytes(made.randrange(1, 300)) * (length // 2 + 1))[:length]
        else:
            parts += made.randbytes(length)
    return bytes(parts[:size])


@given(
    size=st.integers(65_537, 3_000_000),
    seed=st.integers(0, 2**32),
    part=st.sampled_from([70_001, 262_144, 1_000_003]),
    block=st.sampled_from([1, 100_000, 2 << 20]),
)
@settings(max_examples=40)
def test_parallel_cuts_are_those_of_one_pass(size: int, seed: int, part: int, block: int) -> None:
    data = mixed(size, seed)
    expected, recipe = cut_object(data)
    fd = os.memfd_create("content")
    before = reading.RANGE, reading.BLOCK
    try:
        os.write(fd, data)
        with reading.make_pool() as pool, pytest.MonkeyPatch.context() as patch:
            patch.setattr(reading, "RANGE", part)
            patch.setattr(reading, "BLOCK", block)
            done: list[int] = []
            assert reading.hash_large(fd, size, pool, done.append) == (expected, recipe.encode())
            assert sum(done) == size
            assert reading.hash_file(fd, size) == (expected, recipe.encode())
    finally:
        os.close(fd)
    assert before == (reading.RANGE, reading.BLOCK)


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536])
def test_small_files_are_one_chunk(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "f").write_bytes(data)
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    assert reading.hash_file(fd, size) == (cut_object(data)[0], None)
    with pytest.raises(reading.Truncated):
        reading.hash_file(fd, size + 1)
    os.close(fd)


def read_while(path: Path, changes: list[Callable[[], object]]) -> reading.Content:
    """Read a file, with one of `changes` made in the middle of each attempt."""
    fd = os.open(path, os.O_RDONLY)
    pending = list(changes)

    def content(fd: int, size: int) -> tuple[Ref, bytes | None]:
        made = reading.hash_file(fd, size)
        if pending:
            pending.pop(0)()
        return made

    try:
        return reading.read_stable(fd, Found.of(b"f", os.fstat(fd)), content)
    finally:
        os.close(fd)


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"a" * 100)
    made = read_while(path, [lambda: path.write_bytes(b"b" * 100_000), lambda: path.write_bytes(b"c")])
    assert made.ref == cut_object(b"c")[0]
    assert made.found.size == 1
    assert made.read_bytes == 100 + 100_000 + 1


def test_a_file_that_shrinks_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"a" * 100_000)
    fd = os.open(path, os.O_RDONLY)
    listed = Found.of(b"f", os.fstat(fd))
    os.truncate(path, 10)
    assert reading.read_stable(fd, listed, reading.hash_file).ref == cut_object(b"a" * 10)[0]
    os.close(fd)


def test_a_file_that_only_grows_is_taken_as_it_was_at_one_moment(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0")
    lines = iter(range(1, 100))

    def grow() -> None:
        with path.open("ab") as file:
            file.write(b"%d" % next(lines))

    made = read_while(path, [grow] * 4)
    assert made.found.size == 3, "its size when the last reading began"
    assert made.ref == cut_object(b"012")[0]
    assert made.read_bytes == 1 + 2 + 3 + 3
    assert read_while(path, [grow] * 2).found.size == 7, "all of it, if it stands still for once"


def test_a_file_that_is_written_over_while_it_grows_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0")
    texts = iter([b"11", b"222", b"3333", b"44444"])

    def rewrite() -> None:
        path.write_bytes(next(texts))

    with pytest.raises(reading.KeptChanging):
        read_while(path, [rewrite] * 4)


def test_a_file_that_is_cut_off_again_and_again_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0000000")
    with pytest.raises(reading.KeptChanging):
        read_while(path, [lambda: os.truncate(path, path.stat().st_size - 1)] * 4)


def test_publishing_a_growing_file_never_gives_a_wrong_hash(state: State, tree: Path) -> None:
    (tree / "steady").write_bytes(b"steady")
    log = tree / "log"
    log.write_bytes(b"0" * 3_000_000)
    stop = threading.Event()

    def append() -> None:
        with log.open("ab", buffering=0) as file:
            while not stop.is_set():
                file.write(b"line\n")

    writer = threading.Thread(target=append)
    writer.start()
    try:
        done = publish(state, tree)
    finally:
        stop.set()
        writer.join()
    found = entries(state, done)
    assert b"steady" in found
    assert found[b"log"].ref == cut_object(log.read_bytes()[: found[b"log"].size])[0]
    assert done.exit_code == 0 and done.warnings == ()
    after = publish(state, tree)
    assert after.exit_code == 0
    assert entries(state, after)[b"log"].ref == cut_object(log.read_bytes())[0]


def test_what_vanishes_after_it_was_listed_is_left_out(
    state: State, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (tree / name).write_bytes(b"x")
    (tree / "d").mkdir()
    real = os.open

    def vanish(path: bytes | str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == b"b":
            (tree / "b").unlink(missing_ok=True)
        if path == b"d":
            (tree / "d").rmdir()
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", vanish)
    done = publish(state, tree)
    monkeypatch.undo()
    assert entries(state, done).keys() == {b"a", b"c"}
    assert done.exit_code == 24 and len(done.warnings) == 2
    assert publish(state, tree).exit_code == 0


def test_a_link_put_in_place_of_a_file_or_directory_is_not_followed(
    state: State, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "f").write_bytes(b"secret")
    (tree / "f").write_bytes(b"public")
    (tree / "d").mkdir()
    (tree / "pipe").write_bytes(b"public")
    real = os.open

    def swap(path: bytes | str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == b"f" and not (tree / "f").is_symlink():
            (tree / "f").unlink()
            (tree / "f").symlink_to(secret / "f")
        if path == b"d" and not (tree / "d").is_symlink():
            (tree / "d").rmdir()
            (tree / "d").symlink_to(secret)
        if path == b"pipe" and (tree / "pipe").is_file():
            (tree / "pipe").unlink()
            os.mkfifo(tree / "pipe")
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swap)
    done = publish(state, tree)
    monkeypatch.undo()
    found = entries(state, done)
    assert found.keys() == {b"d"} and found[b"d"].totals == Totals(), "no earlier snapshot has it"
    assert done.exit_code == 23 and done.unread == 3
    assert state.trees.find(cut_object(b"secret")[0].digest) == []
    assert entries(state, publish(state, tree)).keys() == {b"f", b"d"}


def test_listings_do_not_depend_on_the_order_of_the_scan(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        path = tree / f"d{number % 4}" / f"f{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(number * 3000))
    real = os.scandir

    class Shuffled:
        def __init__(self, fd: int) -> None:
            with real(fd) as found:
                self.entries = list(found)
            random.shuffle(self.entries)

        def __enter__(self) -> list[os.DirEntry[str]]:
            # Entries look themselves up beneath the descriptor, which stays open for the length of the scan.
            return self.entries

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Shuffled)
    roots = set()
    for number in range(4):
        with State.open(tmp_path / f"s{number}") as state:
            roots.add(publish(state, tree).root)
    assert len(roots) == 1


def test_recipes_of_large_files_are_kept(state: State, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SPLIT_OVER", 2 << 20)
    monkeypatch.setattr(reading, "RANGE", 1 << 20)
    for name, size in (("inline", 300_000), ("pooled", 1_500_000), ("split", 5_000_000)):
        (tree / name).write_bytes(mixed(size, size))
    done = publish(state, tree)
    for path, entry in entries(state, done).items():
        raw = state.meta.get_recipe(entry.digest)
        assert raw is not None
        assert Recipe.decode(raw, entry.ref) == cut_object((tree / path.decode()).read_bytes())[1]


def test_racy_means_that_both_times_are_as_late_as_the_reading() -> None:
    now = 1_700_000_000_123_456_789
    assert is_racy(now, now, now)
    assert is_racy(now - FINE_TICK_NS, now, now)
    assert not is_racy(now - FINE_TICK_NS - 1, now, now)
    assert not is_racy(now, now - FINE_TICK_NS - 1, now)
    assert not is_racy(now, now, 0)
    whole = 1_700_000_000_000_000_000
    assert is_racy(whole - 1_000_000_000, whole, whole)
    assert not is_racy(whole - COARSE_TICK_NS - 1_000_000_000, whole, whole)

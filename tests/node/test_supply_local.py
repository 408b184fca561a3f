"""Chunks that are on this machine already: found where they lie, and never believed without reading them."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.node.simulator import MTIME, content

from p2psync.chunking import cut_alike, cut_object
from p2psync.format.ids import Ref, chunk_id
from p2psync.format.listing import Entry, Totals, dir_entry, encode_listing, file_entry
from p2psync.format.reserved import PARTIAL
from p2psync.plan.changes import DirWork, Plan
from p2psync.state import State
from p2psync.state.trees import FileRow
from p2psync.supply import local as reuse
from p2psync.supply.local import LocalChunks
from p2psync.tree.beneath import Beneath

DATA = content("old", 300_000)
REF, RECIPE = cut_object(DATA)


class Bench:
    """A DEST with old content, and a plan that replaces or does not have it."""

    def __init__(self, folder: Path) -> None:
        self.dest = folder / "dest"
        self.dest.mkdir()
        self.state = State.open(folder / "state")
        self.tree = self.state.trees.ensure(bytes(self.dest), "fetch", None)
        self.beneath = Beneath(bytes(self.dest))
        self.local = LocalChunks(self.state, self.tree, self.beneath)
        self.list([file_entry(b"replaced", 0o644, MTIME, Ref(5, b"n" * 32))])

    def list(self, entries: list[Entry]) -> None:
        """What the snapshot has."""
        raw = encode_listing(entries)
        listing, _ = cut_object(raw)
        self.state.meta.put(listing, raw)
        size = sum(entry.size for entry in entries)
        root = dir_entry(b"", 0o755, MTIME, listing, Totals(1, 0, 0, size))
        self.work = DirWork(b"", listing, 0o755, MTIME, exists=True)
        self.plan = Plan(root, [self.work], files=1, size=size)

    def begin_anew(self) -> None:
        """As a run begins with what the index has by now."""
        self.local.close()
        self.local = LocalChunks(self.state, self.tree, self.beneath)

    def close(self) -> None:
        self.local.close()
        self.beneath.close()
        self.state.close()

    def found(self) -> int:
        """Chunks of DATA that can be had."""
        return sum(self.read(digest, length) is not None for digest, length in RECIPE)

    def read(self, digest: bytes, length: int) -> bytes | None:
        place = memoryview(bytearray(length))
        return bytes(place) if self.local.read(digest, place) else None

    def row(self, path: Path) -> FileRow:
        at = path.stat()
        return FileRow(
            os.fsencode(path.name), at.st_size, at.st_mtime_ns, at.st_ctime_ns, at.st_ino, REF.digest
        )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def test_a_file_that_is_going_to_be_replaced(bench: Bench) -> None:
    (bench.dest / "replaced").write_bytes(DATA)
    bench.work.replaced.append(0)
    bench.local.scan(bench.plan)
    assert bench.found() == len(RECIPE)
    assert bench.read(b"x" * 32, 10) is None


@pytest.mark.parametrize(("was", "becomes"), [(60_000, 90_000), (1 << 27, (1 << 27) + 5000)])
def test_a_file_whose_new_size_is_cut_otherwise_is_cut_again_here(
    bench: Bench, was: int, becomes: int
) -> None:
    old = random.Random(was).randbytes(was)
    new = (b"begins otherwise" + old + random.Random(1).randbytes(30_000))[:becomes]
    assert not cut_alike(was, becomes)
    entries = [file_entry(b"replaced", 0o644, MTIME, cut_object(new)[0])]
    bench.list(entries)
    (bench.dest / "replaced").write_bytes(old)
    bench.work.replaced.append(0)
    bench.local.scan(bench.plan)
    wanted = list(cut_object(new)[1])
    lacking = sum(length for digest, length in wanted if bench.read(digest, length) is None)
    assert lacking < 1 << 17
    assert lacking < becomes - 20_000


def test_files_that_the_snapshot_does_not_have(bench: Bench) -> None:
    (bench.dest / "was" / "deep").mkdir(parents=True)
    (bench.dest / "was" / "deep" / "file").write_bytes(DATA)
    os.mkfifo(bench.dest / "was" / "pipe")
    (bench.dest / "was" / "link").symlink_to("/etc/passwd")
    bench.work.extraneous = [b"was"]
    bench.local.scan(bench.plan)
    assert bench.found() == len(RECIPE)


def test_what_an_earlier_run_left(bench: Bench) -> None:
    (bench.dest / PARTIAL.decode()).mkdir()
    (bench.dest / PARTIAL.decode() / "old-1-1").write_bytes(DATA)
    bench.local.scan(bench.plan)
    assert bench.found() == len(RECIPE)


def test_an_unfinished_object_is_known_by_its_name(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(fd: int, size: int) -> tuple[Ref, bytes | None]:
        raise AssertionError("read a file whose recipe is known")

    monkeypatch.setattr(reuse, "hash_file", never)
    (bench.dest / PARTIAL.decode()).mkdir()
    half = DATA[:150_000] + bytes(150_000)
    (bench.dest / PARTIAL.decode() / REF.digest.hex()).write_bytes(half)
    bench.state.meta.put_recipe(REF.digest, RECIPE.encode())
    bench.local.scan(bench.plan)
    assert 0 < bench.found() < len(RECIPE)


def test_what_changed_since_the_scan_is_noticed(bench: Bench) -> None:
    path = bench.dest / "replaced"
    path.write_bytes(DATA)
    bench.work.replaced.append(0)
    bench.local.scan(bench.plan)
    with path.open("r+b") as file:
        file.seek(200_000)
        file.write(b"changed")
    assert bench.found() == len(RECIPE) - 1
    os.truncate(path, 100_000)
    assert 0 < bench.found() < len(RECIPE) / 2
    path.unlink()
    assert bench.found() == 0


def test_a_file_that_was_put_aside_is_read_there(bench: Bench) -> None:
    (bench.dest / "replaced").write_bytes(DATA)
    bench.work.replaced.append(0)
    bench.local.scan(bench.plan)
    (bench.dest / "replaced").rename(bench.dest / "aside")
    assert bench.found() == 0
    bench.local.moved(b"replaced", b"aside")
    assert bench.found() == len(RECIPE)


def test_a_file_that_the_index_knows_is_not_read_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bench.dest / "replaced"
    path.write_bytes(DATA)
    bench.state.trees.put_files(bench.tree.id, b"", [bench.row(path)])
    bench.state.meta.put_recipe(REF.digest, RECIPE.encode())
    bench.work.replaced.append(0)
    sizes: list[int] = []
    monkeypatch.setattr(reuse, "hash_file", lambda fd, size: sizes.append(size))
    bench.local.scan(bench.plan)
    assert (bench.found(), sizes) == (len(RECIPE), [])


def test_a_dest_full_of_other_things_is_read_within_a_budget(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reuse, "SCAN_BYTES_MIN", 700_000)
    read: list[int] = []
    real = cut_object

    def noting(fd: int, size: int) -> tuple[Ref, bytes | None]:
        read.append(size)
        ref, recipe = real(os.pread(fd, size, 0))
        return ref, recipe.encode()

    monkeypatch.setattr(reuse, "hash_file", noting)
    for number in range(10):
        (bench.dest / f"foreign {number}").write_bytes(content(number, 300_000))
    bench.work.extraneous = [b"foreign %d" % number for number in range(10)]
    bench.local.scan(bench.plan)
    assert sum(read) <= 700_000


def test_the_same_object_in_any_tree(bench: Bench, tmp_path: Path) -> None:
    copy = _copy_of_data(bench, tmp_path / "other")
    bench.begin_anew()

    def found() -> bytes | None:
        bench.local.expect([REF.digest])
        fd = bench.local.whole(REF)
        assert (fd is not None) == (REF.digest in bench.local.knows([REF.digest]))
        if fd is None:
            return None
        try:
            return os.pread(fd, REF.size, 0)
        finally:
            os.close(fd)

    assert found() == DATA
    copy.touch()
    assert found() is None
    copy.unlink()
    assert found() is None
    os.mkfifo(copy)  # opened without waiting for somebody to write into it
    assert found() is None
    copy.unlink()
    copy.symlink_to("elsewhere")
    assert found() is None


def test_an_object_that_was_removed_after_it_was_expected(bench: Bench, tmp_path: Path) -> None:
    copy = _copy_of_data(bench, tmp_path / "other")
    bench.begin_anew()
    bench.local.expect([REF.digest])
    copy.unlink()
    assert bench.local.whole(REF) is None
    os.mkfifo(copy)
    assert bench.local.whole(REF) is None


def test_a_copy_serves_where_others_of_it_are_gone(bench: Bench, tmp_path: Path) -> None:
    for name in ("unmounted", "emptied", "replaced"):
        _copy_of_data(bench, tmp_path / name)
    (tmp_path / "unmounted").rename(tmp_path / "elsewhere")
    (tmp_path / "emptied" / "copy").unlink()
    (tmp_path / "replaced" / "copy").write_bytes(b"other")
    for number in range(9):  # more trees than are looked into for one object
        _copy_of_data(bench, tmp_path / f"gone {number}")
        shutil.rmtree(tmp_path / f"gone {number}")
    copy = _copy_of_data(bench, tmp_path / "there")
    bench.begin_anew()
    bench.local.expect([REF.digest])
    fd = bench.local.whole(REF)
    assert fd is not None
    assert os.fstat(fd).st_ino == copy.stat().st_ino
    os.close(fd)


def test_only_what_is_among_old_chunks_counts_as_being_here(bench: Bench) -> None:
    small = content("small", 5_000)
    (bench.dest / "replaced").write_bytes(small)
    bench.work.replaced.append(0)
    bench.local.scan(bench.plan)
    assert bench.local.has_chunks
    own, other = chunk_id(small), chunk_id(b"other")
    bench.local.expect([other, own])
    assert set(bench.local.knows([own, other])) == {own}


def _copy_of_data(bench: Bench, folder: Path) -> Path:
    """A file with DATA in a tree of its own, which the index knows."""
    folder.mkdir()
    (folder / "copy").write_bytes(DATA)
    tree = bench.state.trees.ensure(bytes(folder), "publish", os.urandom(32))
    bench.state.trees.put_files(tree.id, b"", [bench.row(folder / "copy")])
    return folder / "copy"


def test_a_scan_that_is_stopped_ends(bench: Bench) -> None:
    (bench.dest / "replaced").write_bytes(DATA)
    bench.work.replaced.append(0)
    bench.local.stop()
    bench.local.scan(bench.plan)
    assert bench.found() == 0

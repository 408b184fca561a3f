"""The index is kept true to the disk: what has the same bytes gets its new stamp, what has not is told of."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.node.publishing import OLD, write

from p2psync.chunking import cut_object
from p2psync.content.library import StateLibrary
from p2psync.daemon import recheck as module
from p2psync.daemon.recheck import DAILY, FIRST_LOOK, Recheck
from p2psync.format.recipe import Recipe
from p2psync.publish import publish
from p2psync.state import FileRow, State, Tree
from p2psync.tree.opener import FileContent
from p2psync.tree.recheck import Checked, recheck

LARGE = os.urandom(1 << 20)


class Bench:
    """A published tree, and what looks after it; time passes when a test says so."""

    def __init__(self, state: State, path: Path) -> None:
        self.state = state
        self.path = path
        write(path / "a/small", b"small")
        write(path / "a/other", b"other")
        write(path / "large", LARGE)
        write(path / "empty", b"")
        self.published = publish(state, path)
        self.library = StateLibrary(state)
        self.said: list[str] = []
        self.now = 0.0
        self.recheck = Recheck(
            state, self.library.doubts, self.said.append, self.said.append, lambda: self.now
        )

    @property
    def tree(self) -> Tree:
        found = self.state.trees.get(os.fsencode(self.path))
        assert found is not None
        return found

    def look(self) -> None:
        """All trees are looked at, when nobody has changed anything for some time."""
        self.now += DAILY + FIRST_LOOK
        self.recheck.round()

    def open(self, data: bytes) -> FileContent | None:
        content = self.library.open(cut_object(data)[0].digest)
        assert content is None or isinstance(content, FileContent)
        return content

    def is_quick(self, data: bytes) -> bool:
        """Whether content is sent from disk to wire, without being read."""
        content = self.open(data)
        assert content is not None
        content.close()
        return not content.reads


@pytest.fixture
def bench(state: State, tree: Path) -> Bench:
    return Bench(state, tree)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The names of the files that are hashed in the background."""
    names: list[bytes] = []

    def noted(folder: int, row: FileRow, recipe: Recipe, breathe: Callable[[], None]) -> Checked:
        names.append(row.name)
        return recheck(folder, row, recipe, breathe)

    monkeypatch.setattr(module, "recheck", noted)
    return names


def copy(path: Path) -> None:
    shutil.copytree(path, path.with_name("copy"))
    shutil.rmtree(path)
    path.with_name("copy").rename(path)


async def test_what_was_copied_is_sent_from_disk_to_wire_again(bench: Bench) -> None:
    copy(bench.path)
    assert not bench.is_quick(b"small")
    bench.recheck.round()
    assert bench.is_quick(b"small")
    assert bench.is_quick(b"other"), "who found one file changed has the others of the directory looked at"
    assert not bench.recheck.losses()
    assert bench.said == []


def test_nobody_has_to_ask_first(bench: Bench) -> None:
    copy(bench.path)
    bench.look()
    assert bench.is_quick(LARGE)
    assert bench.is_quick(b"small")


def test_rows_say_who_put_a_file_there_as_before(bench: Bench) -> None:
    trees, tree = bench.state.trees, bench.tree
    mine = trees.files_in(tree.id, b"a")[b"small"]._replace(hashed_ns=0)
    trees.put_files(tree.id, b"a", [mine])
    copy(bench.path)
    bench.look()
    rows = trees.files_in(tree.id, b"a")
    assert rows[b"small"].ino == (bench.path / "a/small").stat().st_ino != mine.ino
    assert (rows[b"small"].hashed_ns, bool(rows[b"other"].hashed_ns)) == (0, True)


def test_a_row_that_somebody_else_wrote_meanwhile_stays(bench: Bench) -> None:
    trees, tree = bench.state.trees, bench.tree
    old = trees.files_in(tree.id, b"a")[b"small"]
    newer = old._replace(digest=b"\1" * 32)
    trees.put_files(tree.id, b"a", [newer])
    assert trees.renew_files(tree.id, b"a", [(old, old._replace(ino=1))]) == 0
    assert trees.files_in(tree.id, b"a")[b"small"] == newer


def test_a_publisher_reads_nothing_again_after_that(bench: Bench) -> None:
    copy(bench.path)
    bench.look()
    again = publish(bench.state, bench.path)
    assert not again.changed
    assert again.read_bytes == 0


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("removed", "'large' is missing"),
        ("other bytes", "'large' has other bytes"),
        ("shorter", "'large' is shorter"),
        ("a directory", "'large' cannot be read, or is no file any more"),
    ],
)
def test_a_loss_is_told_once_and_so_is_its_end(bench: Bench, harm: str, told: str) -> None:
    path = bench.path / "large"
    path.unlink()
    if harm == "a directory":
        path.mkdir()
    elif harm != "removed":
        write(path, LARGE[:-1] + b"x" if harm == "other bytes" else LARGE[:-1])
    for _ in range(3):
        bench.look()
    (loss,) = bench.recheck.losses().values()
    assert (loss.files, loss.size, loss.first, loss.gone) == (1, len(LARGE), b"large", False)
    assert len(bench.said) == 1
    assert "1 file (1.00 MiB) of its archive" in bench.said[0]
    assert told in bench.said[0]
    path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
    write(path, LARGE)
    bench.look()
    assert not bench.recheck.losses()
    assert len(bench.said) == 2
    assert bench.is_quick(LARGE)


def test_holders_of_a_part_say_which_part(bench: Bench) -> None:
    digest = cut_object(LARGE)[0].digest
    assert bench.library.have([digest]) == [True]
    write(bench.path / "large", bytes(100_000) + LARGE[100_000:])
    bench.look()
    (left,) = bench.library.have([digest])
    assert isinstance(left, bytes)
    assert not left[0] & 0x80
    assert any(left)
    (bench.path / "large").unlink()
    bench.look()
    assert bench.library.have([digest]) == [False]
    write(bench.path / "large", LARGE)
    bench.look()
    assert bench.library.have([digest]) == [True]


@pytest.mark.parametrize("mount_point", [False, True])
def test_a_directory_of_which_nothing_is_there_is_told_as_such(bench: Bench, mount_point: bool) -> None:
    bench.path.rename(bench.path.with_name("unmounted"))
    if mount_point:
        bench.path.mkdir()
    bench.look()
    (loss,) = bench.recheck.losses().values()
    assert loss.gone
    assert "has nothing of its archive" in bench.said[0]
    if mount_point:
        bench.path.rmdir()
    bench.path.with_name("unmounted").rename(bench.path)
    bench.look()
    assert not bench.recheck.losses()


def test_when_the_last_of_it_goes_too_that_is_told(bench: Bench) -> None:
    changes: list[None] = []
    bench.recheck.changed = lambda: changes.append(None)
    (bench.path / "large").unlink()
    bench.look()
    bench.path.rename(bench.path.with_name("unmounted"))
    bench.look()
    bench.path.with_name("unmounted").rename(bench.path)
    bench.look()
    assert ["no longer has" in bench.said[0], "has nothing of" in bench.said[1]] == [True, True]
    assert (len(bench.said), len(changes)) == (2, 3)


def test_however_many_ask_each_file_is_read_once(bench: Bench, read: list[bytes]) -> None:
    copy(bench.path)

    def ask(_: int) -> bool:
        return not any(bench.is_quick(data) for data in (b"small", b"other", LARGE))

    with ThreadPoolExecutor(8) as clients:
        assert all(clients.map(ask, range(200)))
    bench.recheck.round()
    bench.look()
    assert sorted(read) == [b"empty", b"large", b"other", b"small"]
    assert all(bench.is_quick(data) for data in (b"small", b"other", LARGE))


def test_a_mirror_is_told_what_to_type(bench: Bench) -> None:
    tree = bench.tree
    tree.role, tree.source = "mirror", "p2psync://x"
    bench.state.trees.update(tree)
    (bench.path / "large").unlink()
    bench.look()
    assert f"p2psync mirror p2psync://x {bench.path} --once --checksum" in bench.said[0]


def test_a_file_that_has_grown_is_no_loss_and_is_read_once(bench: Bench, read: list[bytes]) -> None:
    with open(bench.path / "large", "ab") as file:
        file.write(b"more")
    for _ in range(3):
        bench.look()
    assert not bench.recheck.losses()
    assert read == [b"large"]
    content = bench.open(LARGE)
    assert content is not None
    assert content.size == len(LARGE)
    content.close()


def test_files_that_no_snapshot_has_are_no_loss(bench: Bench) -> None:
    trees, tree = bench.state.trees, bench.tree
    row = trees.files_in(tree.id, b"a")[b"small"]
    trees.put_files(tree.id, b"a", [row._replace(name=b"mine", digest=b"\2" * 32)])
    bench.look()
    assert not bench.recheck.losses()


def test_a_tree_that_somebody_works_on_is_left_alone(bench: Bench) -> None:
    (bench.path / "large").unlink()
    with bench.state.lock_place(os.fsencode(bench.path)):
        bench.look()
        assert not bench.recheck.losses()
    bench.now += 60
    bench.recheck.round()
    assert bench.recheck.losses()


def test_nothing_is_left_open(bench: Bench) -> None:
    copy(bench.path)
    before = set(os.listdir("/proc/self/fd"))
    bench.look()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_file_that_was_touched_just_now_is_looked_at_again(bench: Bench) -> None:
    os.utime(bench.path / "large")  # a write within the same tick would get the same times
    bench.look()
    row = bench.state.trees.files_in(bench.tree.id, b"")[b"large"]
    assert row.mtime_ns == OLD
    assert not bench.recheck.losses()
    assert bench.recheck.round() <= module.BUSY


async def test_it_runs_beside_a_node_and_ends_with_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()
    bench.recheck.changed = lambda: loop.call_soon_threadsafe(changed.set)
    monkeypatch.setattr(module, "SETTLE", 0.001)
    (bench.path / "large").unlink()
    running = asyncio.create_task(bench.recheck.run())
    try:
        await asyncio.sleep(0)
        assert bench.open(LARGE) is None  # which is what wakes it
        async with asyncio.timeout(20):
            await changed.wait()
        assert bench.recheck.losses()
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert bench.library.doubts.wake is None

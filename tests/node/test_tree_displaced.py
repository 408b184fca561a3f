"""Directories that a file or a link replaces: they stay until it is there, serve, and are gone at the end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from tests.node.fetch_world import SIZE, World, changed
from tests.node.simulator import MTIME, Link, Tree, content
from tests.node.workspace_bench import OLD, Bench, bench, entry  # noqa: F401 - a fixture

from p2psync.errors import FileError
from p2psync.fetch.options import Delete
from p2psync.format.listing import symlink_entry
from p2psync.supply.jobs import Target
from p2psync.tree import displaced as aside
from p2psync.tree.beneath import Beneath, ChangedMeanwhile
from p2psync.tree.exchange import exchange
from p2psync.tree.survey import survey
from p2psync.tree.way import InTheWay

HELD: Tree = {b"big": content("held", 300_000), b"sub": {b"small": b"small", b"link": Link(b"x")}}
NAMES_HELD = 5
"""The directory, and all in it."""
FOLDER = ".p2psync.partial"


def before(world: World) -> None:
    """DEST has a directory ``x`` that came from the archive."""
    world.publisher.publish(changed(x=HELD))
    world.fetch()
    assert world.differs() == []


def held(world: World) -> bool:
    """Whether the directory ``x`` is all there."""
    place = world.dest / "x"
    return (
        (place / "big").read_bytes() == HELD[b"big"]
        and (place / "sub" / "small").read_bytes() == b"small"
        and (place / "sub" / "link").is_symlink()
    )


def lack(world: World, data: bytes | None) -> None:
    """No source has ``data`` (None: all have everything)."""
    gone = None if data is None else world.publisher.put(data).digest
    for source in world.sources.values():
        source.lacks = lambda digest: digest == gone


@pytest.mark.parametrize("delete", [Delete.OWN, Delete.ALL])
def test_while_nobody_has_what_replaces_it_the_directory_stays(world: World, delete: Delete) -> None:
    before(world)
    new = content("new", 300_000)
    world.publisher.publish(changed(x=new, other=b"other"))
    lack(world, new)
    summary = world.fetch(delete=delete)
    assert (summary.missing, summary.deleted, summary.kept) == ([b"x"], 0, [])
    assert held(world)
    assert (world.dest / "other").read_bytes() == b"other"
    (tree,) = world.state.trees.all()
    assert world.state.trees.files_in(tree.id, b"x/sub")
    lack(world, None)
    summary = world.fetch(delete=delete)
    assert (summary.missing, summary.deleted, summary.kept) == ([], NAMES_HELD, [])
    assert world.differs() == []
    assert not (world.dest / FOLDER).exists()
    assert world.state.trees.files_in(tree.id, b"x") == world.state.trees.files_in(tree.id, b"x/sub") == {}
    assert b"x" in world.state.trees.files_in(tree.id, b"")


@pytest.mark.parametrize("fresh", [False, True], ids=["indexed", "not indexed"])
def test_equal_content_is_taken_from_the_directory(world: World, fresh: bool) -> None:
    before(world)
    data = HELD[b"big"]
    assert isinstance(data, bytes)
    if fresh:
        world.fresh_state()
    world.publisher.publish(changed(x=data, y=data[100_000:] + b"more"))
    summary = world.fetch(delete=Delete.ALL)
    assert world.differs() == []
    assert summary.received < 100_000  # the end of y, and metadata
    assert summary.reused >= SIZE + 400_000
    assert summary.deleted == NAMES_HELD


def test_its_chunks_serve_after_it_was_replaced(world: World) -> None:
    """The link comes first, the files that hold the same content later."""
    before(world)
    data = HELD[b"big"]
    world.publisher.publish(changed(x=Link(b"y"), y=data))
    summary = world.fetch()
    assert world.differs() == []
    assert summary.received < 30_000
    assert summary.deleted == NAMES_HELD


def test_without_an_exchange_in_one_step_it_takes_two(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(aside, "exchange", refuse)
    before(world)
    world.publisher.publish(changed(x=HELD[b"big"], pool=Link(b"x")))
    summary = world.fetch()
    assert world.differs() == []
    assert (summary.deleted, summary.kept) == (NAMES_HELD + 101, [])
    assert not (world.dest / FOLDER).exists()


@pytest.mark.parametrize("delete", list(Delete))
@pytest.mark.parametrize("new", [b"a file", content("new", 200_000), Link(b"big")], ids=["1", "many", "link"])
def test_what_the_user_put_there_goes_as_the_policy_says(
    world: World, delete: Delete, new: bytes | Link
) -> None:
    before(world)
    (world.dest / "x" / "sub" / "mine").write_text("mine")
    world.publisher.publish(changed(x=new))
    for _ in range(2):
        summary = world.fetch(delete=delete)
        if delete == Delete.ALL:
            assert (summary.deleted, summary.kept, summary.exit_code) == (NAMES_HELD + 1, [], 0)
            assert world.differs() == []
            return
        assert held(world)
        assert (world.dest / "x" / "sub" / "mine").read_text() == "mine"
        assert (summary.deleted, summary.kept, summary.exit_code) == (0, [b"x"], 23)
        assert summary.failed == ["'x': a directory that is not empty is in the way"]


@pytest.mark.parametrize("delete", list(Delete))
def test_an_empty_directory_always_makes_way(world: World, delete: Delete) -> None:
    (world.dest / "big").mkdir(parents=True)
    (world.dest / "link").mkdir()
    summary = world.fetch(delete=delete)
    assert world.differs() == []
    assert (summary.deleted, summary.kept, summary.exit_code) == (2, [], 0)


@pytest.mark.parametrize("delete", [Delete.OWN, Delete.ALL])
def test_what_comes_into_it_while_the_fetch_runs_is_not_lost(
    world: World, delete: Delete, monkeypatch: pytest.MonkeyPatch
) -> None:
    before(world)
    world.publisher.publish(changed(x=b"a file"))
    real = aside.Aside.replace_directory

    def late(*arguments: Any) -> None:
        (world.dest / "x" / "sub" / "mine").write_text("mine")
        real(*arguments)

    monkeypatch.setattr(aside.Aside, "replace_directory", late)
    summary = world.fetch(delete=delete)
    if delete == Delete.ALL:
        assert world.differs() == []
    else:
        assert held(world)
        assert (world.dest / "x" / "sub" / "mine").read_text() == "mine"
        assert summary.failed == [
            "'x': the directory in its place was changed while the fetch went on; run again"
        ]


def test_what_a_killed_run_put_aside_serves_the_next_one_and_goes(world: World) -> None:
    before(world)
    data = HELD[b"big"]
    (world.dest / FOLDER).mkdir()
    name = f"old-{os.getpid()}-0"
    (world.dest / "x").rename(world.dest / FOLDER / name)
    (world.dest / "pool" / "000.deb").write_bytes(b"touched")
    world.publisher.publish(changed(y=data, big={b"now": b"a directory"}, notes=b"a file"))
    summary = world.fetch()
    assert world.differs() == []
    assert summary.received < 60_000
    assert not (world.dest / FOLDER).exists()


def test_a_directory_that_cannot_be_moved_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before(world)
    (world.dest / "x").chmod(0o555)
    world.publisher.publish(changed(x=content("new", 200_000)))
    real = os.rename

    def refuse(source: Any, target: Any, **more: Any) -> None:
        if source == b"x":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        real(source, target, **more)

    def refuse_too(*_: Any) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", refuse)
        patched.setattr(aside, "exchange", refuse_too)
        summary = world.fetch(delete=Delete.ALL)
    assert held(world)
    assert stat.S_IMODE((world.dest / "x").stat().st_mode) == 0o555
    (failed,) = summary.failed
    assert "cannot be moved away (Device or resource busy); move or remove it" in failed
    assert summary.deleted == 0
    summary = world.fetch(delete=Delete.ALL)
    assert world.differs() == []
    assert summary.received < 60_000  # It was whole and waited.


def test_one_on_another_file_system_stays(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    place = bench.dest / "mounted" / "x"
    (place / "inner").mkdir(parents=True)
    real = os.rename

    def rename(source: Any, target: Any, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{src_dir_fd}") != os.readlink(f"/proc/self/fd/{dst_dir_fd}"):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", rename)
    bench.workspace.aside.allow({b"mounted/x": None})
    with pytest.raises(InTheWay, match="cross-device"):
        bench.make(bench.job(b"x", OLD, directory=b"mounted"), OLD)
    with pytest.raises(InTheWay, match="cross-device"):
        link = Target(b"mounted", symlink_entry(b"x", MTIME, b"target"))
        bench.workspace.make_symlink(link, bench.local)
    monkeypatch.undo()
    bench.end(complete=True)
    assert os.listdir(bench.dest / "mounted") == ["x"]
    assert os.listdir(place) == ["inner"]


def test_what_cannot_be_removed_in_the_end_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    (bench.dest / "x" / "inner").mkdir(parents=True)
    bench.workspace.aside.allow({b"x": None})
    bench.workspace.place_empty(Target(b"", entry(b"x", b"")), bench.local)

    def refuse(*_: Any) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Beneath, "remove", refuse)
    with pytest.raises(FileError, match=r"removing '\.p2psync\.partial/old-"):
        bench.workspace.aside.clear()
    monkeypatch.undo()
    bench.again()
    bench.workspace.aside.clear()
    bench.end()
    assert (os.listdir(bench.dest), (bench.dest / "x").read_bytes()) == (["x"], b"")


def test_a_seal_is_broken_by_any_change(bench: Bench, tmp_path: Path) -> None:  # noqa: F811
    place = bench.dest / "x"
    (place / "sub" / "deep").mkdir(parents=True)
    (place / "sub" / "file").write_text("file")
    (place / "sub" / "link").symlink_to(tmp_path)
    seals = [survey(bench.beneath, b"x")]
    assert seals[0].names == 5
    assert survey(bench.beneath, b"x") == seals[0]
    for change in (
        (place / "sub" / "deep" / "mine").touch,
        lambda: (place / "sub" / "file").write_text("FILE and more"),
        lambda: (place / "sub" / "file").chmod(0o600),
        lambda: (place / "sub" / "file").rename(place / "file"),
        (place / "sub" / "link").unlink,
    ):
        change()
        seals.append(survey(bench.beneath, b"x"))
    assert len({each.seal for each in seals}) == len(seals)
    bench.workspace.aside.allow({b"x": seals[0].seal})
    with pytest.raises(ChangedMeanwhile):
        bench.workspace.place_empty(Target(b"", entry(b"x", b"")), bench.local)
    assert (place / "sub" / "deep" / "mine").exists()
    bench.end()


def test_exchange_swaps_two_names(tmp_path: Path) -> None:
    (tmp_path / "dir" / "inner").mkdir(parents=True)
    (tmp_path / "file").write_text("file")
    fd = os.open(tmp_path, os.O_RDONLY)
    exchange(fd, b"file", fd, b"dir")
    assert (tmp_path / "dir").read_text() == "file"
    assert (tmp_path / "file" / "inner").is_dir()
    with pytest.raises(FileNotFoundError):
        exchange(fd, b"file", fd, b"none")
    os.close(fd)

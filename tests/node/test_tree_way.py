"""What makes way for something new: it stays until that is there, serves until the end, and goes."""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

import pytest
from tests.node.simulator import MTIME
from tests.node.writer_bench import NEW, OLD, WriterBench, target

from p2psync.format.reserved import PARTIAL
from p2psync.tree import way
from p2psync.tree.beneath import Beneath
from p2psync.tree.orders import File, MakeFiles
from p2psync.tree.survey import survey
from p2psync.tree.trouble import NOT_EMPTY


def hold(writing: WriterBench, path: bytes = b"x") -> None:
    """A directory with something in it."""
    place = writing.place(path)
    (place / "sub" / "deep").mkdir(parents=True)
    (place / "sub" / "file").write_bytes(b"held")


def held(writing: WriterBench, path: bytes = b"x") -> bool:
    return (writing.place(path) / "sub" / "file").read_bytes() == b"held"


def refuse(number: int) -> Any:
    def refusing(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    return refusing


@pytest.mark.parametrize("small", [True, False], ids=["one chunk", "many chunks"])
def test_an_old_file_serves_until_the_end(writing: WriterBench, small: bool) -> None:
    """Another file that wants chunks of it may come after the one that takes its place."""
    writing.place(b"d").mkdir()
    writing.place(b"d/file").write_bytes(OLD)
    if small:
        done = writing.do(writing.small(b"d/file", b"new", replaces=True))
    else:
        done = writing.make_new(b"d/file", replaces=True)
    ((where, aside),) = done.displaced
    assert where == b"d/file"
    assert writing.place(aside).read_bytes() == OLD
    assert writing.place(b"d/file").read_bytes() == (b"new" if small else NEW)
    assert writing.tidy() == (0, 0, 0, 0)
    assert os.listdir(writing.dest) == ["d"]


def test_what_holds_no_chunks_is_not_kept(writing: WriterBench) -> None:
    writing.place(b"empty").touch()
    writing.place(b"link").symlink_to("x")
    for name in (b"empty", b"link", b"none"):
        assert writing.do(writing.small(name, b"new", replaces=True)).displaced == []


def test_without_hard_links_the_file_is_replaced_all_the_same(
    writing: WriterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    writing.place(b"file").write_bytes(OLD)
    assert writing.make_new(b"file", replaces=True).displaced == []
    assert writing.place(b"file").read_bytes() == NEW


@pytest.mark.parametrize("kind", ["file", "link", "object"])
@pytest.mark.parametrize("steps", [1, 2])
def test_a_directory_goes_when_what_replaces_it_comes(
    writing: WriterBench, kind: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(writing)
    writing.may_replace(b"x")
    if steps == 2:  # Not every file system can exchange names.
        monkeypatch.setattr(way, "exchange", refuse(errno.EINVAL))
    if kind == "file":
        done = writing.do(writing.small(b"x", b"new"))
    elif kind == "object":
        done = writing.make_new(b"x")
    else:
        assert not isinstance(writing.link(b"x", b"y"), str)
        done = None
    assert not writing.place(b"x").is_dir()
    if done is not None:
        ((where, aside),) = done.displaced
        assert (where, done.removed) == (b"x", 4)
        assert held(writing, aside)
    assert writing.tidy() == (0, 0, 0, 0)
    assert os.listdir(writing.dest) == ["x"]


def test_what_an_incomplete_run_put_aside_serves_the_next_one_and_goes(writing: WriterBench) -> None:
    hold(writing)
    writing.place(b"file").write_bytes(OLD)
    writing.may_replace(b"x")
    writing.make(b"x", b"new")
    writing.make(b"file", b"new", replaces=True)
    writing.again()
    assert writing.partial == {"old-0", "old-1"}
    assert held(writing, PARTIAL + b"/old-0")
    hold(writing, b"y")
    writing.may_replace(b"y")
    assert writing.do(writing.small(b"y", b"new")).displaced == [(b"y", PARTIAL + b"/old-2")]
    writing.write_new(0, 1)
    writing.tidy()
    assert all(not name.startswith("old-") for name in writing.partial)
    assert len(writing.partial) == 1  # The unfinished object.


def test_a_directory_that_may_not_go_stays(writing: WriterBench) -> None:
    hold(writing)
    assert writing.make(b"x", b"new") == NOT_EMPTY
    assert held(writing)


def test_one_that_changed_since_it_was_looked_at_stays(writing: WriterBench) -> None:
    hold(writing)
    beneath = Beneath(bytes(writing.dest))
    seal = survey(beneath, b"x").seal
    beneath.close()
    (writing.place(b"x") / "sub" / "mine").touch()
    writing.may_replace(b"x", seal=seal)
    result = writing.make(b"x", b"new")
    assert result == "the directory in its place was changed while the fetch went on; run again"
    assert held(writing)
    (writing.place(b"x") / "sub" / "mine").unlink()


def test_a_directory_that_cannot_be_moved_stays(
    writing: WriterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(writing)
    writing.place(b"x").chmod(0o555)
    writing.may_replace(b"x")
    real = os.rename

    def refusing(source: Any, name: Any, **more: Any) -> None:
        if source == b"x":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        real(source, name, **more)

    writing.write_new()
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", refusing)
        patched.setattr(way, "exchange", refuse(errno.EBUSY))
        (result,) = writing.finish_new(target(b"x")).results
    assert isinstance(result, str)
    assert "cannot be moved away (Device or resource busy); move or remove it" in result
    assert held(writing)
    assert stat.S_IMODE(writing.place(b"x").stat().st_mode) == 0o555
    assert len(writing.partial) == 1  # The object is whole and waits.
    writing.make_new(b"x")
    assert writing.place(b"x").read_bytes() == NEW


def across(patched: pytest.MonkeyPatch) -> None:
    """Let no name go from one directory to another, as where file systems meet, or layers of an overlay."""
    real = os.rename

    def rename(source: Any, name: Any, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        if os.fstat(src_dir_fd).st_ino != os.fstat(dst_dir_fd).st_ino:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, name, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    patched.setattr(os, "rename", rename)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_one_that_cannot_be_moved_is_removed(
    writing: WriterBench, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    hold(writing, b"mounted/x")
    across(monkeypatch)
    writing.may_replace(b"mounted/x")
    made = writing.make if kind == "file" else writing.link
    assert isinstance(made(b"mounted/x", b"new"), tuple)
    assert os.listdir(writing.place(b"mounted")) == ["x"]
    assert not writing.place(b"mounted/x").is_dir()
    assert writing.partial == set()


def test_one_that_can_be_neither_moved_nor_emptied_stays(
    writing: WriterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(writing, b"mounted/x")
    across(monkeypatch)
    unlink = os.unlink

    def keep_one(name: bytes, *, dir_fd: int) -> None:
        if name == b"file":
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", keep_one)
    writing.may_replace(b"mounted/x")
    result = writing.make(b"mounted/x", b"new")
    assert result == "'x/sub/file' in it stays: Operation not permitted"
    assert writing.place(b"mounted/x").is_dir()


def test_what_cannot_be_removed_in_the_end_is_named(
    writing: WriterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(writing)
    writing.may_replace(b"x")
    writing.make(b"x", b"new")
    with monkeypatch.context() as patched:
        patched.setattr(way, "remove_tree", refuse(errno.EPERM))
        result = writing.tidy()
    assert result == "removing '.p2psync.partial/old-0' failed: Operation not permitted"
    writing.end()
    assert os.listdir(writing.dest) == ["x"]


def test_when_all_work_ends_what_made_way_goes_too(
    writing: WriterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may be full of just that."""
    hold(writing)
    writing.may_replace(b"x")
    writing.make(b"x", b"new")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", refuse(errno.ENOSPC))
        writing.broken(MakeFiles(1, b"", [File(b"f", 0o644, MTIME, 0, 1, False)]))
    writing.again()
    assert os.listdir(writing.dest) == ["x"]


def test_a_very_deep_directory_can_be_removed(writing: WriterBench) -> None:
    fd = os.open(writing.dest, os.O_RDONLY)
    for name in ["x", *["d"] * 1500]:
        os.mkdir(name, dir_fd=fd)
        inner = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    writing.may_replace(b"x")
    done = writing.do(writing.small(b"x", b"new"))
    assert done.removed == 1501
    writing.end()
    assert os.listdir(writing.dest) == ["x"]

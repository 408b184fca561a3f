"""What orders make in DEST: whenever it stops, old files or new ones stand there, never half ones."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.node.simulator import MTIME
from tests.node.writer_bench import DIGEST, NEW, OLD, PART, WriterBench, target

from p2psync.format.reserved import PARTIAL
from p2psync.tree.maker import TreeWriter
from p2psync.tree.orders import (
    Attributes,
    Broken,
    Dress,
    DressDirectories,
    File,
    MakeDirectory,
    MakeFiles,
    OpenObject,
    Remove,
    SetAttributes,
    WriteObject,
)
from p2psync.tree.trouble import FULL_MAX, NOT_EMPTY, explain

BEFORE_1970 = -86_400_000_000_001


def stamp(path: Path) -> tuple[int, int, int, int]:
    found = path.lstat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def attributes(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return stat.S_IMODE(found.st_mode), found.st_mtime_ns


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
@pytest.mark.parametrize("mode", [0o640, 0o666, 0o4755, 0o1000, 0, 0o444])
def test_a_small_file_gets_content_mode_and_time_whatever_the_umask(
    writing: WriterBench, mode: int, mask: int
) -> None:
    before = os.umask(mask)
    try:
        result = writing.make(b"file", b"small", mode=mode, mtime_ns=BEFORE_1970)
        empty = writing.make(b"empty", b"", mode=mode)
    finally:
        os.umask(before)
    assert writing.place(b"file").read_bytes() == b"small"
    assert attributes(writing.place(b"file")) == (mode, BEFORE_1970)
    assert attributes(writing.place(b"empty")) == (mode, MTIME)
    assert (result, empty) == (stamp(writing.place(b"file")), stamp(writing.place(b"empty")))
    writing.end()
    assert sorted(os.listdir(writing.dest)) == ["empty", "file"]


def test_an_object_of_several_chunks_for_several_places(writing: WriterBench) -> None:
    results = writing.write_new()
    assert all(not isinstance(each, str) for each in results)
    assert writing.partial == {DIGEST.hex()}
    done = writing.finish_new(target(b"one"), target(b"deep/er/two", 0o600))
    one, two = writing.place(b"one"), writing.place(b"deep/er/two")
    assert one.read_bytes() == two.read_bytes() == NEW
    assert one.stat().st_ino != two.stat().st_ino
    assert (attributes(one), attributes(two)) == ((0o640, MTIME), (0o600, MTIME))
    assert done.results == [stamp(one), stamp(two)]
    writing.end()
    assert sorted(os.listdir(writing.dest)) == ["deep", "one"]


def test_copies_are_made_without_the_help_of_the_kernel_too(
    writing: WriterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr("p2psync.tree.placing.copy_range", refuse)
    writing.write_new()
    writing.finish_new(target(b"one"), target(b"two"))
    assert writing.place(b"one").read_bytes() == writing.place(b"two").read_bytes() == NEW


def test_an_unfinished_object_stays_for_a_later_run(writing: WriterBench) -> None:
    writing.write_new(0, 2)
    writing.again()
    held = writing.place(PARTIAL) / DIGEST.hex()
    assert (held.stat().st_size, held.read_bytes()[: 2 * PART]) == (len(NEW), NEW[: 2 * PART])
    assert stat.S_IMODE(held.stat().st_mode) == 0o600
    writing.write_new(2)
    writing.finish_new(target(b"file"))
    assert writing.place(b"file").read_bytes() == NEW


def test_an_object_that_is_finished_without_targets_is_closed_and_kept(writing: WriterBench) -> None:
    writing.write_new(0, 1)
    assert writing.finish_new().results == []
    (result,) = writing.do(WriteObject(7, DIGEST, [(0, 0, 1)])).results
    assert isinstance(result, str)
    assert writing.finish_new(target(b"file")).results == [result]
    assert writing.partial == {DIGEST.hex()}


@pytest.mark.parametrize("size", [0, 1, len(NEW) - 1, len(NEW) + 1, 10 * len(NEW)])
def test_a_leftover_of_another_size_is_made_to_fit(writing: WriterBench, size: int) -> None:
    writing.place(PARTIAL).mkdir()
    (writing.place(PARTIAL) / DIGEST.hex()).write_bytes((NEW * 11)[:size])
    writing.make_new(b"file")
    assert writing.place(b"file").read_bytes() == NEW


def test_a_leftover_that_is_also_something_else_is_not_written_to(writing: WriterBench) -> None:
    """A pipe, or a hard link to a file elsewhere, under the name of an unfinished object."""
    folder = writing.place(PARTIAL)
    folder.mkdir()
    os.mkfifo(folder / DIGEST.hex())
    writing.make_new(b"file")
    writing.place(b"mine").write_bytes(b"mine")
    (folder / DIGEST.hex()).hardlink_to(writing.place(b"mine"))
    writing.make_new(b"other")
    assert writing.place(b"file").read_bytes() == writing.place(b"other").read_bytes() == NEW
    assert writing.place(b"mine").read_bytes() == b"mine"


def test_a_whole_leftover_that_cannot_be_written_is_used(
    writing: WriterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = writing.place(PARTIAL) / DIGEST.hex()
    path.parent.mkdir()
    path.write_bytes(NEW)
    path.chmod(0o444)
    real = os.open

    def guarded(name: Any, flags: int, *rest: Any, **more: Any) -> int:
        """What a user without privileges meets."""
        if name == DIGEST.hex().encode() and not path.stat().st_mode & stat.S_IWUSR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(name, flags, *rest, **more)

    monkeypatch.setattr(os, "open", guarded)
    writing.do(OpenObject(1, DIGEST, len(NEW)))
    writing.finish_new(target(b"file"))
    assert writing.place(b"file").read_bytes() == NEW


def test_leftovers_of_small_files_are_swept(writing: WriterBench) -> None:
    writing.place(PARTIAL).mkdir()
    (writing.place(PARTIAL) / "tmp-7").write_text("half")
    (writing.place(PARTIAL) / "tmp-8").mkdir()
    writing.make(b"file", b"small")
    assert writing.partial == set()


def test_nothing_is_made_before_an_order_asks_for_it(writing: WriterBench) -> None:
    writing.do(DressDirectories(1, [Dress(b"", 0o755, MTIME)]))
    writing.do(Remove(2, b"", [(b"none", True)]))
    assert writing.tidy() == (0, 0, 0, 0)
    assert os.listdir(writing.dest) == []


def test_dest_itself_is_made(tmp_path: Path) -> None:
    writer = TreeWriter(bytes(tmp_path / "new"))
    writer.carry_out(MakeDirectory(1, b""))
    writer.carry_out(MakeDirectory(2, b"a/b"))
    writer.close()
    assert (tmp_path / "new" / "a" / "b").is_dir()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    fact = TreeWriter(bytes(tmp_path / "none")).carry_out(MakeFiles(3, b"", []))
    assert fact == Broken(3, errno.ENOENT, b"", "opening the directory")


def test_what_concerns_one_path_does_not_stop_the_others(writing: WriterBench) -> None:
    (writing.dest / "full" / "mine").mkdir(parents=True)
    files = [File(name, 0o644, MTIME, 0, 1, False) for name in (b"a", b"full", b"x" * 256, b"b")]
    first, second, third, fourth = writing.do(MakeFiles(1, b"", files)).results
    assert (first, fourth) == (stamp(writing.place(b"a")), stamp(writing.place(b"b")))
    assert (second, third) == (NOT_EMPTY, "File name too long")
    assert writing.link(b"full", b"x") == NOT_EMPTY
    writing.write_new()
    done = writing.finish_new(target(b"full"), target(b"c"))
    assert done.results == [NOT_EMPTY, stamp(writing.place(b"c"))]
    assert (writing.dest / "full" / "mine").exists()
    assert writing.partial == set()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("call", ["write", "rename", "utime"])
def test_what_ends_all_work_is_told_and_leaves_nothing_half(
    writing: WriterBench, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    writing.place(b"file").write_bytes(OLD)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    order = writing.small(b"file", b"new")
    writing.make(b"other", b"new")
    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        broken = writing.broken(order)
    assert broken == Broken(1, number, b"file", "writing")
    assert "file" in str(explain(broken))
    assert writing.place(b"file").read_bytes() == OLD
    assert writing.partial == set()


@pytest.mark.parametrize("call", ["pwrite", "ftruncate"])
def test_an_object_that_the_file_system_refuses_in_part_is_not_put_in_place(
    writing: WriterBench, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A file system has a largest file (4 GiB on vfat): what of an object is below that can be written."""
    writing.place(b"file").write_bytes(OLD)
    kept = getattr(os, call)

    def refuse(fd: int, *arguments: Any) -> Any:
        if arguments[-1] >= PART:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return kept(fd, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        results = writing.write_new()
    assert os.strerror(errno.EFBIG) in results
    assert writing.finish_new(target(b"file", replaces=True)).results == [os.strerror(errno.EFBIG)]
    assert writing.place(b"file").read_bytes() == OLD
    writing.make_new(b"file", replaces=True)
    assert writing.place(b"file").read_bytes() == NEW


def test_only_one_writer_at_a_time(writing: WriterBench, tmp_path: Path) -> None:
    """Two would sweep away each other's files; the second may have another state directory."""
    order = writing.small(b"file", b"new")
    writing.do(order)
    second = TreeWriter(bytes(writing.dest), frozenset(), memoryview(bytes(2000)))
    broken = second.carry_out(order)
    second.close()
    assert isinstance(broken, Broken)
    assert broken.errno == errno.EWOULDBLOCK
    where = f"another p2psync is at work on {str(writing.dest)!r}: process {os.getpid()} ("
    assert str(explain(broken)).startswith(where)
    writing.writer.close()
    third = WriterBench(tmp_path)
    third.do(order)
    third.writer.close()
    writing.begin()


def test_a_writer_that_waits_gets_the_folder_from_one_that_removes_it(
    writing: WriterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = writing.small(b"file", b"new")
    writing.do(order)
    monkeypatch.setattr("time.sleep", lambda _: writing.writer.close())
    second = TreeWriter(bytes(writing.dest), frozenset(), memoryview(bytes(2000)), wait=60)
    assert not isinstance(second.carry_out(order), Broken)
    second.close()
    writing.begin()
    assert os.listdir(writing.dest) == ["file"]


def test_a_file_system_without_locks_will_do(writing: WriterBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr("fcntl.flock", refuse)
    writing.make(b"file", b"small")
    assert writing.place(b"file").read_bytes() == b"small"


@pytest.mark.parametrize("data", [b"small", NEW], ids=["one chunk", "many chunks"])
def test_another_file_system_within_dest(
    writing: WriterBench, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.rename
    there = writing.place(b"mounted")
    there.mkdir()
    (there / ".p2psync-tmp-1").write_text("left by a run that was killed")
    (there / "hollow").mkdir()

    def across(source: Any, target: Any, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        if os.fstat(src_dir_fd).st_ino != os.fstat(dst_dir_fd).st_ino:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", across)
    if data == NEW:
        (result,) = writing.make_new(b"mounted/file").results
        writing.make_new(b"mounted/hollow")
    else:
        result = writing.make(b"mounted/file", data)
        writing.make(b"mounted/hollow", data)
    assert writing.link(b"mounted/link", b"file") == stamp(there / "link")
    writing.end()
    assert sorted(os.listdir(there)) == ["file", "hollow", "link"]
    assert (there / "file").read_bytes() == (there / "hollow").read_bytes() == data
    assert attributes(there / "file") == (0o640, MTIME)
    assert (there / "link").lstat().st_mtime_ns == MTIME
    assert result == stamp(there / "file")
    assert os.listdir(writing.dest) == ["mounted"]


def test_links_replace_files_and_links_but_no_full_directory(writing: WriterBench) -> None:
    writing.place(b"file").write_text("old")
    writing.place(b"link").symlink_to("old")
    writing.place(b"hollow").mkdir()
    (writing.place(b"full") / "mine").mkdir(parents=True)
    for name in (b"file", b"link", b"hollow", b"fresh"):
        assert writing.link(name, b"../target\xff", BEFORE_1970) == stamp(writing.place(name))
        path = os.path.join(os.fsencode(writing.dest), name)
        assert os.readlink(path) == b"../target\xff"
        assert os.lstat(path).st_mtime_ns == BEFORE_1970
    assert writing.link(b"full", b"x") == NOT_EMPTY
    writing.end()
    assert (writing.place(b"full") / "mine").exists()


def test_a_result_is_about_the_file_that_was_made(
    writing: WriterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who replaces it at once must not have his content taken for ours."""
    real = os.rename

    def raced(source: Any, target: Any, **more: Any) -> None:
        real(source, target, **more)
        other = writing.dest / "other"
        other.write_bytes(b"SMALL")
        real(other, writing.dest / "file")

    monkeypatch.setattr(os, "rename", raced)
    result = writing.make(b"file", b"small")
    assert result != stamp(writing.dest / "file")


# Mode and time alone.


def test_mode_and_time_alone(writing: WriterBench) -> None:
    path = writing.place(b"file")
    path.write_bytes(b"small")
    order = SetAttributes(1, b"", [Attributes(b"file", 0o755, BEFORE_1970, stamp(path))])
    (result,) = writing.do(order).results
    assert attributes(path) == (0o755, BEFORE_1970)
    assert result == stamp(path)
    assert os.listdir(writing.dest) == ["file"]


@pytest.mark.parametrize("kind", ["content", "link", "pipe", "gone"])
def test_mode_and_time_are_not_put_on_what_changed_since(
    writing: WriterBench, kind: str, tmp_path: Path
) -> None:
    path = writing.place(b"file")
    path.write_bytes(b"small")
    order = SetAttributes(1, b"", [Attributes(b"file", 0o755, MTIME, stamp(path))])
    path.unlink()
    precious = tmp_path / "precious"
    precious.write_bytes(b"small")
    if kind == "content":
        path.write_bytes(b"SMALL")
    elif kind == "link":
        path.symlink_to(precious)
    elif kind == "pipe":
        os.mkfifo(path)
    (result,) = writing.do(order).results
    assert isinstance(result, str)
    assert precious.stat().st_mtime_ns != MTIME
    assert not path.exists() or path.stat().st_mtime_ns != MTIME


def test_a_file_that_its_owner_cannot_read_gets_its_mode(
    writing: WriterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = writing.place(b"file")
    path.write_bytes(b"small")
    path.chmod(0o200)
    real = os.open

    def guarded(name: Any, flags: int, *rest: Any, **more: Any) -> int:
        """What a user without privileges meets."""
        if not flags & os.O_PATH and name == b"file" and not path.stat().st_mode & stat.S_IRUSR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(name, flags, *rest, **more)

    monkeypatch.setattr(os, "open", guarded)
    order = SetAttributes(1, b"", [Attributes(b"file", 0o000, MTIME, stamp(path))])
    (result,) = writing.do(order).results
    assert attributes(path) == (0, MTIME)
    assert result == stamp(path)


# Directories.


def test_a_directory_is_opened_for_the_work_and_dressed_in_the_end(
    writing: WriterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing.place(b"d").mkdir(mode=0o500)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (result,) = writing.do(MakeDirectory(1, b"d")).results
    assert stat.S_IMODE(writing.place(b"d").stat().st_mode) == 0o700
    assert not isinstance(result, str)
    dress = [Dress(b"d", 0o500, BEFORE_1970), Dress(b"none", 0o500, MTIME), Dress(b"", None, BEFORE_1970)]
    mode = stat.S_IMODE(writing.dest.stat().st_mode)
    results = writing.do(DressDirectories(2, dress)).results
    assert attributes(writing.place(b"d")) == (0o500, BEFORE_1970)
    assert attributes(writing.dest) == (mode, BEFORE_1970)
    assert results == [stamp(writing.place(b"d")), "No such file or directory", stamp(writing.dest)]
    writing.do(DressDirectories(3, [Dress(b"", 0o711, None)]))
    assert attributes(writing.dest) == (0o711, BEFORE_1970)


def test_removal_says_how_many_names_went(writing: WriterBench) -> None:
    (writing.dest / "d" / "sub").mkdir(parents=True)
    (writing.dest / "d" / "sub" / "file").write_text("x")
    (writing.dest / "full" / "mine").mkdir(parents=True)
    (writing.dest / "hollow").mkdir()
    (writing.dest / "file").write_text("x")
    names = [(b"d", True), (b"full", False), (b"hollow", False), (b"file", False), (b"none", True)]
    results = writing.do(Remove(1, b"", names)).results
    assert results == [(3, 0, 0, 0), NOT_EMPTY, (1, 0, 0, 0), (1, 0, 0, 0), (0, 0, 0, 0)]
    assert os.listdir(writing.dest) == ["full"]
    assert writing.do(Remove(1, b"not/there", [(b"x", True)])).results == [(0, 0, 0, 0)]


def test_what_is_spared_stays_with_all_above_it(tmp_path: Path) -> None:
    writing = WriterBench(tmp_path, frozenset([b"a/b/state"]))
    (writing.dest / "a" / "b" / "state").mkdir(parents=True)
    for directory, name in ((b"", b"a"), (b"a", b"b"), (b"a/b", b"state")):
        for flag in (True, False):
            (result,) = writing.do(Remove(1, directory, [(name, flag)])).results
            assert result == "Device or resource busy"
    writing.may_replace(b"a")
    result = writing.make(b"a", b"a file")
    assert isinstance(result, str)
    assert "the state directory is in it" in result
    writing.writer.close()
    assert (writing.dest / "a" / "b" / "state").is_dir()


def test_a_directory_opened_for_a_removal_is_closed_again(
    writing: WriterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing.place(b"d").mkdir()
    (writing.place(b"d") / "file").write_text("x")
    writing.place(b"d").chmod(0o555)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert writing.do(Remove(1, b"d", [(b"file", False)])).results == [(1, 0, 0, 0)]
    assert stat.S_IMODE(writing.place(b"d").stat().st_mode) == 0o555


# A crash at any step.


CALLS: tuple[str, ...] = (
    "open",
    "rename",
    "write",
    "pwrite",
    "pread",
    "link",
    "unlink",
    "fchmod",
    "utime",
    "mkdir",
    "rmdir",
    "ftruncate",
    "stat",
    "fstat",
    "symlink",
    "close",
)


class Killed(BaseException):
    """The process is gone: nothing after this happens, no clean-up either."""


def crash_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let every call to the system from ``step`` on fail; how many there were."""
    done = [0]
    for name in CALLS:
        real = getattr(os, name)

        def call(*arguments: Any, _real: Any = real, **more: Any) -> Any:
            if done[0] >= step:
                raise Killed
            done[0] += 1
            return _real(*arguments, **more)

        monkeypatch.setattr(os, name, call)
    return lambda: done[0]


def work(writing: WriterBench) -> None:
    """One of everything that changes DEST."""
    writing.may_replace(b"full", b"linked")
    writing.do(MakeDirectory(1, b"new/dir"))
    writing.write_new()
    writing.finish_new(target(b"file", replaces=True), target(b"new/dir/copy"))
    writing.make(b"small", b"new", replaces=True)
    writing.link(b"link", b"new")
    writing.make(b"full", b"new")
    writing.link(b"linked", b"new")
    touched = writing.place(b"touched")
    writing.do(SetAttributes(8, b"", [Attributes(b"touched", 0o640, MTIME, stamp(touched))]))
    writing.do(Remove(9, b"", [(b"extra", True)]))
    writing.tidy(everything=True)


def prepare(dest: Path) -> None:
    (dest / "file").write_bytes(OLD)
    (dest / "small").write_bytes(b"old")
    (dest / "link").symlink_to("old")
    (dest / "touched").write_bytes(b"same")
    for name in ("full", "linked", "extra"):
        (dest / name / "deep").mkdir(parents=True)
        (dest / name / "deep" / "file").write_bytes(b"old")


def old_or_new(dest: Path) -> None:
    assert (dest / "file").read_bytes() in (OLD, NEW)
    assert (dest / "small").read_bytes() in (b"old", b"new")
    assert str((dest / "link").readlink()) in ("old", "new")
    assert (dest / "touched").read_bytes() == b"same"
    for name in ("full", "linked"):
        path = dest / name
        stays = (path / "deep" / "file").exists() and (path / "deep" / "file").read_bytes() == b"old"
        assert stays or (path.is_symlink() if name == "linked" else path.read_bytes() == b"new")
    copy = dest / "new" / "dir" / "copy"
    assert not copy.exists() or copy.read_bytes() == NEW
    if (dest / "file").read_bytes() == NEW:
        assert attributes(dest / "file") == (0o640, MTIME)


def test_a_crash_at_any_step_leaves_old_or_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = 0
    while True:
        folder = tmp_path / str(step)
        folder.mkdir()
        writing = WriterBench(folder)
        prepare(writing.dest)
        killed = False
        with monkeypatch.context() as patched:
            crash_at(step, patched)
            try:
                work(writing)
            except Killed:
                killed = True
        old_or_new(writing.dest)
        if killed:
            die(writing)
        else:
            writing.writer.close()
        # The next run finishes it, whatever was left.
        writing.begin()
        work(writing)
        writing.writer.close()
        assert sorted(os.listdir(writing.dest)) == [
            "file",
            "full",
            "link",
            "linked",
            "new",
            "small",
            "touched",
        ]
        assert (writing.dest / "file").read_bytes() == NEW
        assert (writing.dest / "new" / "dir" / "copy").read_bytes() == NEW
        assert (writing.dest / "small").read_bytes() == (writing.dest / "full").read_bytes() == b"new"
        assert (writing.dest / "linked").is_symlink()
        if not killed:
            break
        step += 1
    assert step > 50


def die(writing: WriterBench) -> None:
    """What the kernel does when a process dies: close what it had open, which unlocks the folder."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if Path(f"/proc/self/fd/{fd}").readlink().is_relative_to(writing.dest):
                os.close(fd)


def test_one_refused_write_does_not_end_the_work(
    writing: WriterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quota of one directory, or a file larger than what is free: the next one may fit."""
    write = os.write

    def full(fd: int, data: Any) -> int:
        if len(data) > 100 and bytes(data[:1]) == b"x":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data)

    monkeypatch.setattr(os, "write", full)
    assert writing.make(b"large", b"x" * 200) == os.strerror(errno.ENOSPC)
    assert isinstance(writing.make(b"small", b"x"), tuple)


def test_a_disk_that_takes_small_files_only_ends_the_work_in_the_end(
    writing: WriterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a whole archive would be fetched for nothing."""
    write = os.write

    def full(fd: int, data: Any) -> int:
        if bytes(data[:1]) == b"x":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data)

    monkeypatch.setattr(os, "write", full)
    for number in range(FULL_MAX):
        assert writing.make(b"%d" % number, b"x") == os.strerror(errno.ENOSPC)
    assert writing.broken(writing.small(b"last", b"x")).errno == errno.ENOSPC


def test_a_file_keeps_its_place_without_a_mode_that_it_cannot_have(
    writing: WriterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file system without modes every file is root's, and chmod(2) is refused to everybody else."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fchmod", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    told = "it is there, but without its mode and time (Operation not permitted)"
    assert writing.make(b"small", b"new") == told
    assert writing.link(b"link", b"target") == told
    writing.write_new()
    assert writing.finish_new(target(b"large"), target(b"copy")).results == [told, told]
    assert writing.place(b"small").read_bytes() == b"new"
    assert os.readlink(writing.place(b"link")) == "target"
    assert writing.place(b"large").read_bytes() == writing.place(b"copy").read_bytes() == NEW

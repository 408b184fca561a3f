"""Making files in DEST: whenever it stops, old files or new ones stand there, never half ones."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.node.simulator import MTIME
from tests.node.workspace_bench import NEW, OLD, Bench, entry

from p2psync.chunking import cut_object
from p2psync.format.ids import Ref
from p2psync.format.listing import symlink_entry
from p2psync.format.recipe import Recipe
from p2psync.plan.changes import DirWork
from p2psync.supply.jobs import Target
from p2psync.supply.local import PARTIAL
from p2psync.tree.beneath import ChangedMeanwhile
from p2psync.tree.writer import job_for


@pytest.mark.parametrize("data", [b"", b"small", NEW], ids=["empty", "one chunk", "many chunks"])
def test_a_file_gets_content_mode_time_and_a_row(bench: Bench, data: bytes) -> None:
    job = bench.job(b"file", data) if data else None
    if job is None:
        bench.workspace.place_empty(Target(b"", entry(b"file", b"")), bench.local)
    else:
        bench.make(job, data)
    bench.end(complete=True)
    found = (bench.dest / "file").stat()
    assert (bench.dest / "file").read_bytes() == data
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o640, MTIME)
    row = bench.state.trees.files_in(bench.tree.id, b"")[b"file"]
    assert (row.size, row.mtime_ns, row.ctime_ns, row.ino) == (
        len(data),
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_ino,
    )
    assert row.digest == cut_object(data)[0].digest
    assert os.listdir(bench.dest) == ["file"]


def test_one_object_for_several_places(bench: Bench) -> None:
    job = bench.job(b"one", NEW)
    job.targets.append(Target(b"deep/er", entry(b"two", NEW, 0o600)))
    bench.make(job, NEW)
    bench.end(complete=True)
    one, two = bench.dest / "one", bench.dest / "deep" / "er" / "two"
    assert one.read_bytes() == two.read_bytes() == NEW
    assert one.stat().st_ino != two.stat().st_ino
    assert stat.S_IMODE(two.stat().st_mode) == 0o600


def test_what_an_interrupted_run_had_is_not_fetched_again(bench: Bench) -> None:
    job = bench.job(b"file", NEW)
    bench.workspace.open_job(job)
    bench.write(job, NEW, 5)
    bench.again()
    assert bench.partial == {job.ref.digest.hex()}
    second = bench.job(b"file", NEW)
    bench.workspace.open_job(second)
    assert second.left == len(second.recipe) - 5
    assert bench.workspace.reused == second.recipe.offsets[5]
    bench.write(second, NEW)
    bench.place(second)
    bench.end(complete=True)
    assert (bench.dest / "file").read_bytes() == NEW
    assert bench.partial == set()


def test_damage_in_what_an_interrupted_run_left_is_noticed(bench: Bench) -> None:
    job = bench.job(b"file", NEW)
    bench.workspace.open_job(job)
    bench.write(job, NEW)
    bench.again()
    path = bench.dest / PARTIAL.decode() / job.ref.digest.hex()
    with path.open("r+b") as file:
        file.seek(job.recipe.offsets[3])
        file.write(b"rotten")
    second = bench.job(b"file", NEW)
    bench.workspace.open_job(second)
    assert list(second.missing()) == [3]
    bench.end()


@pytest.mark.parametrize("size", [0, 1, len(NEW) - 1, len(NEW) + 1, 10 * len(NEW)])
def test_a_leftover_of_another_size_is_made_to_fit(bench: Bench, size: int) -> None:
    job = bench.job(b"file", NEW)
    path = bench.dest / PARTIAL.decode() / job.ref.digest.hex()
    path.write_bytes((NEW * 11)[:size])
    bench.make(job, NEW)
    bench.end(complete=True)
    assert (bench.dest / "file").read_bytes() == NEW


def test_a_whole_leftover_that_cannot_be_written_is_used(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = bench.job(b"file", NEW)
    path = bench.dest / PARTIAL.decode() / job.ref.digest.hex()
    path.write_bytes(NEW)
    path.chmod(0o444)
    real = os.open

    def guarded(name: Any, flags: int, *rest: Any, **more: Any) -> int:
        """What a user without privileges meets."""
        if name == job.ref.digest.hex().encode() and not path.stat().st_mode & stat.S_IWUSR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(name, flags, *rest, **more)

    monkeypatch.setattr(os, "open", guarded)
    bench.workspace.open_job(job)
    assert not job.left
    bench.place(job)
    bench.end(complete=True)
    assert (bench.dest / "file").read_bytes() == NEW


def test_leftovers_of_small_files_are_swept(bench: Bench) -> None:
    (bench.dest / PARTIAL.decode() / "tmp-7").write_text("half")
    bench.again()
    assert bench.partial == set()
    bench.end()


def test_a_failed_place_leaves_nothing_behind(bench: Bench) -> None:
    (bench.dest / "file").mkdir()
    (bench.dest / "file" / "mine").write_text("keep")
    job = bench.job(b"file", b"small")
    job.targets.append(Target(b"", entry(b"other", b"small")))
    bench.write(job, b"small")
    with pytest.raises(OSError, match="not empty"):
        bench.workspace.place(job.targets[0], job, bench.local, False)
    assert bench.partial == set()
    bench.end(complete=True)
    assert (bench.dest / "file" / "mine").read_text() == "keep"


def test_an_old_file_serves_until_the_end(bench: Bench) -> None:
    """Another file that wants chunks of it may come after the one that takes its place."""
    (bench.dest / "file").write_bytes(OLD)
    job = bench.job(b"file", NEW, replaces=True)
    bench.make(job, NEW)
    assert len(bench.partial) == 1
    aside = bench.dest / PARTIAL.decode() / bench.partial.pop()
    assert aside.read_bytes() == OLD
    assert bench.local._moved[b"file"] == PARTIAL + b"/" + aside.name.encode()
    bench.end(complete=True)
    assert os.listdir(bench.dest) == ["file"]


def test_without_hard_links_the_file_is_replaced_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    (bench.dest / "file").write_bytes(OLD)
    bench.make(bench.job(b"file", NEW, replaces=True), NEW)
    bench.end(complete=True)
    assert (bench.dest / "file").read_bytes() == NEW


@pytest.mark.parametrize("data", [b"small", NEW], ids=["one chunk", "many chunks"])
def test_another_file_system_within_dest(bench: Bench, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.rename

    def across(source: Any, target: Any, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        if src_dir_fd != dst_dir_fd:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", across)
    bench.make(bench.job(b"file", data, directory=b"mounted"), data)
    link = Target(b"mounted", symlink_entry(b"link", MTIME, b"file"))
    bench.workspace.make_symlink(link, bench.local)
    bench.end(complete=True)
    there = bench.dest / "mounted"
    assert sorted(os.listdir(there)) == ["file", "link"]
    assert (there / "file").read_bytes() == data
    assert (there / "file").stat().st_mtime_ns == MTIME
    assert (there / "link").lstat().st_mtime_ns == MTIME
    row = bench.state.trees.files_in(bench.tree.id, b"mounted")[b"file"]
    assert (row.ino, row.ctime_ns) == ((there / "file").stat().st_ino, (there / "file").stat().st_ctime_ns)
    assert os.listdir(bench.dest) == ["mounted"]


def test_links_replace_files_and_links_but_no_full_directory(bench: Bench) -> None:
    (bench.dest / "file").write_text("old")
    (bench.dest / "link").symlink_to("old")
    (bench.dest / "hollow").mkdir()
    (bench.dest / "full").mkdir()
    (bench.dest / "full" / "mine").write_text("keep")
    for name in (b"file", b"link", b"hollow", b"fresh"):
        bench.workspace.make_symlink(Target(b"", symlink_entry(name, MTIME, b"../target\xff")), bench.local)
        path = os.path.join(os.fsencode(bench.dest), name)
        assert os.readlink(path) == b"../target\xff"
        assert os.lstat(path).st_mtime_ns == MTIME
    with pytest.raises(OSError, match="not empty"):
        bench.workspace.make_symlink(Target(b"", symlink_entry(b"full", MTIME, b"x")), bench.local)
    bench.end(complete=True)
    assert (bench.dest / "full" / "mine").read_text() == "keep"


def test_metadata_alone(bench: Bench) -> None:
    path = bench.dest / "file"
    path.write_bytes(b"small")
    inode = path.stat().st_ino
    bench.index(path, b"small")
    bench.workspace.set_metadata(Target(b"", entry(b"file", b"small", 0o755)))
    bench.end(complete=True)
    found = path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns, found.st_ino) == (0o755, MTIME, inode)


def test_metadata_is_not_put_on_what_changed_since_the_comparison(bench: Bench) -> None:
    path = bench.dest / "file"
    path.write_bytes(b"small")
    bench.index(path, b"small")
    path.write_bytes(b"SMALL")
    with pytest.raises(ChangedMeanwhile):
        bench.workspace.set_metadata(Target(b"", entry(b"file", b"small", 0o755)))
    bench.end(complete=True)
    assert path.stat().st_mtime_ns != MTIME


def test_a_directory_without_write_permission_is_opened_for_the_work(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bench.dest / "d").mkdir(mode=0o500)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    work = DirWork(b"d", Ref(0, b""), 0o500, MTIME, exists=True)
    bench.workspace.open_dir(work)
    assert stat.S_IMODE((bench.dest / "d").stat().st_mode) == 0o700
    assert work.retouch
    bench.end()


def test_a_row_is_about_the_file_that_was_made(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who replaces it at once must not have his content taken for ours."""
    real = os.rename

    def raced(source: Any, target: Any, **more: Any) -> None:
        real(source, target, **more)
        other = bench.dest / "other"
        other.write_bytes(b"SMALL")
        os.utime(other, ns=(MTIME, MTIME))
        real(other, bench.dest / "file")

    monkeypatch.setattr(os, "rename", raced)
    bench.make(bench.job(b"file", b"small"), b"small")
    monkeypatch.undo()
    bench.end()
    row = bench.state.trees.files_in(bench.tree.id, b"")[b"file"]
    assert row.ino != (bench.dest / "file").stat().st_ino


def test_an_unreadable_local_copy_is_no_reason_to_stop(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.dest / "copy").write_bytes(NEW)
    first = bench.job(b"copy", NEW)
    bench.make(first, NEW)

    def broken(*_: Any) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    job = bench.job(b"file", NEW)
    bench.workspace.open_job(job)
    monkeypatch.setattr(os, "pread", broken)
    bench.workspace.fill(job, bench.local)
    monkeypatch.undo()
    assert job.left == len(job.recipe)
    bench.end()


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


def work(bench: Bench) -> None:
    """One of everything that changes DEST."""
    job = bench.job(b"file", NEW, replaces=True)
    job.targets.append(Target(b"new/dir", entry(b"copy", NEW)))
    bench.make(job, NEW)
    small = bench.job(b"small", b"new", replaces=True)
    bench.write(small, b"new")
    bench.place(small)
    bench.workspace.make_symlink(Target(b"", symlink_entry(b"link", MTIME, b"new")), bench.local)
    bench.workspace.aside.allow(dict.fromkeys([b"full", b"linked"]))
    full = bench.job(b"full", OLD)
    bench.make(full, OLD)
    bench.workspace.make_symlink(Target(b"", symlink_entry(b"linked", MTIME, b"new")), bench.local)
    bench.workspace.set_metadata(Target(b"", entry(b"touched", b"same")))


def test_a_crash_at_any_step_leaves_old_or_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = 0
    while True:
        folder = tmp_path / str(step)
        folder.mkdir()
        bench = Bench(folder)
        (bench.dest / "file").write_bytes(OLD)
        (bench.dest / "small").write_bytes(b"old")
        (bench.dest / "link").symlink_to("old")
        (bench.dest / "touched").write_bytes(b"same")
        for name in ("full", "linked"):
            (bench.dest / name / "deep").mkdir(parents=True)
            (bench.dest / name / "deep" / "file").write_bytes(b"old")
        bench.index(bench.dest / "touched", b"same")
        killed = False
        with monkeypatch.context() as patched:
            crash_at(step, patched)
            try:
                work(bench)
            except Killed:
                killed = True
        assert (bench.dest / "file").read_bytes() in (OLD, NEW)
        assert (bench.dest / "small").read_bytes() in (b"old", b"new")
        assert str((bench.dest / "link").readlink()) in ("old", "new")
        assert (bench.dest / "touched").read_bytes() == b"same"
        for name in ("full", "linked"):
            path = bench.dest / name
            stays = (path / "deep" / "file").exists() and (path / "deep" / "file").read_bytes() == b"old"
            assert stays or (path.is_symlink() if name == "linked" else path.read_bytes() == OLD)
        copy = bench.dest / "new" / "dir" / "copy"
        assert not copy.exists() or copy.read_bytes() == NEW
        if (bench.dest / "file").read_bytes() == NEW:
            assert (bench.dest / "file").stat().st_mtime_ns == MTIME
        # The next run finishes it, whatever was left.
        bench.begin()
        bench.index(bench.dest / "touched", b"same")
        work(bench)
        bench.end(complete=True)
        assert (bench.dest / "file").read_bytes() == NEW == copy.read_bytes()
        assert (bench.dest / "small").read_bytes() == b"new"
        assert sorted(os.listdir(bench.dest)) == [
            "file",
            "full",
            "link",
            "linked",
            "new",
            "small",
            "touched",
        ]
        assert (bench.dest / "full").read_bytes() == OLD and (bench.dest / "linked").is_symlink()
        bench.state.close()
        if not killed:
            break
        step += 1
    assert step > 20


def test_an_object_of_one_chunk_needs_no_recipe() -> None:
    ref = cut_object(b"small")[0]
    assert job_for(Target(b"", entry(b"f", b"small")), None).recipe == Recipe.single(ref)

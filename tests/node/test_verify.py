"""Verifying a tree names every difference from its manifest, and none that is not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.node.publishing import OLD

from p2psync.errors import FileError, UsageError
from p2psync.events import Advanced, Event, Phase, Teller
from p2psync.fetch.verified import verify
from p2psync.fetch.verify import Difference
from p2psync.format.url import ArchiveUrl
from p2psync.publish import publish
from p2psync.rules.filter import Filter
from p2psync.state import State


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    for name, data in (
        ("f", b"hello"),
        ("d/g", b"x" * 70_000),
        ("d/e/big", os.urandom(500_000)),
        ("empty", b""),
    ):
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, ns=(OLD, OLD))
    (made / "link").symlink_to("f")
    (made / os.fsdecode(b"\xff\n")).write_bytes(b"odd")
    return made


def found(state: State, tree: Path, *, full: bool = True) -> set[tuple[bytes, str]]:
    return {(path, str(difference)) for path, difference, _ in verify(state, tree, full=full).differences}


def keep_times(path: Path, change: bytes, at: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(change)
    os.utime(path, ns=(OLD, OLD))


def test_an_equal_tree_has_no_findings(state: State, tree: Path) -> None:
    publish(state, tree)
    assert found(state, tree) == set()
    assert found(state, tree, full=False) == set()


def test_every_kind_of_difference_is_named(state: State, tree: Path) -> None:
    publish(state, tree)
    root_mtime = tree.stat().st_mtime_ns
    d_mtime = (tree / "d").stat().st_mtime_ns
    (tree / "f").chmod(0o600)
    os.utime(tree / "d" / "g", ns=(OLD, OLD + 1))
    (tree / "empty").unlink()
    (tree / "new").write_bytes(b"")
    link_mtime = (tree / "link").lstat().st_mtime_ns
    (tree / "link").unlink()
    (tree / "link").symlink_to("g")
    os.utime(tree / "link", ns=(link_mtime, link_mtime), follow_symlinks=False)
    keep_times(tree / "d" / "e" / "big", b"!" * 10, 1000)
    os.utime(tree, ns=(root_mtime, root_mtime))
    assert d_mtime == (tree / "d").stat().st_mtime_ns
    expected = {
        (b"f", "mode"),
        (b"d/g", "mtime"),
        (b"empty", "missing"),
        (b"new", "extra"),
        (b"link", "content"),
    }
    assert found(state, tree, full=False) == expected
    assert found(state, tree) == expected | {(b"d/e/big", "content")}


def test_the_wrong_chunk_of_a_large_file_is_located(state: State, tree: Path) -> None:
    publish(state, tree)
    keep_times(tree / "d" / "e" / "big", b"!", 499_999)
    (finding,) = verify(state, tree).differences
    assert finding.path == b"d/e/big" and finding.difference == Difference.CONTENT
    assert finding.detail.startswith("1 of ")
    row = state.trees.files_in(1, b"d/e")[b"big"]
    state._db.connection.execute("DELETE FROM recipes WHERE digest = ?", (row.digest,))
    (finding,) = verify(state, tree).differences
    assert finding.detail == "other bytes"


def test_a_kind_that_changed_is_not_entered_or_followed(state: State, tree: Path, tmp_path: Path) -> None:
    publish(state, tree)
    os.rename(tree / "d", tmp_path / "moved")
    (tree / "d").symlink_to(tmp_path / "moved")
    (tree / "f").unlink()
    (tree / "f").mkdir()
    assert found(state, tree) == {(b"", "mtime"), (b"d", "kind"), (b"f", "kind")}


def test_missing_directories_are_one_finding(state: State, tree: Path) -> None:
    publish(state, tree)
    (tree / "d" / "e" / "big").unlink()
    (tree / "d" / "e").rmdir()
    assert (b"d/e", "missing") in found(state, tree)
    assert (b"d/e/big", "missing") not in found(state, tree)


def test_an_archive_may_be_named(state: State, tree: Path, tmp_path: Path) -> None:
    done = publish(state, tree)
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy, symlinks=True)
    (copy / "f").write_bytes(b"other")
    os.utime(copy / "f", ns=(OLD, OLD))
    os.utime(copy, ns=(tree.stat().st_mtime_ns,) * 2)
    assert found(state, tree) == set()
    other = verify(state, copy, ArchiveUrl(done.archive))
    assert [finding.path for finding in other.differences] == [b"f"]
    assert (other.archive, other.seq, other.files) == (done.archive, 1, done.files)


def test_what_the_rules_leave_out_is_not_compared(state: State, tree: Path) -> None:
    publish(state, tree, rules=Filter.parse([b"- /d/"]))
    assert found(state, tree) == set()
    assert {one.path for one in verify(state, tree, rules=Filter()).differences} == {b"d"}
    (tree / "f").unlink()
    left = verify(state, tree, rules=Filter.parse([b"- f", b"- /d/"]))
    assert {one.path for one in left.differences} == {b""}


def test_what_cannot_be_verified_is_an_error(state: State, tree: Path) -> None:
    with pytest.raises(UsageError, match="not known to hold an archive"):
        verify(state, tree)
    done = publish(state, tree)
    state._db.connection.execute("DELETE FROM objects WHERE digest = ?", (bytes.fromhex(done.root),))
    with pytest.raises(FileError, match="not in the state directory"):
        verify(state, tree)


def test_unreadable_files_are_findings(state: State, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(state, tree)
    real = os.open

    def deny(path: bytes | str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path in (b"f", b"e"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", deny)
    assert found(state, tree) == {(b"f", "unreadable"), (b"d/e", "unreadable")}


@pytest.mark.parametrize("damage", ["none", "content", "size"])
def test_progress_adds_up_and_goes_on_within_a_large_file(state: State, tree: Path, damage: str) -> None:
    done = publish(state, tree)
    if damage == "content":
        keep_times(tree / "d" / "e" / "big", b"damaged", at=100_000)
    elif damage == "size":
        (tree / "d" / "e" / "big").write_bytes(b"short")
    events: list[Event] = []
    assert bool(verify(state, tree, tell=Teller(events.append)).differences) == (damage != "none")
    steps = [event for event in events if isinstance(event, Advanced)]
    assert events[0] == Phase("verifying", done.bytes, done.files)
    assert sum(step.bytes for step in steps) == done.bytes
    assert sum(step.files for step in steps) == done.files
    if damage != "size":
        assert sum(0 < step.bytes < 500_000 for step in steps) > done.files, "in steps, chunk by chunk"

"""Removing a directory with all that is in it, however deep, and whatever in it refuses to go."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from p2psync.tree.removal import remove_tree

DEEP = 5000
"""Directories in directories: a path ten times as long as a system call takes."""


def nest(top: Path, depth: int) -> None:
    at = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(os.open("deepest", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)


def remove(top: Path, name: bytes) -> int:
    at = os.open(top, os.O_RDONLY)
    try:
        return remove_tree(at, name)
    finally:
        os.close(at)


def test_a_chain_deeper_than_any_path_goes(tmp_path: Path) -> None:
    nest(tmp_path, DEEP)
    assert remove(tmp_path, b"d") == DEEP + 1
    assert os.listdir(tmp_path) == []


def test_a_link_goes_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "link").symlink_to("../mine")
    assert remove(tmp_path, b"gone") == 2
    assert (tmp_path / "mine" / "file").exists()


def test_what_stays_keeps_the_directories_above_it_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("top/a/one", "top/b/stays", "top/b/two", "top/c/d/three"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    unlink = os.unlink

    def refuse(name: bytes, *, dir_fd: int) -> None:
        if name == b"stays":
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(OSError, match="'top/b/stays' in it stays: Operation not permitted"):
        remove(tmp_path, b"top")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b", "stays", "top"]


def test_a_directory_that_is_moved_meanwhile_leads_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "top" / "inner").mkdir(parents=True)
    (tmp_path / "top" / "inner" / "file").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").touch()
    unlink = os.unlink

    def move(name: bytes, *, dir_fd: int) -> None:
        unlink(name, dir_fd=dir_fd)
        os.rename(tmp_path / "top" / "inner", tmp_path / "elsewhere" / "inner")

    monkeypatch.setattr(os, "unlink", move)
    with pytest.raises(OSError, match="moved while it was removed"):
        remove(tmp_path, b"top")
    assert (tmp_path / "elsewhere" / "mine").exists()

"""What the kernel tells of many names at once is what lstat(2) tells of each."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2psync.tree import statx
from p2psync.tree.stamp import Columns

pytestmark = pytest.mark.skipif(statx._statx() is None, reason="this system has no statx(2)")


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    made = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield made
    os.close(made)


def expected(folder: Path, names: list[bytes]) -> Columns:
    of = [os.lstat(os.path.join(bytes(folder), name)) for name in names]
    return Columns.of(
        [st.st_mode for st in of],
        [st.st_ino for st in of],
        [st.st_size for st in of],
        [st.st_ctime_ns for st in of],
        [st.st_mtime_ns for st in of],
    )


def test_files_links_directories_and_others(tmp_path: Path, fd: int) -> None:
    for number, time in enumerate([0, 1, -1, -(10**18), 999_999_999, 10**18 + 1, 2**62]):
        (tmp_path / f"{number}").write_bytes(bytes(number))
        os.utime(tmp_path / f"{number}", ns=(5, time))
    with (tmp_path / "large").open("wb") as file:
        file.truncate(5 << 32)
    (tmp_path / "inner").mkdir(mode=0o711)
    (tmp_path / "secret").touch(mode=0o0)
    (tmp_path / "link").symlink_to("inner")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / os.fsdecode(b"\xff\n")).touch()
    names = sorted(map(os.fsencode, os.listdir(tmp_path)))
    assert statx.attributes(fd, names) == expected(tmp_path, names)


@pytest.mark.parametrize("count", [0, 1, statx.AT_ONCE, statx.AT_ONCE + 1, 2 * statx.AT_ONCE + 7])
def test_any_number_of_names(tmp_path: Path, fd: int, count: int) -> None:
    names = [b"%d" % number for number in range(count)]
    for number, name in enumerate(names):
        (tmp_path / os.fsdecode(name)).write_bytes(bytes(number % 7))
    assert statx.attributes(fd, names) == expected(tmp_path, names)


def test_nothing_is_told_where_a_name_is_missing(tmp_path: Path, fd: int) -> None:
    (tmp_path / "a").touch()
    assert statx.attributes(fd, [b"a", b"b"]) is None
    assert statx.attributes(fd, [b"a"] * statx.AT_ONCE + [b"b"]) is None
    (tmp_path / "b").touch()
    assert statx.attributes(fd, [b"a", b"b"]) is not None


def test_nothing_is_told_where_the_system_has_no_such_call(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        """A C library of a system without it."""

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    statx._statx.cache_clear()
    try:
        assert statx.attributes(fd, []) is None
    finally:
        statx._statx.cache_clear()


def test_nothing_is_told_where_libraries_cannot_be_called(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under systemd's MemoryDenyWriteExecute=, with an old libffi."""
    monkeypatch.setitem(sys.modules, "ctypes", None)
    statx._statx.cache_clear()
    try:
        assert statx.attributes(fd, []) is None
    finally:
        statx._statx.cache_clear()


def test_a_call_that_tells_something_else_is_not_used(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        """One that is forbidden, or whose records are laid out otherwise."""

        @staticmethod
        def statx(*arguments: object) -> int:
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library)
    statx._statx.cache_clear()
    try:
        assert statx.attributes(fd, []) is None
    finally:
        statx._statx.cache_clear()

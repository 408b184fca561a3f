"""A directory's stamp is that of what is directly in it: anything there changes it, and nothing below."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.node.publishing import write

from p2psync.events import SILENT
from p2psync.format.reserved import TEMPORARY_PREFIX
from p2psync.rules.filter import Filter
from p2psync.tree import statx
from p2psync.tree.checker import stamp_of_directory
from p2psync.tree.report import Report
from p2psync.tree.scan import scan_directory
from p2psync.tree.stamp import directory_stamp


def stamps(top: Path, directory: bytes = b"", hidden: frozenset[bytes] = frozenset()) -> bytes:
    """The stamp of what is on disk, which is that of what a walk finds."""
    fd = os.open(os.path.join(bytes(top), directory), os.O_RDONLY | os.O_DIRECTORY)
    try:
        walked = directory_stamp(scan_directory(fd, directory, Filter(), Report(SILENT), hidden))
        assert stamp_of_directory(fd, directory, hidden) == walked
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(statx, "attributes", lambda fd, names: None)
            assert stamp_of_directory(fd, directory, hidden) == walked
        return walked
    finally:
        os.close(fd)


def test_the_stamp_on_disk_is_that_of_a_walk(tree: Path) -> None:
    assert stamps(tree) == stamps(tree)
    for name in (
        b"-rf",
        b"\xff\xfe",
        b"a\nb",
        b"x" * 255,
        b" ",
        b"caf\xc3\xa9",
        b"z/inner",
        b".p2psync/head",
    ):
        write(os.path.join(os.fsencode(tree), name), name)
    os.symlink("nowhere", tree / "link")
    os.mkfifo(tree / "pipe")
    write(tree / "ancient", b"x", mtime_ns=-(10**18))
    write(tree / "far", b"x", mtime_ns=2**62)
    os.mkfifo(tree / "z" / "pipe")
    before, inner = stamps(tree), stamps(tree, b"z")
    (tree / "z" / "pipe").unlink()
    os.utime(tree / "z", ns=(0, 0))
    assert stamps(tree, b"z") == inner
    before = stamps(tree)
    assert stamps(tree, b"z") != before
    for left_out in (tree / "pipe", tree / ".p2psync"):
        left_out.rename(tree.parent / left_out.name)
        assert stamps(tree) == before
    write(tree / "z" / ".p2psync", b"x")
    assert stamps(tree, b"z") != stamps(tree, b"z", frozenset({b"z/.p2psync"}))


@pytest.mark.parametrize(
    "change",
    [
        lambda top: write(top / "new", b"x"),
        lambda top: (top / "file").unlink(),
        lambda top: (top / "file").rename(top / "other"),
        lambda top: write(top / "file", b"other"),
        lambda top: (top / "file").chmod(0o600),
        lambda top: os.utime(top / "file", ns=(0, 5)),
        lambda top: os.utime(top / "link", ns=(0, 5), follow_symlinks=False),
        lambda top: (top / "inner").chmod(0o700),
        lambda top: os.utime(top / "inner", ns=(0, 5)),
        lambda top: write(top / "inner" / "new", b"x"),  # by the mtime of the directory
    ],
)
def test_a_change_in_a_directory_changes_its_stamp(tree: Path, change: Callable[[Path], object]) -> None:
    write(tree / "file", b"data")
    write(tree / "inner" / "file", b"data")
    os.utime(tree / "inner", ns=(0, 1))
    os.symlink("file", tree / "link")
    before = stamps(tree)
    change(tree)
    assert stamps(tree) != before


def test_a_change_below_leaves_the_stamp(tree: Path) -> None:
    write(tree / "inner" / "deep" / "file", b"data")
    before, inner = stamps(tree), stamps(tree, b"inner/deep")
    write(tree / "inner" / "deep" / "file", b"other")
    assert stamps(tree, b"inner/deep") != inner
    assert stamps(tree) == before


def test_a_temporary_name_is_left_out_of_a_walk_without_a_word_and_makes_a_directory_one_to_look_at(
    tree: Path,
) -> None:
    for name in ("a", ".p", "z"):
        write(tree / name, b"x")
    before = stamps(tree)
    write(os.path.join(os.fsencode(tree), TEMPORARY_PREFIX + b"1"), b"half a file")
    os.mkfifo(os.path.join(os.fsencode(tree), TEMPORARY_PREFIX + b"2"))
    report = Report(SILENT)
    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        rows = scan_directory(fd, b"", Filter(), report)
        assert [row.name for row in rows] == [b".p", b"a", b"z"] and report.warnings == []
        assert directory_stamp(rows) == before != stamp_of_directory(fd, b"")
    finally:
        os.close(fd)


def test_a_directory_of_very_many_names(tree: Path) -> None:
    for number in range(2 * statx.AT_ONCE + 1):
        os.symlink("nowhere", tree / f"{number}")
    assert stamps(tree) == stamps(tree)

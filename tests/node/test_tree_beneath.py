"""Work beneath DEST never leaves it, whatever stands there or is put there meanwhile."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.help.descriptors import open_below
from tests.node.simulator import MTIME

from p2psync.errors import FileError
from p2psync.format.reserved import PARTIAL
from p2psync.tree.beneath import OPEN_DIRS_MAX, Beneath, file_error
from p2psync.tree.maker import TreeWriter
from p2psync.tree.orders import (
    Attributes,
    Dress,
    DressDirectories,
    File,
    Link,
    MakeFiles,
    MakeLinks,
    MayReplace,
    Remove,
    SetAttributes,
    Tidy,
)


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    made = tmp_path / "dest"
    made.mkdir()
    return made


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    made = tmp_path / "outside"
    made.mkdir()
    (made / "precious").write_text("precious")
    (made / "dir").mkdir()
    return made


@contextlib.contextmanager
def swapping(tmp_path: Path, real: Path, elsewhere: Path) -> Iterator[None]:
    """A thread that swaps the directory ``real`` for a link to another one and back, again and again."""
    stop = threading.Event()

    def swap() -> None:
        link, aside = tmp_path / "link", tmp_path / "aside"
        while not stop.is_set():
            shutil.rmtree(aside, ignore_errors=True)
            try:
                link.symlink_to(elsewhere)
                os.rename(real, aside)
                os.rename(link, real)
                os.unlink(real)
                os.rename(aside, real)
            except OSError:
                link.unlink(missing_ok=True)  # The other side made or removed something in between.

    real.mkdir()
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def beneath(dest: Path) -> Iterator[Beneath]:
    made = Beneath(bytes(dest))
    yield made
    made.close()


def test_directories_are_made_and_opened(beneath: Beneath, dest: Path) -> None:
    fd = beneath.make_dir(b"a/b/c")
    assert os.fstat(fd).st_ino == (dest / "a" / "b" / "c").stat().st_ino
    assert beneath.dir(b"a/b/c") == fd
    with pytest.raises(FileNotFoundError):
        beneath.dir(b"a/x")


def test_a_link_on_the_way_is_not_followed(beneath: Beneath, dest: Path, outside: Path) -> None:
    (dest / "link").symlink_to(outside)
    (dest / "real").mkdir()
    (dest / "real" / "up").symlink_to("../../outside")
    for path in (b"link", b"link/dir", b"real/up", b"real/up/dir"):
        with pytest.raises(NotADirectoryError):
            beneath.dir(path)


def test_what_is_in_the_way_of_a_directory_is_replaced_and_not_followed(
    beneath: Beneath, dest: Path, outside: Path
) -> None:
    (dest / "link").symlink_to(outside)
    (dest / "file").write_text("x")
    beneath.make_dir(b"link/dir/new")
    beneath.make_dir(b"file/new")
    assert sorted(os.listdir(outside)) == ["dir", "precious"]
    assert os.listdir(outside / "dir") == []
    assert (dest / "link" / "dir" / "new").is_dir()
    assert not (dest / "link").is_symlink()
    assert (dest / "file" / "new").is_dir()


def test_removal_takes_links_away_and_not_what_they_name(beneath: Beneath, dest: Path, outside: Path) -> None:
    (dest / "d" / "e").mkdir(parents=True)
    (dest / "d" / "link").symlink_to(outside)
    (dest / "d" / "e" / "file").write_text("x")
    (dest / "d" / "e").chmod(0o500)
    assert beneath.remove(b"", b"d") == 4
    assert not (dest / "d").exists()
    assert (outside / "precious").read_text() == "precious"


def test_few_directories_stay_open(dest: Path) -> None:
    beneath = Beneath(bytes(dest))
    deep = b"/".join(b"%d" % n for n in range(100))
    beneath.make_dir(deep)
    for number in range(300):
        beneath.make_dir(b"wide%d" % number)
    assert len(open_below(dest)) <= OPEN_DIRS_MAX + 1
    assert os.fstat(beneath.dir(deep)).st_ino == os.stat(os.path.join(bytes(dest), deep)).st_ino
    beneath.close()
    assert open_below(dest) == []


def test_a_directory_that_was_replaced_is_opened_anew_when_told(beneath: Beneath, dest: Path) -> None:
    beneath.make_dir(b"a/b")
    beneath.make_dir(b"ab")
    kept = beneath.dir(b"ab")
    shutil.rmtree(dest / "a")
    (dest / "a" / "b").mkdir(parents=True)
    beneath.forget(b"a")
    assert os.fstat(beneath.dir(b"a/b")).st_ino == (dest / "a" / "b").stat().st_ino
    assert beneath.dir(b"ab") == kept


@pytest.mark.parametrize(
    ("number", "words"), [(28, "no space"), (122, "quota"), (30, "read-only"), (5, "failed")]
)
def test_errors_say_what_to_do(number: int, words: str) -> None:
    error = file_error(OSError(number, os.strerror(number)), b"d/caf\xe9", "writing")
    assert isinstance(error, FileError)
    assert words in str(error)
    assert "caf" in str(error)


def test_a_writer_replaces_a_folder_that_is_a_link(dest: Path, outside: Path) -> None:
    (dest / PARTIAL.decode()).symlink_to(outside)
    (outside / "tmp-0").write_text("not ours")
    writer = TreeWriter(bytes(dest))
    writer.carry_out(Tidy(1, True))
    writer.carry_out(MakeFiles(2, b"", [File(b"f", 0o644, MTIME, 0, 0, False)]))
    writer.carry_out(Tidy(3, True))
    writer.close()
    assert os.listdir(dest) == ["f"]
    assert sorted(os.listdir(outside)) == ["dir", "precious", "tmp-0"]


def test_no_order_leads_through_a_link(dest: Path, outside: Path) -> None:
    (dest / "link").symlink_to(outside)
    stamp = outside.stat()
    writer = TreeWriter(bytes(dest))
    writer.carry_out(Remove(1, b"link", [(b"precious", True), (b"dir", True)]))
    writer.carry_out(Remove(2, b"link/dir", [(b"x", True)]))
    writer.carry_out(DressDirectories(3, [Dress(b"link", 0o777, MTIME), Dress(b"link/dir", 0o777, MTIME)]))
    writer.carry_out(SetAttributes(4, b"link", [Attributes(b"precious", 0, MTIME, (0, 0, 0, 0))]))
    writer.carry_out(MayReplace({b"link": None, b"link/dir": None}))
    writer.carry_out(MakeFiles(5, b"link/dir", [File(b"f", 0o644, MTIME, 0, 0, False)]))
    writer.close()
    assert sorted(os.listdir(outside)) == ["dir", "precious"]
    assert os.listdir(outside / "dir") == []
    assert (outside.stat().st_mode, outside.stat().st_mtime_ns) == (stamp.st_mode, stamp.st_mtime_ns)
    assert (dest / "link" / "dir" / "f").exists()  # What stood in the way of a directory made way.
    assert not (dest / "link").is_symlink()


def test_a_writer_is_not_led_out_by_a_directory_swapped_for_a_link(
    tmp_path: Path, dest: Path, outside: Path
) -> None:
    """A thread swaps a directory of DEST for a link out of it, while orders make and remove files there."""
    with swapping(tmp_path, dest / "d", outside / "dir"):
        for turn in range(400):
            writer = TreeWriter(bytes(dest))  # Each opens the directory anew.
            writer.carry_out(MakeFiles(1, b"d/e", [File(b"f%d" % turn, 0o644, MTIME, 0, 0, False)]))
            writer.carry_out(MakeLinks(2, b"d", [Link(b"l%d" % turn, b"x", MTIME)]))
            writer.carry_out(DressDirectories(3, [Dress(b"d/e", 0o755, MTIME), Dress(b"d", 0o755, MTIME)]))
            writer.carry_out(Remove(4, b"d", [(b"e", True)]))
            writer.close()
    assert sorted(os.listdir(outside)) == ["dir", "precious"]
    assert os.listdir(outside / "dir") == []
    assert (outside / "dir").stat().st_mtime_ns != MTIME

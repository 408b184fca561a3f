"""Others may write to DEST, or to a directory in it: what they put there, exchange or open while a writer
works leads it nowhere else, gets nobody's rights, and costs nobody what is theirs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.node.fetch_world import BIG, TREE, World, world
from tests.node.simulator import MTIME, Tree, content
from tests.node.writer_bench import DIGEST, NEW, WriterBench, target

from p2psync.errors import FileError
from p2psync.fetch.options import Delete
from p2psync.format.reserved import PARTIAL
from p2psync.tree import way
from p2psync.tree.beneath import Beneath
from p2psync.tree.orders import (
    Attributes,
    Dress,
    DressDirectories,
    MakeDirectory,
    OpenObject,
    SetAttributes,
    WorkIn,
)
from p2psync.tree.survey import survey
from p2psync.tree.trouble import explain

__all__ = ["world"]

STRANGER = 65534
"""A user id that is not ours."""
TURNS = 6
"""Fetches into a DEST in which somebody swaps directories."""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving files to somebody else needs root")


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[WriterBench]:
    made = WriterBench(tmp_path)
    yield made
    made.writer.close()


def stamp(path: Path) -> tuple[int, int, int, int]:
    found = path.lstat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def folder_of(writing: WriterBench) -> Path:
    return writing.dest / os.fsdecode(PARTIAL)


def once(monkeypatch: pytest.MonkeyPatch, of: Any, name: str, before: Callable[[], None]) -> None:
    """Let somebody do something just before a function is called for the first time."""
    real, calls = getattr(of, name), [before]

    def raced(*arguments: Any, **more: Any) -> Any:
        while calls:
            calls.pop()()
        return real(*arguments, **more)

    monkeypatch.setattr(of, name, raced)


# The folder of unfinished files.


@needs_root
@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_a_folder_that_a_stranger_made_is_not_worked_in(writing: WriterBench, mode: int) -> None:
    """Who owns it could put something else in place of each file just before that gets its place."""
    folder = folder_of(writing)
    folder.mkdir()
    (folder / "tmp-trap").mkdir()
    theirs = folder / DIGEST.hex()
    theirs.write_bytes(NEW)
    for each in (folder, theirs):
        os.chown(each, STRANGER, STRANGER)
    folder.chmod(mode)
    with theirs.open("r+b") as still_open:
        writing.do(OpenObject(1, DIGEST, len(NEW)))
        found = folder.stat()
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (os.geteuid(), 0o700)
        writing.make_new(b"new")
        still_open.write(b"other bytes")
        still_open.flush()
    assert writing.place(b"new").read_bytes() == NEW
    assert writing.place(b"new").stat().st_uid == os.geteuid()


@needs_root
def test_where_a_strangers_folder_cannot_be_removed_files_are_made_elsewhere(
    writing: WriterBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as in a directory with the sticky bit, for a user without privileges."""
    elsewhere = tmp_path / "tmp"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))

    def refuse(*_: Any) -> int:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Beneath, "remove", refuse)
    theirs = folder_of(writing) / DIGEST.hex()
    theirs.parent.mkdir()
    theirs.write_bytes(NEW)
    for each in (theirs, theirs.parent):
        os.chown(each, STRANGER, STRANGER)
    (result,) = writing.do(OpenObject(1, DIGEST, len(NEW))).results
    assert isinstance(result, tuple)
    assert result[0] == 0, "what the stranger left is not what the writer has"
    writing.make_new(b"new")
    assert writing.place(b"new").read_bytes() == NEW
    writing.tidy(everything=True)
    assert theirs.exists()
    assert os.listdir(elsewhere) == []


def test_a_folder_that_others_may_write_to_is_closed_to_them(writing: WriterBench) -> None:
    folder_of(writing).mkdir()
    folder_of(writing).chmod(0o777)
    writing.write_new()
    assert stat.S_IMODE(folder_of(writing).stat().st_mode) == 0o700


@needs_root
@pytest.mark.parametrize("kind", ["file", "link", "directory", "pipe"])
def test_what_a_stranger_left_in_it_is_not_written_to(
    writing: WriterBench, tmp_path: Path, kind: str
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    folder_of(writing).mkdir()
    trap = folder_of(writing) / DIGEST.hex()
    if kind == "file":
        trap.write_bytes(NEW)
        os.chown(trap, STRANGER, STRANGER)
    elif kind == "link":
        trap.symlink_to(precious)
    elif kind == "directory":
        trap.mkdir()
    else:
        os.mkfifo(trap)
    (result,) = writing.do(OpenObject(1, DIGEST, len(NEW))).results
    assert isinstance(result, tuple)
    assert result[0] == 0, "nothing of it was left by an earlier run"
    writing.make_new(b"new")
    assert writing.place(b"new").read_bytes() == NEW
    assert writing.place(b"new").stat().st_uid == os.geteuid()
    assert precious.read_bytes() == b"precious"


@needs_root
def test_what_a_stranger_left_unfinished_is_not_taken_for_what_the_writer_has(world: World) -> None:
    """The file of the stranger is right and whole, and the one that the writer makes has nothing yet."""
    world.publisher.publish({**TREE, b"large": content("large", 700_000)})
    (entry,) = [e for _, e, _ in world.publisher.read(world.publisher.head) if e.name == b"large"]
    folder = world.dest / os.fsdecode(PARTIAL)
    folder.mkdir(parents=True)
    theirs = folder / entry.digest.hex()
    theirs.write_bytes(content("large", 700_000))
    for each in (folder, theirs):
        os.chown(each, STRANGER, STRANGER)
    assert world.fetch().exit_code == 0
    assert world.differs() == []
    assert (world.dest / "large").stat().st_uid == os.geteuid()


# Modes and times of files.


@pytest.mark.parametrize("mode", [0o666, 0o640])
def test_a_file_that_has_another_name_elsewhere_is_made_anew(
    writing: WriterBench, tmp_path: Path, mode: int
) -> None:
    """Where the kernel lets them (fs.protected_hardlinks), strangers may give any file a name in DEST."""
    outside = tmp_path / "precious"
    outside.write_bytes(b"small")
    outside.chmod(0o600)
    before = outside.stat()
    place = writing.place(b"file")
    os.link(outside, place)
    order = SetAttributes(1, b"", [Attributes(b"file", mode, MTIME, stamp(place))])
    (result,) = writing.do(order).results
    assert result == stamp(place)
    assert (stat.S_IMODE(place.stat().st_mode), place.stat().st_mtime_ns) == (mode, MTIME)
    assert place.read_bytes() == b"small"
    after = outside.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_ino) == (
        before.st_mode,
        before.st_mtime_ns,
        before.st_ino,
    )
    assert place.stat().st_ino != outside.stat().st_ino


def test_two_names_of_one_file_get_a_mode_each(writing: WriterBench) -> None:
    first, second = writing.place(b"first"), writing.place(b"second")
    first.write_bytes(b"small")
    os.link(first, second)
    for place, mode in ((first, 0o600), (second, 0o644)):
        row = Attributes(place.name.encode(), mode, MTIME, stamp(place))
        assert isinstance(writing.do(SetAttributes(1, b"", [row])).results[0], tuple)
    assert [stat.S_IMODE(each.stat().st_mode) for each in (first, second)] == [0o600, 0o644]


def test_a_file_that_somebody_has_open_does_not_become_a_setuid_program(writing: WriterBench) -> None:
    place = writing.place(b"file")
    place.write_bytes(b"small")
    place.chmod(0o777)
    with place.open("r+b") as still_open:
        writing.do(SetAttributes(1, b"", [Attributes(b"file", 0o4755, MTIME, stamp(place))]))
        still_open.write(b"other")
    assert place.read_bytes() == b"small"
    assert stat.S_IMODE(place.stat().st_mode) == 0o4755


def test_a_file_that_changes_while_it_is_made_anew_stays(
    writing: WriterBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = writing.place(b"file")
    place.write_bytes(b"small")
    os.link(place, tmp_path / "other name")
    order = SetAttributes(1, b"", [Attributes(b"file", 0o600, MTIME, stamp(place))])
    real = os.open

    def opened(name: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & os.O_CREAT and name == b"tmp-%d" % os.getpid() and rest == (0o600,):
            place.write_bytes(b"other bytes")
        return real(name, flags, *rest, **more)

    monkeypatch.setattr(os, "open", opened)
    assert writing.do(order).results == ["it was changed while the fetch went on; run again"]
    assert place.read_bytes() == b"other bytes"
    assert writing.partial == set()


# Directories.


def test_a_directory_that_somebody_makes_meanwhile_keeps_what_is_in_it(
    writing: WriterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> None:
        place = writing.place(b"d")
        os.makedirs(place / "theirs")

    real = os.mkdir
    calls: list[Callable[[], None]] = [make]

    def raced(name: Any, *arguments: Any, **more: Any) -> None:
        if name == b"d" and calls:
            calls.pop()()
        real(name, *arguments, **more)

    monkeypatch.setattr(os, "mkdir", raced)
    (result,) = writing.do(MakeDirectory(1, b"d")).results
    assert result == "somebody else made a directory of this name while the fetch went on; run again"
    assert os.listdir(writing.place(b"d")) == ["theirs"]


def exchange(first: Path, second: Path) -> None:
    aside = first.with_name("aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


@pytest.mark.parametrize("made", [True, False])
def test_a_directory_that_was_exchanged_gets_no_mode(writing: WriterBench, made: bool) -> None:
    """Who may write to a directory may call what is private in it by any name that the archive has."""
    shared, private = writing.place(b"shared"), writing.place(b"shared/private")
    private.mkdir(parents=True, mode=0o700)
    (private / "diary").touch()
    shared.chmod(0o777)
    there = writing.place(b"shared/d")
    if made:
        writing.do(MakeDirectory(1, b"shared/d"))
        ino = 0
    else:
        there.mkdir(mode=0o700)
        ino = there.stat().st_ino
    writing.again() if not made else writing.do(MakeDirectory(2, b"other"))
    exchange(there, private)
    if made:
        for number in range(70):  # So that it has to be opened anew.
            writing.do(MakeDirectory(3, b"other/%d" % number))
    (result,) = writing.do(DressDirectories(4, [Dress(b"shared/d", 0o777, MTIME, ino)])).results
    assert result == "the directory was exchanged for another one while the fetch went on; run again"
    assert stat.S_IMODE(there.stat().st_mode) == 0o700
    assert there.stat().st_mtime_ns != MTIME


def test_a_directory_that_was_exchanged_when_it_was_just_made_is_not_worked_in(
    writing: WriterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = writing.place(b"shared/private")
    private.mkdir(parents=True, mode=0o700)
    (private / "diary").touch()
    writing.place(b"shared").chmod(0o777)
    real = os.mkdir

    def raced(name: Any, *arguments: Any, **more: Any) -> None:
        real(name, *arguments, **more)
        if name == b"d":
            exchange(writing.place(b"shared/d"), private)

    monkeypatch.setattr(os, "mkdir", raced)
    results = writing.do(MakeDirectory(1, b"shared/d")).results
    results += writing.do(DressDirectories(2, [Dress(b"shared/d", 0o777, MTIME)])).results
    assert all(isinstance(each, str) and "exchanged for another one" in each for each in results)
    assert stat.S_IMODE(writing.place(b"shared/d").stat().st_mode) == 0o700


def test_a_directory_that_was_compared_is_worked_in_and_no_other(writing: WriterBench) -> None:
    writing.place(b"d").mkdir()
    writing.place(b"other").mkdir(mode=0o500)
    ino = writing.place(b"d").stat().st_ino
    writing.dest.chmod(0o777)
    exchange(writing.place(b"d"), writing.place(b"other"))
    (result,) = writing.do(MakeDirectory(1, b"d", ino)).results
    assert result == "the directory was exchanged for another one while the fetch went on; run again"
    assert stat.S_IMODE(writing.place(b"d").stat().st_mode) == 0o500


@pytest.mark.parametrize("in_one_step", [True, False])
def test_a_directory_that_is_exchanged_when_it_makes_way_comes_back(
    writing: WriterBench, monkeypatch: pytest.MonkeyPatch, in_one_step: bool
) -> None:
    for name in (b"x", b"private"):
        (writing.place(name) / "sub").mkdir(parents=True)
    (writing.place(b"private") / "diary").touch()
    beneath = Beneath(bytes(writing.dest))
    writing.may_replace(b"x", seal=survey(beneath, b"x").seal)
    beneath.close()
    writing.write_new()

    def swap() -> None:
        exchange(writing.place(b"x"), writing.place(b"private"))

    if in_one_step:
        once(monkeypatch, way, "exchange", swap)
    else:

        def impossible(*_: Any) -> None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        monkeypatch.setattr(way, "exchange", impossible)
        once(monkeypatch, way, "exchange", swap)
    (result,) = writing.finish_new(target(b"x")).results
    assert result == (
        "the directory in its place was exchanged for another one while the fetch went on; run again"
    )
    assert os.listdir(writing.place(b"private")) == ["sub"]
    assert sorted(os.listdir(writing.place(b"x"))) == ["diary", "sub"]
    writing.end()
    assert sorted(os.listdir(writing.place(b"x"))) == ["diary", "sub"]


def test_a_dest_that_is_exchanged_is_not_worked_in(writing: WriterBench, tmp_path: Path) -> None:
    """Such as an empty directory where a disk was mounted, or a link that somebody put in its place."""
    was = writing.dest.stat()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    writing.dest.rename(tmp_path / "moved")
    writing.dest.symlink_to(elsewhere)
    writing.writer.carry_out(WorkIn(was.st_dev, was.st_ino))
    broken = writing.broken(writing.small(b"f", b"x"))
    error = explain(broken)
    assert isinstance(error, FileError)
    assert "is not the directory any more that it was when the fetch began" in str(error)
    assert os.listdir(elsewhere) == []


# All of it at once.

RACER = """
import contextlib, os, select, sys
place, outside, user = sys.argv[1:]
os.chdir(place)
if int(user):
    os.setgroups([])
    os.setgid(int(user))
    os.setuid(int(user))
os.mkdir("mine", 0o777)
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    for name in ("d", ".p2psync.partial"):
        for trap in ("link", "mine"):
            with contextlib.suppress(OSError):
                os.symlink(outside, "link")
            with contextlib.suppress(OSError):
                os.rename(name, "aside")
                os.rename(trap, name)
            with contextlib.suppress(OSError):
                os.rename(name, trap)
            with contextlib.suppress(OSError):
                os.rename("aside", name)
"""


@pytest.mark.parametrize("user", [pytest.param(STRANGER, marks=needs_root), 0])
def test_nobody_who_swaps_directories_leads_a_fetch_out_of_dest(
    world: World, tmp_path: Path, user: int
) -> None:
    """A process of another user, or of our own, renames what is in a DEST that all may write to and puts
    links there, while fetch after fetch makes, dresses and removes what is in it.
    """
    outside = tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    for each in (outside / "f", outside / "sub" / "f"):
        each.write_text("precious")
    before = look(outside)
    world.dest.mkdir()
    world.dest.chmod(0o777)
    racer = subprocess.Popen(
        [sys.executable, "-c", RACER, str(world.dest), str(outside), str(user)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert racer.stdin is not None and racer.stdout is not None
    with racer:
        try:
            assert racer.stdout.readline() == b"ready\n"
            for turn in range(TURNS):
                size = 3000 + turn  # Or it would be taken for the same, as rsync does.
                here: Tree = {b"f": content("f", size), b"g%d" % turn: BIG, b"sub": {b"f": bytes(size)}}
                world.publisher.publish({b"d": here if turn % 3 else {}, b"e": {b"x": bytes(turn)}})
                with contextlib.suppress(FileError):  # Of what was swapped: what counts is what was done.
                    world.fetch(delete=Delete.ALL if turn % 2 else Delete.NONE)
        finally:
            racer.stdin.close()
    assert look(outside) == before
    for left in ("aside", "mine"):
        shutil.rmtree(world.dest / left, ignore_errors=True)
    assert world.fetch(check_dest=True).exit_code == 0
    assert world.differs() == []


def look(folder: Path) -> list[tuple[str, int, int, int]]:
    return [
        (str(path), path.lstat().st_mode, path.lstat().st_mtime_ns, path.lstat().st_uid)
        for path in sorted([folder, *folder.rglob("*")])
    ]

"""What a publisher cannot read stays as it was, or is said to be missing: no scan that failed deletes
anything.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.node.publishing import OLD, write

from p2psync.errors import FileError
from p2psync.format.listing import Entry, Kind, Totals, check_totals, decode_listing
from p2psync.format.marks import NAMES_MAX, is_carried, is_incomplete, may_lack, unread_paths
from p2psync.format.paths import join
from p2psync.format.snapshot import Snapshot
from p2psync.publish import Published, publish
from p2psync.rules.filter import Filter
from p2psync.state import State
from p2psync.tree.report import NAMED_MAX

Break = Callable[[str, int], None]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[Break]:
    """Opening a name fails with an errno: tests may run as root, whom no mode stops, and disks do not fail
    when they should.
    """
    failing: dict[bytes, int] = {}
    real = os.open

    def fail(path: bytes | str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        number = failing.get(os.path.basename(os.fsencode(path)))
        if number:
            raise OSError(number, os.strerror(number), path)
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", fail)

    def add(name: str, number: int) -> None:
        failing[os.fsencode(name)] = number

    yield add


def snapshot(state: State, done: Published) -> Snapshot:
    return Snapshot.decode(state.meta.get(done.head.snapshot.digest) or b"")


def entries(state: State, done: Published) -> dict[bytes, Entry]:
    """Every entry by path; each directory holds what its entry says."""
    root = snapshot(state, done).root
    found = {b"": root}
    pending = [(b"", root)]
    while pending:
        path, entry = pending.pop()
        listed = decode_listing(state.meta.get(entry.digest) or b"")
        check_totals(entry, listed)
        for inner in listed:
            found[join(path, inner.name)] = inner
            if inner.kind is Kind.DIR:
                pending.append((join(path, inner.name), inner))
    return found


def some_tree(tree: Path) -> None:
    write(tree / "file", b"file")
    write(tree / "d" / "a", b"a")
    write(tree / "d" / "inner" / "b", b"b" * 100_000)
    (tree / "link").symlink_to("file")


TROUBLES = [errno.EIO, errno.EACCES, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT]


@pytest.mark.parametrize("trouble", TROUBLES, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["file", "d", "inner", "b"])
def test_what_was_in_the_last_snapshot_stays_as_it_was(
    state: State, tree: Path, broken: Break, name: str, trouble: int
) -> None:
    some_tree(tree)
    before = publish(state, tree)
    was = entries(state, before)
    for each in (tree / "file", tree / "d" / "inner" / "b", tree / "d" / "a"):
        write(each, b"changed", OLD + 1)
    os.utime(tree / "d" / "inner", ns=(OLD, OLD))
    os.utime(tree / "d", ns=(OLD, OLD))
    broken(name, trouble)
    done = publish(state, tree)
    now = entries(state, done)
    assert now.keys() == was.keys()
    (marked,) = (path for path, entry in now.items() if is_carried(entry))
    assert os.path.basename(marked) == os.fsencode(name)
    for path, entry in now.items():
        assert not is_incomplete(entry)
        if path == marked or path.startswith(marked + b"/"):
            assert entry._replace(extra={}) == was[path], "with its old content, mode and time"
        elif entry.kind is Kind.FILE:
            assert entry.size == len(b"changed")
    assert (done.exit_code, done.unread) == (23, 1)
    assert done.warnings == (
        f"{os.fsdecode(marked)} cannot be read ({os.strerror(trouble)}): "
        "it stays as it was in the last snapshot",
    )
    assert unread_paths(snapshot(state, done).extra) == 1


@pytest.mark.parametrize("name", ["file", "d", "inner", "b"])
def test_what_was_in_no_snapshot_is_said_to_be_missing(
    state: State, tree: Path, broken: Break, name: str
) -> None:
    some_tree(tree)
    broken(name, errno.EACCES)
    done = publish(state, tree)
    now = entries(state, done)
    unread = next(path for path in (b"file", b"d", b"d/inner", b"d/inner/b") if path.endswith(name.encode()))
    if (tree / os.fsdecode(unread)).is_dir():
        assert now[unread].totals == Totals() and may_lack(now[unread], b"anything")
        assert [path for path, entry in now.items() if is_incomplete(entry)] == [unread]
    else:
        assert unread not in now
        above = os.path.dirname(unread)
        assert may_lack(now[above], os.path.basename(unread)) and not may_lack(now[above], b"another")
        assert [path for path, entry in now.items() if is_incomplete(entry)] == [above]
    assert (done.exit_code, done.unread) == (23, 1)
    assert "which says so: nobody deletes it" in done.warnings[0]


@pytest.mark.parametrize("earlier", [True, False], ids=["published before", "new"])
@pytest.mark.parametrize("name", ["file", "d", "inner", "b"])
def test_once_it_can_be_read_again_no_mark_is_left(
    state: State, tree: Path, monkeypatch: pytest.MonkeyPatch, broken: Break, name: str, earlier: bool
) -> None:
    some_tree(tree)
    if earlier:
        publish(state, tree)
        for path in (tree / "file", tree / "d" / "inner" / "b"):
            write(path, b"changed", OLD + 1)
    broken(name, errno.EIO)
    first = publish(state, tree)
    again = publish(state, tree)
    assert first.exit_code == again.exit_code == 23
    assert again.head.snapshot == first.head.snapshot and not again.changed, "the same trouble is no news"
    broken(name, 0)
    done = publish(state, tree)
    assert done.exit_code == 0 and done.changed
    assert not any(entry.extra for entry in entries(state, done).values())
    assert unread_paths(snapshot(state, done).extra) == 0
    with State.open(tree.parent / "another") as afresh:
        assert publish(afresh, tree).root == done.root


def test_a_directory_that_opens_and_cannot_be_listed_stays(
    state: State, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_tree(tree)
    publish(state, tree)
    os.utime(tree / "d" / "inner")
    target = (tree / "d" / "inner").stat().st_ino

    def fail(fd: int, _real: Callable[[int], object]) -> object:
        if isinstance(fd, int) and os.fstat(fd).st_ino == target:
            raise OSError(errno.EIO, "Input/output error")
        return _real(fd)

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, partial(fail, _real=getattr(os, name)))
    done = publish(state, tree)
    assert is_carried(entries(state, done)[b"d/inner"]) and b"d/inner/b" in entries(state, done)


def test_a_root_that_cannot_be_listed_is_an_error_and_no_snapshot(
    state: State, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_tree(tree)
    before = publish(state, tree)

    def fail(_: int) -> object:
        raise OSError(errno.EIO, "Input/output error")

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, fail)
    with pytest.raises(FileError, match="tree cannot be read"):
        publish(state, tree)
    newest = state.heads.newest(before.archive)
    assert newest is not None and newest.raw == before.head.raw


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM], ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["d", "b"])
def test_a_machine_at_its_limit_makes_no_snapshot(
    state: State, tree: Path, broken: Break, name: str, number: int
) -> None:
    some_tree(tree)
    before = publish(state, tree)
    write(tree / "d" / "inner" / "b", b"changed", OLD + 1)
    broken(name, number)
    with pytest.raises(FileError, match=f"{name} cannot be opened: .*run again"):
        publish(state, tree)
    newest = state.heads.newest(before.archive)
    assert newest is not None and newest.raw == before.head.raw


def test_memory_that_runs_out_makes_no_snapshot(
    state: State, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_tree(tree)

    def fail(*_: object, **__: object) -> object:
        raise MemoryError

    monkeypatch.setattr(os, "readlink", fail)
    with pytest.raises(FileError, match="memory ran out"):
        publish(state, tree)
    assert state.heads.all() == []


def test_what_cannot_be_read_at_its_new_place_is_not_taken_for_deleted(
    state: State, tree: Path, broken: Break
) -> None:
    some_tree(tree)
    publish(state, tree)
    (tree / "d").rename(tree / "e")
    broken("e", errno.EACCES)
    found = entries(state, publish(state, tree))
    assert b"d" not in found and may_lack(found[b"e"], b"a")


def test_rules_of_today_hold_for_what_stays_from_yesterday(state: State, tree: Path, broken: Break) -> None:
    some_tree(tree)
    write(tree / "d" / "inner" / "secret", b"secret")
    publish(state, tree)
    broken("d", errno.EIO)
    found = entries(state, publish(state, tree, rules=Filter.parse([b"- secret"])))
    assert is_carried(found[b"d"])
    assert b"d/inner/b" in found and b"d/inner/secret" not in found


def test_a_file_that_stays_is_still_known_here(state: State, tree: Path, broken: Break) -> None:
    some_tree(tree)
    publish(state, tree)
    os.chmod(tree / "file", 0o600)
    broken("file", errno.EIO)
    publish(state, tree)
    tree_id = state.trees.all()[0].id
    assert b"file" in state.trees.files_in(tree_id, b"")
    assert b"b" in state.trees.files_in(tree_id, b"d/inner")


def test_of_many_unread_paths_some_are_named_and_the_rest_counted(
    state: State, tree: Path, broken: Break
) -> None:
    for number in range(NAMED_MAX + 5):
        write(tree / f"f{number:03}", b"x")
        broken(f"f{number:03}", errno.EIO)
    done = publish(state, tree)
    assert done.unread == NAMED_MAX + 5 > NAMES_MAX
    assert len(done.warnings) == NAMED_MAX + 1
    assert done.warnings[-1] == "5 more could not be read"
    assert may_lack(snapshot(state, done).root, b"anything")


def test_what_vanished_while_it_was_listed_is_gone(state: State, tree: Path, broken: Break) -> None:
    some_tree(tree)
    publish(state, tree)
    write(tree / "file", b"changed", OLD + 1)
    broken("file", errno.ENOENT)
    done = publish(state, tree)
    assert b"file" not in entries(state, done)
    assert not is_incomplete(snapshot(state, done).root)
    assert done.exit_code == 24


def test_a_file_that_is_rewritten_all_the_time_stays_as_it_was(
    state: State, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tree / "base", b"first")
    publish(state, tree)
    write(tree / "base", b"second", OLD + 1)
    real = os.pread
    texts = iter(range(100))

    def busy(fd: int, count: int, offset: int) -> bytes:
        data = real(fd, count, offset)
        (tree / "base").write_bytes(b"third %04d" % next(texts))
        return data

    monkeypatch.setattr(os, "pread", busy)
    done = publish(state, tree)
    assert is_carried(entries(state, done)[b"base"]) and entries(state, done)[b"base"].size == len(b"first")
    assert done.exit_code == 23
    assert done.warnings == ("base kept changing while it was read: it stays as it was in the last snapshot",)

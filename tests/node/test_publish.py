"""Publishing real trees: what the manifest says is what is on disk, and only what changed is read again."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.node.publishing import write

from p2psync.chunking import cut_object
from p2psync.errors import UsageError
from p2psync.events import Advanced, Event, Phase, Teller
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry, Kind, Totals, decode_listing
from p2psync.format.recipe import Recipe
from p2psync.format.snapshot import Snapshot
from p2psync.publish import Published, publish
from p2psync.rules.filter import Filter
from p2psync.state import FileRow, State


def manifest(state: State, done: Published) -> dict[bytes, Entry]:
    """Every entry by path, with the objects checked against their names."""
    raw = state.meta.get(done.head.snapshot.digest)
    assert raw is not None and cut_object(raw)[0] == done.head.snapshot
    root = Snapshot.decode(raw).root
    out = {b"": root}
    pending = [(b"", root)]
    while pending:
        path, entry = pending.pop()
        listing = state.meta.get(entry.digest)
        assert listing is not None
        ref, recipe = cut_object(listing)
        assert ref == entry.ref
        if not ref.is_single:
            assert state.meta.get_recipe(ref.digest) == recipe.encode()
        totals = Totals()
        for inner in decode_listing(listing):
            below = path + b"/" + inner.name if path else inner.name
            out[below] = inner
            totals = Totals(*(a + b for a, b in zip(totals, inner.below, strict=True)))
            if inner.kind == Kind.DIR:
                pending.append((below, inner))
        assert totals == entry.totals
    return out


def check_equals_disk(state: State, done: Published, tree: Path) -> dict[bytes, Entry]:
    entries = manifest(state, done)
    top = os.fsencode(tree)
    known = state.trees.get(top)
    assert known is not None
    rows: dict[bytes, dict[bytes, FileRow]] = {}
    seen = {b""}
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            seen.add(os.path.relpath(os.path.join(folder, name), top))
    assert seen == entries.keys()
    for path, entry in entries.items():
        st = os.lstat(os.path.join(top, path))
        assert entry.mtime_ns == st.st_mtime_ns
        if entry.kind == Kind.SYMLINK:
            assert entry.target == os.readlink(os.path.join(top, path))
            continue
        assert entry.mode == stat.S_IMODE(st.st_mode)
        if entry.kind == Kind.FILE:
            data = Path(os.fsdecode(os.path.join(top, path))).read_bytes()
            ref, recipe = cut_object(data)
            assert entry.ref == ref
            if ref.size > 65536:
                stored = state.meta.get_recipe(ref.digest)
                assert stored == recipe.encode()
                assert Recipe.decode(stored, ref).size == len(data)
            parent, name = os.path.split(path)
            if parent not in rows:
                rows[parent] = state.trees.files_in(known.id, parent)
            assert rows[parent][name].digest == ref.digest
    return entries


def test_manifest_says_what_is_on_disk(state: State, tree: Path) -> None:
    write(tree / "empty", b"")
    write(tree / "a" / "b" / "c", b"hello")
    write(tree / "one-chunk", os.urandom(65536))
    write(tree / "two", os.urandom(65537))
    write(tree / "large", os.urandom(3 << 20))
    with open(tree / "sparse", "wb") as file:
        file.truncate(5 << 20)
    (tree / "hollow").mkdir()
    for name in (b"-rf", b"\xff\xfe", b"a\nb", b"x" * 255, b" ", b"caf\xc3\xa9", b"\\"):
        write(os.path.join(os.fsencode(tree), b"odd", name), name)
    os.symlink("../../outside", tree / "dangling")
    os.symlink(b"\xff", os.fsencode(tree / "a" / "link"))
    os.chmod(tree / "empty", 0o4700)
    os.chmod(tree / "hollow", 0o1700)
    done = publish(state, tree)
    entries = check_equals_disk(state, done, tree)
    assert done.exit_code == 0 and done.warnings == () and done.changed
    assert done.files == sum(entry.kind == Kind.FILE for entry in entries.values())
    assert done.bytes == done.read_bytes
    assert done.root == entries[b""].digest.hex()
    assert done.head == state.heads.newest(done.archive)
    assert (done.head.epoch, done.head.seq) == (0, 1)
    known = state.trees.get(os.fsencode(tree))
    assert known is not None and known.snapshot == done.head.snapshot and known.role == "publish"


def test_a_large_directory_is_chunked_and_one_change_costs_one_chunk(state: State, tree: Path) -> None:
    for number in range(3000):
        write(tree / f"a-rather-long-name-of-a-file-{number:08}", b"%d" % number)
    first = publish(state, tree)
    one = check_equals_disk(state, first, tree)[b""].ref
    assert not one.is_single
    write(tree / "a-rather-long-name-of-a-file-00001500", b"other")
    two = check_equals_disk(state, publish(state, tree), tree)[b""].ref

    def chunks(ref: Ref) -> set[bytes]:
        raw = state.meta.get_recipe(ref.digest)
        assert raw is not None
        return {digest for digest, _ in Recipe.decode(raw, ref)}

    assert len(chunks(two) - chunks(one)) <= 2


def test_only_changed_files_are_read_again(state: State, tree: Path) -> None:
    sizes = [10, 70_000, 2_000_000]
    for number, size in enumerate(sizes * 4):
        write(tree / f"d{number % 5}" / f"f{number}", os.urandom(size))
    assert publish(state, tree).read_bytes == 4 * sum(sizes)
    again = publish(state, tree)
    assert (again.read_bytes, again.changed, again.head.seq) == (0, False, 1)
    write(tree / "d1" / "f1", os.urandom(70_001))
    write(tree / "d0" / "new", b"12345")
    (tree / "d2" / "f2").unlink()
    third = publish(state, tree)
    assert (third.read_bytes, third.changed, third.head.seq) == (70_006, True, 2)
    check_equals_disk(state, third, tree)
    assert b"f2" not in state.trees.files_in(1, b"d2")


def test_same_size_and_mtime_are_not_enough_to_hide_a_change(state: State, tree: Path) -> None:
    write(tree / "f", b"aaaa")
    publish(state, tree)
    write(tree / "f", b"bbbb")
    done = publish(state, tree)
    assert done.read_bytes == 4
    check_equals_disk(state, done, tree)
    write(tree / "g", b"cccc")
    os.replace(tree / "g", tree / "f")
    check_equals_disk(state, publish(state, tree), tree)


def test_a_file_just_written_is_read_again_next_time(state: State, tree: Path) -> None:
    write(tree / "fresh", b"data", mtime_ns=time.time_ns() + 10**9)
    write(tree / "old", b"data")
    assert publish(state, tree).read_bytes == 8
    time.sleep(0.2)  # more than a tick of the file system's clock
    assert publish(state, tree).read_bytes == 4
    assert publish(state, tree).read_bytes == 0


def test_mode_and_mtime_changes_make_a_snapshot_without_reading_unless_ctime_says_so(
    state: State, tree: Path
) -> None:
    write(tree / "d" / "f", b"data")
    publish(state, tree)
    os.chmod(tree / "d", 0o700)
    done = publish(state, tree)
    assert (done.changed, done.read_bytes) == (True, 0)
    os.chmod(tree / "d" / "f", 0o600)
    check_equals_disk(state, publish(state, tree), tree)


def test_renamed_and_removed_directories_leave_no_rows(state: State, tree: Path) -> None:
    write(tree / "a" / "b" / "f", b"1")
    write(tree / "c" / "f", b"2")
    publish(state, tree)
    os.rename(tree / "a", tree / "z")
    shutil.rmtree(tree / "c")
    (tree / "c").write_bytes(b"a file now")
    done = publish(state, tree)
    check_equals_disk(state, done, tree)
    assert done.read_bytes == len(b"a file now")  # a renamed directory is known by its inode
    assert publish(state, tree).changed is False
    assert state.trees.files_in(1, b"a/b") == {}
    assert state.trees.files_in(1, b"c") == {}
    assert state.trees.dirs_in(1, b"").keys() == {b"z"}


def test_special_files_are_skipped_with_a_warning(state: State, tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    write(tree / "f", b"x")
    for _ in range(2):
        done = publish(state, tree)
        assert done.exit_code == 0
        assert done.warnings == ("pipe is left out: it is a named pipe",)
        assert manifest(state, done).keys() == {b"", b"f"}


def test_times_that_no_manifest_can_hold_are_left_out(state: State, tree: Path) -> None:
    write(tree / "ancient", b"x", mtime_ns=-(10**18))
    write(tree / "f", b"x")
    far = tree / "far"
    write(far, b"x")
    os.utime(far, (12_000_000_000, 12_000_000_000))
    if far.stat().st_mtime < 12_000_000_000:
        pytest.skip("this file system cannot hold such times")
    done = publish(state, tree)
    assert manifest(state, done).keys() == {b"", b"ancient", b"f"}
    assert done.exit_code == 23 and "2262" in done.warnings[0]


def test_own_folders_at_the_root_are_never_published(state: State, tree: Path) -> None:
    write(tree / ".p2psync" / "head", b"x")
    write(tree / ".p2psync.partial" / "f", b"x")
    write(tree / "d" / ".p2psync-tmp-7", b"half a file")
    write(tree / "d" / ".p2psync" / "f", b"x")
    assert b".p2psync" not in (entries := manifest(state, publish(state, tree)))
    assert b".p2psync.partial" not in entries and b"d/.p2psync/f" in entries


def test_a_state_directory_inside_the_tree_is_never_published(tree: Path) -> None:
    write(tree / "f", b"x")
    with State.open(tree / ".local" / "state") as state:
        assert manifest(state, publish(state, tree)).keys() == {b"", b"f", b".local"}
        for inside in (state.path, state.path / "keys"):
            with pytest.raises(UsageError, match="never part of an archive"):
                publish(state, inside)


def test_rules_leave_out_and_are_remembered(state: State, tree: Path) -> None:
    for name in ("keep.c", "skip.o", "secret/key", "d/skip.o", "d/keep"):
        write(tree / name, b"x")
    rules = Filter.parse([b"- *.o", b"- /secret/"])
    wanted = {b"", b"keep.c", b"d", b"d/keep"}
    assert manifest(state, publish(state, tree, rules=rules)).keys() == wanted
    again = publish(state, tree)
    assert manifest(state, again).keys() == wanted and not again.changed
    assert state.trees.files_in(1, b"secret") == {}
    assert b"secret/key" in manifest(state, publish(state, tree, rules=Filter()))
    assert manifest(state, publish(state, tree, rules=rules)).keys() == wanted
    assert state.trees.files_in(1, b"secret") == {}


def test_progress_adds_up(state: State, tree: Path) -> None:
    for number in range(20):
        write(tree / f"d{number % 3}" / f"f{number}", os.urandom(number * 9999))

    def steps(events: list[Event], phase: Phase) -> list[Advanced]:
        """What was told in a phase."""
        since = events[events.index(phase) + 1 :]
        found: list[Advanced] = []
        for event in since:
            if not isinstance(event, Advanced):
                break
            found.append(event)
        return found

    phases: list[Phase] = []
    for _ in range(2):
        events: list[Event] = []
        done = publish(state, tree, tell=Teller(events.append), count_first=True)
        told = [event for event in events if isinstance(event, Phase)]
        published = steps(events, told[-1])
        assert sum(step.bytes for step in published) == done.bytes
        assert sum(step.files for step in published) == done.files
        assert sum(step.reused for step in published) == done.bytes - done.read_bytes, "no rate of reading"
        if told[0] == Phase("counting"):
            assert sum(step.files for step in steps(events, told[0])) == done.files
        phases += told
        total = (done.bytes, done.files)
        write(tree / "d1" / "f1", b"x" * 9999)
    assert phases == [Phase("counting"), Phase("publishing", *total), Phase("publishing", *total)]


def test_state_stays_consistent_when_killed(tmp_path: Path, tree: Path) -> None:
    for number in range(3000):
        write(tree / f"d{number % 30}" / f"f{number}", b"%d" % number)
    with State.open(tmp_path / "s") as state:
        first = publish(state, tree)
    for number in range(0, 3000, 2):
        write(tree / f"d{number % 30}" / f"f{number}", b"new %d" % number)
    # Killed in the middle of the walk, with a transaction open, and just before the head is written.
    script = """
import os, signal, sys
from pathlib import Path
from typing import ClassVar
from p2psync.publish import publish, writer
from p2psync.state import State, Trees
from p2psync.state.heads import HeadStore

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def put(*args):
    global left
    left -= 1
    real(*args)
    if left == 0:
        die()

writer.FLUSH_ROWS = 200
left, real = int(sys.argv[3]), Trees.put_directory
if left:
    Trees.put_directory = put
else:
    HeadStore.put = die
publish(State.open(Path(sys.argv[1])), sys.argv[2])
"""
    for kill_after in (1, 6, 3, 0):
        command = [sys.executable, "-c", script, str(tmp_path / "s"), str(tree), str(kill_after)]
        assert subprocess.run(command, check=False).returncode == -9
        with State.open(tmp_path / "s") as state:
            assert state.heads.newest(first.archive) == first.head
            manifest(state, first)
            known = state.trees.get(os.fsencode(tree))
            assert known is not None and known.snapshot == first.head.snapshot
    with State.open(tmp_path / "s") as state:
        done = publish(state, tree)
        assert (done.head.seq, done.changed, done.read_bytes) == (2, True, 0)
        check_equals_disk(state, done, tree)

"""A disk that is not mounted, or is another one, is not published as an archive of which everything was
deleted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.node.publishing import write

from p2psync.errors import DeleteLimitError, FileError
from p2psync.format.listing import Totals, decode_listing
from p2psync.format.marks import is_carried
from p2psync.format.snapshot import Snapshot
from p2psync.publish import Published, publish, walk
from p2psync.publish.guards import check_loss, check_place
from p2psync.state import State
from p2psync.tree.place import Place

HERE = Place(device=1, inode=2, filesystem=7)
ELSEWHERE = Place(device=3, inode=55, filesystem=8)
NAMES = frozenset({b"a", b"b", b"c", b"d"})


def fill(tree: Path, count: int) -> None:
    for number in range(count):
        write(tree / f"d{number % 5}" / f"f{number}", b"%d" % number)


def stands(state: State, done: Published) -> bool:
    """Whether this head is the newest here."""
    newest = state.heads.newest(done.archive)
    return newest is not None and newest.raw == done.head.raw


@pytest.mark.parametrize("count", [1, 7, 300])
def test_an_emptied_source_is_refused_until_that_is_said_to_be_meant(
    state: State, tree: Path, count: int
) -> None:
    fill(tree, count)
    before = publish(state, tree)
    away = tree.rename(tree.parent / "away")
    tree.mkdir()
    for _ in range(2):
        with pytest.raises(DeleteLimitError, match=r"lost .* names .*mount it .*--accept-shrink"):
            publish(state, tree)
    assert stands(state, before)
    tree.rmdir()
    away.rename(tree)
    again = publish(state, tree)
    assert not again.changed and again.read_bytes == 0, "what was known of it is still known"
    shutil.rmtree(tree)
    tree.mkdir()
    done = publish(state, tree, accept_shrink=True)
    assert done.files == 0 and done.head.seq == before.head.seq + 1
    assert publish(state, tree).exit_code == 0, "said once, it is not asked again"


def test_half_of_a_large_tree_that_is_gone_is_refused_and_less_is_not(state: State, tree: Path) -> None:
    fill(tree, 300)
    publish(state, tree)
    for number in range(140):
        (tree / f"d{number % 5}" / f"f{number}").unlink()
    assert publish(state, tree).files == 160
    for number in range(140, 250):
        (tree / f"d{number % 5}" / f"f{number}").unlink()
    with pytest.raises(DeleteLimitError):
        publish(state, tree)
    assert publish(state, tree, accept_shrink=True).files == 50


def test_a_refused_snapshot_forgets_nothing_and_an_accepted_one_all_that_is_gone(
    state: State, tree: Path
) -> None:
    fill(tree, 300)
    publish(state, tree)
    known = state.trees.all()[0].id
    for number in range(5):
        (tree / f"d{number}").rename(tree.parent / f"d{number}")
    with pytest.raises(DeleteLimitError):
        publish(state, tree)
    assert len(state.trees.files_in(known, b"d0")) == 60
    done = publish(state, tree, accept_shrink=True)
    assert state.trees.files_in(known, b"d0") == {} and state.trees.dirs_in(known, b"") == {}
    assert not publish(state, tree).changed and done.files == 0


def test_small_trees_are_rewritten_as_a_whole(state: State, tree: Path) -> None:
    fill(tree, 60)
    publish(state, tree)
    shutil.rmtree(tree)
    write(tree / "only", b"x")
    assert publish(state, tree).files == 1


@pytest.mark.parametrize(
    ("before", "now", "refused"),
    [
        (Totals(200, 0, 0, 0), Totals(100, 0, 0, 0), False),
        (Totals(202, 0, 0, 0), Totals(100, 0, 0, 0), True),
        (Totals(200, 0, 0, 0), Totals(99, 0, 0, 0), True),
        (Totals(100, 0, 0, 0), Totals(1, 0, 0, 0), False),
        (Totals(100, 0, 0, 0), Totals(0, 0, 0, 0), True),
        (Totals(1, 0, 0, 9), Totals(0, 0, 0, 0), True),
        (Totals(0, 0, 0, 0), Totals(0, 0, 0, 0), False),
        (Totals(200, 1000, 0, 0), Totals(90, 900, 0, 0), True),
        (Totals(10, 500, 500, 0), Totals(10, 100, 100, 0), True),
        (Totals(200, 0, 0, 9), Totals(300, 0, 0, 0), False),
    ],
)
def test_how_much_may_be_gone(before: Totals, now: Totals, refused: bool) -> None:
    if refused:
        with pytest.raises(DeleteLimitError):
            check_loss(b"/srv", before, now)
    else:
        check_loss(b"/srv", before, now)


@pytest.mark.parametrize(
    ("now", "has", "unmounted", "refused"),
    [
        (HERE, {b"x"}, False, None),
        (HERE._replace(device=9), {b"x"}, False, None),  # the machine was started again
        (ELSEWHERE, NAMES | {b"more"}, True, None),  # moved off its disk
        (ELSEWHERE, NAMES - {b"a"}, True, "mount point"),
        (ELSEWHERE, {b"x"}, True, "mount point"),
        (ELSEWHERE, {b"a", b"b", b"x"}, False, None),  # copied to a larger disk, and tidied
        (ELSEWHERE, {b"a", b"x", b"y", b"z"}, False, "another file system"),
    ],
)
def test_a_directory_that_looks_like_a_missing_or_another_disk(
    now: Place, has: set[bytes], unmounted: bool, refused: str | None
) -> None:
    if refused is None:
        check_place(b"/srv", HERE, now, NAMES, has, unmounted=unmounted)
    else:
        with pytest.raises(FileError, match=f"{refused}.*--accept-shrink"):
            check_place(b"/srv", HERE, now, NAMES, has, unmounted=unmounted)


def test_where_file_systems_have_no_number_the_device_counts() -> None:
    before, now = HERE._replace(filesystem=0), HERE._replace(filesystem=0, device=9)
    with pytest.raises(FileError, match="another file system"):
        check_place(b"/srv", before, now, NAMES, frozenset(), unmounted=False)
    check_place(b"/srv", before, before, NAMES, frozenset(), unmounted=False)
    check_place(b"/srv", None, now, NAMES, frozenset(), unmounted=False)


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is mounted within the tree, as the system would tell."""
    mounted: list[bytes] = []
    monkeypatch.setattr(walk, "mounts_below", lambda _: list(mounted))
    return mounted


def entries(state: State, done: Published) -> dict[bytes, bool]:
    """The names in the root, and whether they were carried over."""
    root = Snapshot.decode(state.meta.get(done.head.snapshot.digest) or b"").root
    return {entry.name: is_carried(entry) for entry in decode_listing(state.meta.get(root.digest) or b"")}


@pytest.mark.parametrize("left", [[], ["NOT-MOUNTED"]], ids=["empty", "with a sign"])
def test_a_disk_within_the_tree_that_is_not_mounted_stays_as_it_was(
    state: State, tree: Path, mounts: list[bytes], left: list[str]
) -> None:
    fill(tree, 50)
    write(tree / "disk" / "f", b"on the disk")
    mounts.append(b"disk")
    publish(state, tree)
    mounts.clear()
    (tree / "disk").rename(tree.parent / "unmounted")
    (tree / "disk").mkdir()
    for name in left:
        write(tree / "disk" / name, b"")
    for _ in range(2):
        done = publish(state, tree)
        assert entries(state, done)[b"disk"] and done.files == 51
        assert done.exit_code == 23 and "disk is no mount point any more" in done.warnings[0]
    done = publish(state, tree, accept_shrink=True)
    assert done.files == 50 + len(left) and done.exit_code == 0
    assert publish(state, tree).exit_code == 0


def test_what_was_moved_from_a_disk_into_the_tree_is_published(
    state: State, tree: Path, mounts: list[bytes]
) -> None:
    write(tree / "disk" / "f", b"on the disk")
    mounts.append(b"disk")
    publish(state, tree)
    mounts.clear()
    done = publish(state, tree)
    assert done.exit_code == 0 and not entries(state, done)[b"disk"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_real_disk_that_is_unmounted_is_an_error_that_says_so(tmp_path: Path) -> None:
    disk, state = tmp_path / "disk", tmp_path / "state"
    disk.mkdir()
    (disk / "left").write_bytes(b"written while it was not mounted")
    script = f"""
        mount -t tmpfs none {disk} && echo x > {disk}/x && echo y > {disk}/y || exit 99
        {sys.executable} -m p2psync publish {disk} --state {state} -q || exit 98
        umount {disk}
        {sys.executable} -m p2psync publish {disk} --state {state} -q && exit 97
        mount -t tmpfs none {disk} && echo z > {disk}/z
        {sys.executable} -m p2psync publish {disk} --state {state} -q && exit 96
        {sys.executable} -m p2psync publish {disk} --state {state} -q --accept-shrink
    """
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    if done.returncode == 99:
        pytest.skip("no file system may be mounted here")
    assert done.returncode == 0, done.stderr
    assert "was a mount point and is none now" in done.stderr
    assert "is on another file system than before" in done.stderr

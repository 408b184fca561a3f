"""What is deleted in DEST and what is kept: as rsync where it is asked for, else only what was put there."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.harness import need
from tests.node.fetch_world import BIG, TREE, World, changed
from tests.node.simulator import MTIME, Link, Tree

from p2psync.chunking import cut_object
from p2psync.errors import DeleteLimitError, FileError
from p2psync.fetch import guards
from p2psync.fetch.options import Delete, FetchSummary
from p2psync.format.listing import Entry, decode_listing, dir_entry, encode_listing
from p2psync.format.marks import UNREAD, carried, incomplete
from p2psync.format.snapshot import Snapshot
from p2psync.format.url import archive_text
from p2psync.tree.place import mounts_below

MANY: Tree = {b"many": {b"%03d" % n: b"%d" % n for n in range(150)}, b"few": {b"a": b"a"}}


def without(*gone: bytes) -> Tree:
    return {name: value for name, value in TREE.items() if name not in gone}


def mirror(world: World, **options: Any) -> FetchSummary:
    """An update as a mirror makes it unless it is told otherwise."""
    return world.fetch(mirror=True, **{"delete": Delete.OWN} | options)


def names(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


# What is evidence.


def test_a_strangers_parents_are_no_evidence(world: World) -> None:
    """Whoever signs a snapshot can invent an earlier one that "had" what is in a reader's directory."""
    world.dest.mkdir()
    thesis = world.dest / "thesis.tex"
    thesis.write_bytes(b"the work of years")
    os.utime(thesis, ns=(MTIME, MTIME))
    (world.dest / "notes").mkdir()
    (world.dest / "plans").symlink_to("notes")
    world.publisher.publish({**TREE, b"thesis.tex": b"guessed by size..", b"plans": Link(b"notes")})
    world.publisher.publish(without(b"notes"))
    for delete in (Delete.NONE, Delete.OWN):
        summary = world.fetch(mirror=True, delete=delete)
        assert sorted(summary.kept) == [b"notes", b"plans", b"thesis.tex"]
        assert thesis.read_bytes() == b"the work of years"


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_what_was_here_before_the_first_fetch_stays_its_owners_though_the_archive_had_the_same(
    world: World, kind: str
) -> None:
    things: Tree = {b"file": b"same", b"link": Link(b"big"), b"directory": {}}
    world.dest.mkdir()
    path = world.dest / "thing"
    if kind == "file":
        path.write_bytes(b"same")
        os.utime(path, ns=(0, 0))  # Its mode and time are set by the first fetch: it stays its owner's.
    elif kind == "link":
        path.symlink_to("big")
        os.utime(path, ns=(MTIME, MTIME), follow_symlinks=False)
    else:
        path.mkdir()
    world.publisher.publish(changed(thing=things[kind.encode()]))
    mirror(world)
    assert world.differs() == []
    world.publisher.publish(TREE)
    summary = mirror(world)
    assert os.path.lexists(path)
    assert summary.kept == [b"thing"]


def test_what_replaced_something_that_was_here_came_from_the_archive(world: World) -> None:
    world.dest.mkdir()
    (world.dest / "thing").write_text("an old version")
    world.publisher.publish(changed(thing=b"a new one"))
    mirror(world)
    world.publisher.publish(TREE)
    assert mirror(world).deleted == 1
    assert not (world.dest / "thing").exists()


def test_without_its_state_directory_a_mirror_deletes_nothing(world: World) -> None:
    mirror(world)
    world.fresh_state()
    world.publisher.publish(without(b"notes", b"link"))
    summary = mirror(world)
    assert (summary.deleted, sorted(summary.kept)) == (0, [b"link", b"notes"])
    assert mirror(world, delete=Delete.ALL).deleted == 4


def test_a_killed_fetch_leaves_evidence_of_what_it_made(world: World) -> None:
    """What a snapshot brought that was never completed goes when the next one does not have it."""
    world.publisher.publish(changed(new={b"x": b"x"}, link2=Link(b"x")))
    large, _ = cut_object(BIG)
    for source in world.sources.values():
        source.lacks = lambda digest: digest == large.digest
    summary = mirror(world)
    assert summary.missing == [b"big"]
    world.publisher.publish(without(b"big"))
    assert mirror(world).kept == []
    assert world.differs() == []
    assert len(names(world.dest)) == 105


@pytest.mark.parametrize(
    ("edit", "stays"),
    [
        (lambda path: path.write_bytes(b"two"), False),  # The same again, with another time.
        (lambda path: path.chmod(0o600), False),
        (lambda path: path.write_bytes(b"TWO"), True),
        (lambda path: path.write_bytes(b"two and more"), True),
        (lambda path: (path.unlink(), path.symlink_to("a")), True),
        (lambda path: (path.unlink(), path.mkdir()), True),
    ],
    ids=["rewritten", "another mode", "edited", "longer", "a link now", "a directory now"],
)
def test_only_what_is_still_what_was_put_there_goes(
    world: World, edit: Callable[[Path], object], stays: bool
) -> None:
    mirror(world)
    path = world.dest / "notes" / "b"
    edit(path)
    world.publisher.publish(changed(notes={b"a": b"one"}))
    summary = mirror(world)
    assert os.path.lexists(path) is stays
    assert summary.kept == ([b"notes/b"] if stays else [])
    assert summary.deleted == (0 if stays else 1)


def test_a_file_that_was_edited_and_is_gone_from_the_archive_is_named(world: World) -> None:
    mirror(world)
    (world.dest / "notes" / "b").write_text("mine now")
    world.publisher.publish(changed(notes={b"a": b"one"}))
    mirror(world)
    assert world.watcher.warnings == [
        "kept 'notes/b', which is gone from the archive: it was changed here since it came"
    ]


def test_a_link_that_leads_elsewhere_now_is_kept(world: World) -> None:
    mirror(world)
    (world.dest / "link").unlink()
    (world.dest / "link").symlink_to("mine")
    world.publisher.publish(without(b"link"))
    assert mirror(world).kept == [b"link"]
    (world.dest / "link").unlink()
    (world.dest / "link").symlink_to("big")
    assert mirror(world).deleted == 1


def test_directories_go_when_nothing_is_left_in_them(world: World) -> None:
    nested: Tree = {b"full": {b"deep": {b"f": b"f"}}, b"mixed": {b"f": b"f"}, b"empty": {}}
    world.publisher.publish(changed(tree=nested))
    mirror(world)
    (world.dest / "tree" / "mixed" / "mine").write_text("mine")
    (world.dest / "tree" / "mine").mkdir()
    world.publisher.publish(changed(tree={}))
    summary = mirror(world)
    assert names(world.dest / "tree") == {"mixed", "mixed/mine", "mine"}
    assert sorted(summary.kept) == [b"tree/mine", b"tree/mixed"]
    assert mirror(world, delete=Delete.ALL).kept == []
    assert names(world.dest / "tree") == set()


def test_deeper_than_python_calls_go(world: World) -> None:
    deep: Tree = {b"file": b"f"}
    for _ in range(500):
        deep = {b"d": deep}
    world.publisher.publish({**MANY, b"deep": deep})
    mirror(world)
    world.publisher.publish(MANY)
    assert mirror(world).deleted == 502
    assert world.differs() == []


# As rsync.


def rsync(source: Path, dest: Path, *options: str) -> int:
    argv = [need("rsync"), "-rlpt", *options, f"{source}/", f"{dest}/"]
    return subprocess.run(argv, capture_output=True, check=False).returncode


@pytest.fixture
def beside(world: World) -> Path:
    """An archive of one file; DEST has that and much more, and so has the copy of it for rsync."""
    world.publisher.publish({b"x": b"x"})
    for path in ("x", "a", "b/1", "b/2", "b/c/3", "b/c/4", "d e/5", "z/6", "z/7"):
        (world.dest / path).parent.mkdir(parents=True, exist_ok=True)
        (world.dest / path).write_text(path)
    (world.dest / "hollow").mkdir()
    (world.dest / "b" / "link").symlink_to("nowhere")
    shutil.copytree(world.dest, world.folder / "rsync", symlinks=True)
    (world.folder / "source").mkdir()
    (world.folder / "source" / "x").write_text("x")
    return world.folder / "rsync"


@pytest.mark.parametrize("limit", [None, *range(17)])
def test_max_delete_stops_where_rsync_stops(world: World, beside: Path, limit: int | None) -> None:
    options = [] if limit is None else [f"--max-delete={limit}"]
    code = rsync(world.folder / "source", beside, "--delete", *options)
    summary = world.fetch(delete=Delete.ALL, max_delete=limit)
    assert names(world.dest) == names(beside)
    assert summary.exit_code == code
    assert summary.complete


@pytest.mark.parametrize(
    "patterns", [["b/2"], ["/b"], ["[0-9]"], ["c/"], ["*e/***"], ["link", "z"], ["hollow/"], ["/1", "b/*/4"]]
)
@pytest.mark.parametrize("limit", [None, 3])
def test_what_is_protected_stays_as_with_rsync(
    world: World, beside: Path, patterns: list[str], limit: int | None
) -> None:
    options = [f"--filter=P {pattern}" for pattern in patterns]
    code = rsync(
        world.folder / "source", beside, "--delete", *options, *([f"--max-delete={limit}"] if limit else [])
    )
    summary = world.fetch(delete=Delete.ALL, max_delete=limit, protect=tuple(patterns))
    assert names(world.dest) == names(beside)
    assert summary.exit_code == code


def test_what_came_from_the_archive_can_be_protected_too(world: World) -> None:
    mirror(world)
    world.publisher.publish(without(b"notes"))
    assert mirror(world, protect=("a",)).kept == [b"notes"]
    assert names(world.dest / "notes") == {"a"}


def test_a_directory_with_something_protected_in_it_does_not_make_way(world: World) -> None:
    mirror(world)
    world.publisher.publish(changed(notes=b"a file now"))
    assert mirror(world, delete=Delete.ALL, protect=("b",)).exit_code == 23
    assert names(world.dest / "notes") == {"a", "b"}
    assert mirror(world, delete=Delete.ALL, protect=("c",)).exit_code == 0


def test_without_delete_nothing_goes_as_with_rsync(world: World, beside: Path) -> None:
    assert rsync(world.folder / "source", beside) == 0
    assert world.fetch().exit_code == 0
    assert names(world.dest) == names(beside)


def test_a_directory_does_not_make_way_for_a_file_without_delete_as_with_rsync(world: World) -> None:
    world.fetch()
    copy = world.folder / "rsync"
    shutil.copytree(world.dest, copy, symlinks=True)
    world.publisher.publish(changed(notes=b"a file now"))
    source = world.folder / "source"
    source.mkdir()
    (source / "notes").write_text("a file now")
    assert world.fetch().exit_code == rsync(source, copy) == 23
    assert names(world.dest) == names(copy)
    assert world.fetch(delete=Delete.ALL).exit_code == rsync(source, copy, "--delete") == 0
    assert (world.dest / "notes").read_text() == (copy / "notes").read_text()


# What its publisher could not read.


def publish_marked(
    world: World, tree: Tree, mark: Callable[[Entry], Entry], name: bytes, unread: int
) -> None:
    """Publish a tree in which the entry ``name`` of the root (b"": the root itself) has a mark."""
    ref, totals = world.publisher.add_tree(tree)
    if name:
        entries = decode_listing(world.publisher.objects[ref.digest])
        ref = world.publisher.put(encode_listing([mark(e) if e.name == name else e for e in entries]))
    root = dir_entry(b"", 0o755, MTIME, ref, totals)
    snapshot = Snapshot(root if name else mark(root), world.publisher.now * 10**9, extra={UNREAD: unread})
    world.publisher.sign(world.publisher.put(snapshot.encode()))


@pytest.mark.parametrize("delete", list(Delete))
def test_below_what_could_not_be_read_nothing_is_deleted(world: World, delete: Delete) -> None:
    """As rsync, which deletes nothing when its sender could not read something, and ends with 23."""
    mirror(world)
    (world.dest / "notes" / "mine").write_text("mine")
    before = names(world.dest)
    publish_marked(world, {**TREE, b"notes": {}}, incomplete, b"notes", 1)
    for _ in range(2):
        summary = mirror(world, delete=delete)
        assert names(world.dest) == before
        assert (summary.exit_code, summary.complete) == (23, True)
        assert sorted(summary.kept) == [b"notes/a", b"notes/b", b"notes/mine"]
        assert world.watcher.warnings == [
            "the archive's publisher could not read 1 path; nothing is deleted that may be there",
            *(
                f"kept 'notes/{name}': the archive's publisher could not read it"
                for name in ("a", "b", "mine")
            ),
        ]
    world.publisher.publish({**TREE, b"notes": {}})
    assert mirror(world).deleted == 2


def test_only_the_names_that_could_not_be_read_stay_with_all_below(world: World) -> None:
    mirror(world)
    publish_marked(world, without(b"pool", b"link"), lambda e: incomplete(e, [b"pool"]), b"", 1)
    summary = mirror(world)
    assert summary.kept == [b"pool"]
    assert len(names(world.dest / "pool")) == 100
    assert not os.path.lexists(world.dest / "link")


def test_what_stands_as_it_did_before_keeps_what_is_below(world: World) -> None:
    nested: Tree = {b"deep": {b"x": b"x"}, b"y": b"y"}
    world.publisher.publish(changed(old=nested))
    mirror(world)
    publish_marked(world, changed(old={b"deep": {}}), carried, b"old", 1)
    assert sorted(mirror(world, delete=Delete.ALL).kept) == [b"old/deep/x", b"old/y"]
    assert names(world.dest / "old") == {"deep", "deep/x", "y"}


# Snapshots that lost most of what is here.


@pytest.mark.parametrize("delete", [Delete.OWN, Delete.ALL])
@pytest.mark.parametrize(
    "left", [{}, {b"few": {b"a": b"a"}}, {b"many": {b"001": b"1"}}, {b"many": b"a file"}]
)
def test_an_emptied_snapshot_is_not_followed_until_it_is_accepted(
    world: World, delete: Delete, left: Tree
) -> None:
    world.publisher.publish(MANY)
    mirror(world, delete=delete)
    before = names(world.dest)
    world.publisher.publish(left)
    for _ in range(2):
        with pytest.raises(DeleteLimitError, match=r"lacks 1[45][0-9] of the 1[45][0-9] files"):
            mirror(world, delete=delete)
        assert names(world.dest) == before
    (tree,) = world.state.trees.all()
    assert tree.seq == 2
    mirror(world, delete=delete, accept_shrink=True)
    assert world.differs() == []
    assert len(names(world.dest)) < 5


def test_after_a_snapshot_that_was_not_followed_the_next_whole_one_is(world: World) -> None:
    world.publisher.publish(MANY)
    mirror(world)
    world.publisher.publish({})
    with pytest.raises(DeleteLimitError):
        mirror(world)
    world.publisher.publish({**MANY, b"more": b"more"})
    assert mirror(world).changed == 1
    assert world.differs() == []


def test_what_a_fetch_brought_that_was_never_complete_counts_too(world: World) -> None:
    world.publisher.publish({**MANY, b"big": TREE[b"big"]})
    large, _ = cut_object(BIG)
    for source in world.sources.values():
        source.lacks = lambda digest: digest == large.digest
    assert mirror(world).missing == [b"big"]
    world.publisher.publish({})
    with pytest.raises(DeleteLimitError):
        mirror(world)


def test_what_a_fetch_kept_is_not_lost_by_the_next_update_of_a_mirror(world: World) -> None:
    world.publisher.publish(MANY)
    world.fetch()
    for turn in range(10):
        world.publisher.publish({b"new": b"%d" % turn})
        world.fetch()
    with pytest.raises(DeleteLimitError):
        mirror(world)
    assert mirror(world, accept_shrink=True).deleted == 153
    assert mirror(world).deleted == 0


def test_another_part_of_the_archive_is_no_reason_to_delete_all_that_was_here(world: World) -> None:
    world.publisher.publish(MANY)
    mirror(world)
    with pytest.raises(DeleteLimitError):
        world.fetch(None, b"few/", mirror=True, delete=Delete.OWN)
    assert len(names(world.dest)) == 153


def test_who_deletes_nothing_follows_every_snapshot(world: World) -> None:
    world.publisher.publish(MANY)
    world.fetch()
    world.publisher.publish({b"new": b"new"})
    assert world.fetch().exit_code == 0
    assert (world.dest / "many" / "001").exists()


@pytest.mark.parametrize(
    "next_one",
    [
        {b"renamed": MANY[b"many"]},
        {b"renamed": {b"below": {b"x%s" % name: data for name, data in MANY[b"many"].items()}}},  # type: ignore[union-attr]
    ],
    ids=["directory", "each file"],
)
def test_renaming_everything_loses_nothing(world: World, next_one: Tree) -> None:
    world.publisher.publish(MANY)
    mirror(world)
    world.publisher.publish(next_one)
    mirror(world)
    assert world.differs() == []
    assert not (world.dest / "many").exists()


def test_half_of_an_archive_or_a_hundred_names_may_go(world: World) -> None:
    world.publisher.publish({b"old": {b"%d" % n: b"%d" % n for n in range(100)}, b"a": b"a"})
    mirror(world)
    world.publisher.publish({b"a": b"a"})
    assert mirror(world).deleted == 101
    world.publisher.publish({b"old": MANY[b"many"], b"new": {b"x%d" % n: b"x%d" % n for n in range(150)}})
    mirror(world)
    world.publisher.publish({b"new": {b"x%d" % n: b"x%d" % n for n in range(150)}})
    assert mirror(world).deleted == 151


def test_what_is_not_of_the_archive_does_not_count(world: World) -> None:
    """--delete removes other things, however many, as rsync does."""
    world.fetch()
    for n in range(500):
        (world.dest / f"mine {n}").write_text("mine")
    assert world.fetch(delete=Delete.ALL).deleted == 500


# A mirror's directory that is not where it was.


def test_a_mirror_that_is_gone_is_not_made_anew_unasked(world: World) -> None:
    mirror(world)
    world.dest.rename(world.folder / "unmounted")
    with pytest.raises(FileError, match=r"dest is gone; mount its disk .*--accept-moved") as refused:
        mirror(world)
    assert not world.dest.exists()
    told = shlex.split(str(refused.value).rpartition("anew: ")[2].partition(" (and ")[0])
    asked, where = f"p2psync://{archive_text(world.publisher.archive)}", ["--state", str(world.state.path)]
    assert told == ["p2psync", "mirror", asked, str(world.dest), "--once", "--accept-moved", *where]
    (world.folder / "unmounted").rename(world.dest)
    assert mirror(world).changed == 0
    shutil.rmtree(world.dest)
    assert mirror(world, accept_moved=True).changed == 103
    assert mirror(world).changed == 0


def test_a_mirror_is_not_fetched_into_the_empty_directory_below_its_disk(world: World) -> None:
    mirror(world)
    world.dest.rename(world.folder / "mounted elsewhere")
    world.dest.mkdir()
    (world.dest / "lost+found").mkdir()
    with pytest.raises(FileError, match=r"another directory than before, and nothing .*--accept-moved"):
        mirror(world)
    assert names(world.dest) == {"lost+found"}
    assert mirror(world, accept_moved=True).changed == 103


def test_a_mirror_that_was_moved_to_another_disk_with_all_that_is_in_it_goes_on(world: World) -> None:
    mirror(world)
    world.dest.rename(world.folder / "old disk")
    shutil.copytree(world.folder / "old disk", world.dest, symlinks=True)
    assert mirror(world).changed == 0
    assert mirror(world).changed == 0


@pytest.mark.parametrize("as_mirror", [True, False])
def test_a_directory_that_was_renamed_is_known_by_its_new_name(
    world: World, as_mirror: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publisher.publish(TREE)
    world.fetch(mirror=as_mirror)
    (tree,) = world.state.trees.all()
    new = world.dest.with_name("renamed")
    world.dest.rename(new)
    monkeypatch.setattr(os, "preadv", None)  # as nothing is read
    again = world.fetch(new, mirror=as_mirror)
    (moved,) = world.state.trees.all()
    assert (moved.id, moved.path, again.changed) == (tree.id, bytes(new), 0)


@pytest.mark.parametrize("why", ["it is a copy", "the old one is there again", "nothing of it is in it"])
def test_another_directory_is_not_taken_for_one_that_was_renamed(world: World, why: str) -> None:
    world.publisher.publish(TREE)
    world.fetch()
    new = world.dest.with_name("another")
    if why == "it is a copy":
        shutil.copytree(world.dest, new, symlinks=True)
        shutil.rmtree(world.dest)
    else:
        world.dest.rename(new)
        if why == "the old one is there again":
            world.dest.mkdir()
        else:
            for path in new.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    world.fetch(new)
    assert {tree.path for tree in world.state.trees.all()} == {bytes(world.dest), bytes(new)}


def test_a_mirror_is_not_fetched_beneath_a_disk_that_was_mounted_in_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = [b"notes", b"pool"]
    monkeypatch.setattr(guards, "mounts_below", lambda _: mounted)
    mirror(world)
    mounted.remove(b"pool")
    (world.dest / "pool").rename(world.folder / "unmounted")
    (world.dest / "pool").mkdir()
    with pytest.raises(FileError, match=r"nothing is mounted any more at \S+/pool in the mirror"):
        mirror(world)
    assert os.listdir(world.dest / "pool") == []
    (world.dest / "pool").rmdir()
    with pytest.raises(FileError):
        mirror(world)
    (world.folder / "unmounted").rename(world.dest / "pool")
    assert mirror(world).changed == 0  # With the content in it, it need not be a mount point.
    shutil.rmtree(world.dest / "pool")
    assert mirror(world, accept_moved=True).changed == 100


def test_what_is_mounted_below_a_directory_is_read_from_the_system(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes(
        b"22 1 254:0 / / rw - ext4 /dev/a rw\n31 22 0:29 / /srv/m rw,nosuid shared:2 - tmpfs t rw\n"
        b"32 31 0:30 / /srv/m/a\\040b/c rw - tmpfs t rw\n33 31 0:31 / /srv/m/d rw - nfs x rw\n"
        b"34 22 0:32 / /srv/mirror rw - nfs x rw\nbroken\n"
    )
    assert mounts_below(b"/srv/m", str(table)) == [b"a b/c", b"d"]
    assert mounts_below(b"/", str(table)) == [b"srv/m", b"srv/m/a b/c", b"srv/m/d", b"srv/mirror"]
    assert mounts_below(b"/srv/m", str(tmp_path / "none")) == []


def test_a_mirror_that_was_emptied_where_it_is_is_filled_again(world: World) -> None:
    mirror(world)
    shutil.rmtree(world.dest / "pool")
    shutil.rmtree(world.dest / "notes")
    (world.dest / "big").unlink()
    (world.dest / "link").unlink()
    assert mirror(world).changed == 103


def test_a_fetch_makes_its_directory_anew_as_rsync_does(world: World) -> None:
    world.fetch()
    shutil.rmtree(world.dest)
    assert world.fetch().changed == 103

"""Whole fetches over a swarm in memory: reuse of what is here, removal, replaced snapshots, single files."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import Any, cast

import pytest
from tests.help.descriptors import open_below
from tests.node.fetch_world import BIG, SIZE, TREE, World, changed
from tests.node.simulator import MTIME, Link, content

from p2psync.errors import FileError, FormatError, NetworkError, TrustError, UsageError
from p2psync.fetch.options import Delete, FetchSummary
from p2psync.supply import download, producer


def test_a_fetch_ends_with_the_tree_and_the_right_figures(world: World) -> None:
    summary = world.fetch()
    assert world.differs() == []
    assert (summary.files, summary.bytes, summary.changed, summary.reused) == (103, SIZE, 103, 0)
    assert (
        summary.received == sum(summary.sources.values()) == sum(s.received for s in world.sources.values())
    )
    assert SIZE < summary.received < 1.1 * SIZE
    assert summary.exit_code == 0
    assert all(source.closed for source in world.sources.values())


def test_when_nothing_changed_only_the_head_is_asked_for(world: World) -> None:
    world.fetch()
    for source in world.sources.values():
        source.asked.clear()
    summary = world.fetch()
    assert all(source.asked == [] for source in world.sources.values())
    assert summary.received < 2_000
    assert (summary.reused, summary.changed, summary.files) == (SIZE, 0, 103)


def test_a_renamed_directory_costs_nothing(world: World) -> None:
    world.fetch()
    tree = {name: value for name, value in TREE.items() if name != b"pool"}
    world.publisher.publish({**tree, b"archive": TREE[b"pool"]})
    world.fresh_state()
    summary = world.fetch()
    assert world.differs() == []
    assert summary.received < SIZE / 100
    assert summary.reused == SIZE
    assert len(os.listdir(world.dest / "pool")) == 100  # whoever fetches deletes nothing unasked


def test_a_renamed_directory_is_removed_by_who_fetched_it(world: World) -> None:
    world.fetch()
    (world.dest / "pool" / "mine").write_text("keep")
    tree = {name: value for name, value in TREE.items() if name != b"pool"}
    world.publisher.publish({**tree, b"archive": TREE[b"pool"]})
    summary = world.fetch(delete=Delete.OWN)
    assert world.differs() == []
    assert os.listdir(world.dest / "pool") == ["mine"]
    assert summary.deleted == 100
    assert summary.kept == [b"pool"]


def test_a_copy_that_is_not_to_be_checked_is_looked_at_when_a_newer_snapshot_has_come(world: World) -> None:
    world.fetch()
    (world.dest / "big").write_bytes(b"changed by hand")
    summary = world.fetch(check_dest=False)
    assert (summary.exit_code, summary.changed, summary.files) == (0, 0, 103)
    assert world.differs() == [b"/big"]
    world.publisher.publish(changed(more=b"more"))
    world.fetch(check_dest=False)
    assert world.differs() == []


def test_a_copy_that_is_not_complete_is_looked_at_in_any_case(world: World) -> None:
    world.fetch(check_dest=False)
    assert world.differs() == []


def test_edits_within_a_large_file_cost_their_chunks(world: World) -> None:
    world.fetch()
    world.publisher.publish(changed(big=BIG[:200_000] + b"inserted" + BIG[200_000:]))
    summary = world.fetch()
    assert world.differs() == []
    assert summary.received < 150_000


def test_a_truncated_file_and_an_appended_one(world: World) -> None:
    world.fetch()
    world.publisher.publish(changed(big=BIG[:300_000]))
    assert world.fetch().received < 150_000
    world.publisher.publish(changed(big=BIG))
    assert world.fetch().received < 250_000
    assert world.differs() == []


def test_old_content_that_changed_since_it_was_indexed_is_not_trusted(world: World) -> None:
    world.fetch()
    path = world.dest / "big"
    with path.open("r+b") as file:
        file.write(b"x" * 1000)
    os.utime(path, ns=(MTIME, MTIME))
    tree = {name: value for name, value in TREE.items() if name != b"big"}
    world.publisher.publish({**tree, b"moved": BIG})
    world.fetch()
    assert world.differs() == []


def test_content_moves_between_names_in_one_step(world: World) -> None:
    """Each file takes the place of another whose content is wanted elsewhere."""
    names = list(cast(dict[bytes, bytes], TREE[b"pool"]))
    pool = cast(dict[bytes, bytes], TREE[b"pool"])
    world.fetch()
    world.publisher.publish(changed(pool={name: pool[names[i - 1]] for i, name in enumerate(names)}))
    summary = world.fetch()
    assert world.differs() == []
    assert summary.received < 30_000


@pytest.mark.parametrize("delete", list(Delete))
def test_policies_of_removal(world: World, delete: Delete) -> None:
    world.fetch()
    (world.dest / "mine").write_text("mine")
    (world.dest / "notes" / "mine").write_text("mine")
    (world.dest / "notes" / "b").write_text("changed by its owner")
    world.publisher.publish({b"big": BIG, b"notes": {}})
    summary = world.fetch(delete=delete, accept_shrink=True)
    left = sorted(path.relative_to(world.dest).as_posix() for path in world.dest.rglob("*"))
    if delete == Delete.ALL:
        assert left == ["big", "notes"]
        assert summary.deleted == 106
    elif delete == Delete.OWN:
        assert left == ["big", "mine", "notes", "notes/b", "notes/mine"]
        assert (summary.deleted, sorted(summary.kept)) == (103, [b"mine", b"notes/b", b"notes/mine"])
    else:
        assert len(left) == 108
        assert summary.deleted == 0
    assert world.differs() == []
    assert summary.exit_code == 0


def test_types_change_both_ways(world: World) -> None:
    world.fetch()
    world.publisher.publish(changed(big={b"now": b"a directory"}, notes=b"a file", link={b"x": Link(b"y")}))
    world.fetch(delete=Delete.OWN)
    assert world.differs() == []
    world.publisher.publish(TREE)
    world.fetch(delete=Delete.OWN)
    assert world.differs() == []


def test_a_directory_of_somebody_in_the_way_is_not_removed(world: World) -> None:
    (world.dest / "big").mkdir(parents=True)
    (world.dest / "big" / "mine").write_text("keep")
    summary = world.fetch()
    assert summary.exit_code == 23
    assert len(summary.failed) == 1
    assert (world.dest / "big" / "mine").read_text() == "keep"
    assert world.differs() == [b"", b"/big"] or world.differs() == [b"/big"]


def test_a_snapshot_that_goes_away_is_followed(world: World) -> None:
    old, new = world.publisher.head, content("new big", 500_000)
    for source in world.sources.values():
        source.newest = old.raw
        source.rate = 400_000

    async def replaced() -> FetchSummary:
        task = asyncio.ensure_future(world.fetching())
        await asyncio.sleep(2.0)
        assert not task.done()
        world.publisher.publish({b"big": new, b"pool": {b"000.deb": content("deb 0", 2_000)}})
        live = {
            entry.digest for _, entry, _ in world.publisher.read(world.publisher.head) if not entry.target
        }
        live.add(world.publisher.head.snapshot.digest)
        for source in world.sources.values():
            source.newest = world.publisher.head.raw
            source.lacks = lambda digest: digest not in live
        return await task

    summary = world.run(replaced())
    assert summary.seq == 2
    assert world.differs() == []
    assert (summary.exit_code, summary.files) == (0, 2)
    assert summary.bytes == 502_000
    assert summary.reused <= summary.bytes


def test_a_snapshot_that_is_left_fails_for_none_of_its_directories(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most of them were not even begun."""
    monkeypatch.setattr(download, "WINDOW_BYTES", 0)
    monkeypatch.setattr(producer, "BATCH_FILES", 1)
    old = {b"%02d" % n: {b"inner": {b"file": content(f"old {n}", 50_000)}} for n in range(20)}
    world.publisher.publish(old)
    for source in world.sources.values():
        source.rate = 10_000

    async def replaced() -> FetchSummary:
        task = asyncio.ensure_future(world.fetching())
        await asyncio.sleep(2.0)
        world.publisher.publish({name: {b"inner": {b"file": b"new"}} for name in old})
        live = {entry.digest for _, entry, _ in world.publisher.read(world.publisher.head)}
        live.add(world.publisher.head.snapshot.digest)
        for source in world.sources.values():
            source.newest = world.publisher.head.raw
            source.lacks = lambda digest: digest not in live
        return await task

    summary = world.run(replaced())
    assert (summary.exit_code, summary.seq, world.differs()) == (0, world.publisher.head.seq, [])
    assert [text for text in world.watcher.warnings if "mode and time" in text] == []


def test_what_is_gone_everywhere_is_named_and_the_rest_is_fetched(world: World) -> None:
    gone = world.publisher.put(BIG).digest
    for source in world.sources.values():
        source.lacks = lambda digest: digest == gone
    summary = world.fetch()
    assert (summary.exit_code, summary.missing) == (23, [b"big"])
    assert b"/big" in world.differs()
    assert len(world.differs()) <= 2
    for source in world.sources.values():
        source.lacks = lambda digest: False
    assert world.fetch().exit_code == 0
    assert world.differs() == []


def test_an_older_head_is_refused(world: World) -> None:
    old = world.publisher.head
    world.publisher.publish(changed(notes={b"a": b"newer"}))
    world.fetch()
    for source in world.sources.values():
        source.newest = old.raw
    summary = world.fetch()
    assert summary.seq == 2
    assert world.differs() == []
    assert any("refused" in text for text in world.watcher.warnings)


def test_without_a_head_there_is_nothing_to_do(world: World) -> None:
    for source in world.sources.values():
        source.dead_from = 0.0
    with pytest.raises(NetworkError, match="no head"):
        world.fetch()
    assert not world.dest.exists()


def test_a_stale_head_is_used_unless_a_fresh_one_is_demanded(world: World) -> None:
    world.publisher.now = 1_700_000_000
    world.publisher.publish(TREE)
    with pytest.raises(TrustError):
        world.fetch(require_fresh=True)
    assert world.fetch().exit_code == 0
    assert any("old" in text for text in world.watcher.warnings)


def test_a_liar_is_named_in_the_summary(world: World) -> None:
    world.sources["a"].lies = lambda digest, offset: True
    summary = world.fetch()
    assert world.differs() == []
    assert summary.banned == ["a"]
    assert summary.sources["a"] < 1_000_000


class TestSingleFiles:
    def test_into_a_directory(self, world: World) -> None:
        world.dest.mkdir()
        (world.dest / "mine").write_text("mine")
        summary = world.fetch(path=b"notes/a")
        assert sorted(os.listdir(world.dest)) == ["a", "mine"]
        assert (summary.files, summary.changed) == (1, 1)

    def test_under_another_name(self, world: World) -> None:
        world.fetch(dest=world.folder / "copy", path=b"big")
        assert (world.folder / "copy").read_bytes() == BIG
        assert world.fetch(dest=world.folder / "copy", path=b"big").changed == 0

    def test_a_link(self, world: World) -> None:
        world.fetch(dest=world.folder / "copy", path=b"link")
        assert str((world.folder / "copy").readlink()) == "big"

    def test_into_a_directory_that_is_not_there(self, world: World) -> None:
        with pytest.raises(FileError, match="make it first"):
            world.fetch(dest=world.folder / "no" / "copy", path=b"big")

    def test_its_place_stays_when_the_snapshot_is_replaced(self, world: World) -> None:
        inner = world.folder / "in" / "ner"
        inner.mkdir(parents=True)
        gone = world.publisher.put(BIG).digest
        for source in world.sources.values():
            source.newest = world.publisher.head.raw
            source.lacks = lambda digest: digest == gone

        async def replaced() -> FetchSummary:
            task = asyncio.ensure_future(world.fetching(inner / "copy", b"big"))
            await asyncio.sleep(0.5)
            world.publisher.publish(changed(big=b"newer"))
            for source in world.sources.values():
                source.newest = world.publisher.head.raw
            return await task

        assert world.run(replaced()).exit_code == 0
        assert (inner / "copy").read_bytes() == b"newer"
        assert os.listdir(world.folder / "in") == ["ner"]

    def test_a_published_directory_does_not_become_a_mirror(self, world: World) -> None:
        world.dest.mkdir()
        world.state.trees.ensure(bytes(world.dest), "publish", b"p" * 32)
        with pytest.raises(UsageError, match="published"):
            world.fetch(path=b"notes/a", mirror=True)
        with pytest.raises(UsageError, match="published"):
            world.fetch()
        world.fetch(path=b"notes/a")
        assert world.state.trees.all()[0].role == "publish"


def test_a_part_of_the_archive(world: World) -> None:
    world.fetch(path=b"notes/")
    assert sorted(os.listdir(world.dest)) == ["a", "b"]
    tree = world.state.trees.all()[0]
    assert (tree.role, tree.snapshot) == ("fetch", None)


def test_a_mirror_is_recorded_when_it_is_complete(world: World) -> None:
    gone = world.publisher.put(BIG).digest
    for source in world.sources.values():
        source.lacks = lambda digest: digest == gone
    world.fetch(mirror=True)
    (tree,) = world.state.trees.all()
    assert (tree.role, tree.snapshot) == ("mirror", None)
    for source in world.sources.values():
        source.lacks = lambda digest: False
    world.fetch(mirror=True, mirror_interval=60.0)
    (tree,) = world.state.trees.all()
    assert (tree.seq, tree.snapshot) == (1, world.publisher.head.snapshot)
    assert tree.options["interval"] == 60.0


def test_two_fetches_into_one_directory_do_not_meet(world: World) -> None:
    async def both() -> None:
        first = asyncio.ensure_future(world.fetching())
        await asyncio.sleep(0.001)
        with pytest.raises(FileError):
            await world.fetching()
        await first

    world.run(both())
    assert world.differs() == []


def refuse_the_folder(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the folder of unfinished files be refused with this error."""
    real = os.mkdir

    def refuse(path: Any, *rest: Any, **more: Any) -> None:
        if path == b".p2psync.partial":
            raise OSError(number, os.strerror(number))
        real(path, *rest, **more)

    monkeypatch.setattr(os, "mkdir", refuse)


def test_a_dest_that_refuses_is_an_error_for_people(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.dest.mkdir()
    refuse_the_folder(monkeypatch, errno.EIO)
    with pytest.raises(FileError, match="Input/output error"):
        world.fetch()


def test_where_dest_may_not_have_our_folder_files_are_made_elsewhere_and_nothing_stays_there(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world.dest.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    refuse_the_folder(monkeypatch, errno.EACCES)
    world.fetch()
    assert world.differs() == []
    assert list(elsewhere.iterdir()) == []


def test_directories_that_belong_to_others_are_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.utime

    def refuse(path: Any, *rest: Any, **more: Any) -> None:
        if isinstance(path, int) and stat.S_ISDIR(os.fstat(path).st_mode):
            raise PermissionError(1, "Operation not permitted")
        real(path, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(os, "utime", refuse)
        summary = world.fetch()
    assert summary.exit_code == 23
    assert sorted(summary.failed)[0].startswith("'.'")
    assert all((world.dest / name).exists() for name in ("big", "pool/000.deb", "notes/a"))


def test_a_hostile_archive_changes_nothing(world: World) -> None:
    world.publisher.sign(world.publisher.directory_bomb(depth=5, width=50))
    with pytest.raises(FormatError):
        world.fetch(check_space=False)  # Which another disk might have room for.
    assert not world.dest.exists()


def test_descriptors_are_given_back(world: World) -> None:
    world.fetch()
    before = open_below(world.folder)
    for turn in range(3):
        world.publisher.publish(changed(notes={b"a": b"%d" % turn}, big=content(turn, 300_000)))
        world.fetch()
    assert open_below(world.folder) == before

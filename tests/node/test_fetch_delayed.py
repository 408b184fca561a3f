"""--delay-updates: nothing of an update shows before all of it has come, and what a run that was stopped
had is of use to the next one.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.node.fetch_world import TREE, World, changed
from tests.node.simulator import Link, content
from tests.node.swarm_sim import SimSource
from tests.node.writer_bench import DIGEST, NEW, OLD, WriterBench

from p2psync.errors import P2psyncError
from p2psync.format.reserved import PARTIAL
from p2psync.tree.orders import Land, Landing, WorkIn

UPDATE = changed(
    pool={b"%03d.deb" % n: content(f"new {n}", 2_000 + 900 * n) for n in range(100)},
    big=content("new big", 500_000),
    link=Link(b"notes/a"),
    fresh={b"deep": {b"er": b"x", b"empty": b"", b"l": Link(b"er")}},
    same=content("new big", 500_000),
)


def shown(dest: Path) -> dict[str, object]:
    """What anybody sees there."""
    return {
        str(path.relative_to(dest)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in dest.rglob("*")
        if not path.is_dir() and os.fsdecode(PARTIAL) not in path.parts
    }


def test_until_all_has_come_everything_is_as_it_was(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fetch()
    before = shown(world.dest)
    world.publisher.publish(UPDATE)
    seen: list[bool] = []
    read = SimSource.read

    async def reading(self: SimSource, *arguments: object) -> list[bool]:
        seen.append(shown(world.dest) == before)
        return await read(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(SimSource, "read", reading)
    assert world.fetch(delay_updates=True).exit_code == 0
    assert len(seen) > 3
    assert all(seen)
    assert world.differs() == []
    assert not (world.dest / os.fsdecode(PARTIAL)).exists()


def test_afterwards_the_index_knows_it_and_nothing_is_read_again(world: World) -> None:
    world.fetch(delay_updates=True)
    assert world.differs() == []
    for tree in (UPDATE, TREE):
        world.publisher.publish(tree)
        summary = world.fetch(delay_updates=True)
        assert (summary.exit_code, world.differs()) == (0, [])
        index = world.state.trees.get(os.fsencode(world.dest))
        assert index is not None
        for directory in (b"", b"pool"):
            stamp = world.state.trees.dir_row(index.id, directory)
            assert stamp is not None
            assert stamp.stamp, "a directory that is as it should be has its stamp"
    assert world.fetch(delay_updates=True).changed == 0


def test_what_could_not_be_had_keeps_nothing_else_from_its_place(world: World) -> None:
    world.fetch()
    world.publisher.publish(UPDATE)
    lost = world.publisher.put(content("new 7", 2_000 + 900 * 7)).digest
    for source in world.sources.values():
        source.lacks = lost.__eq__
    assert world.fetch(delay_updates=True).exit_code == 23
    assert world.differs() == [b"/pool/007.deb"]


def test_a_large_file_that_had_come_is_there_for_the_next_run(world: World) -> None:
    world.fetch()
    before = shown(world.dest)
    world.publisher.publish(UPDATE)
    for source in world.sources.values():
        source.dead_from = 0.25
    with pytest.raises(P2psyncError):
        world.fetch(delay_updates=True, timeout=1.0)
    assert shown(world.dest) == before
    left = {path.name for path in (world.dest / os.fsdecode(PARTIAL)).iterdir()}
    assert left
    assert not any("held" in name for name in left)
    for source in world.sources.values():
        source.dead_from = float("inf")
    summary = world.fetch(delay_updates=True)
    assert (summary.exit_code, world.differs()) == (0, [])
    assert summary.reused > 0


# The writer alone.


def delayed(writing: WriterBench) -> WriterBench:
    found = os.stat(writing.dest)
    writing.writer.carry_out(WorkIn(found.st_dev, found.st_ino, True))
    return writing


def land(writing: WriterBench, path: bytes, digest: bytes = b"", target: bytes = b"") -> object:
    directory, _, name = path.rpartition(b"/")
    row = Landing(name, 0o640, 1_700_000_000_000_000_000, digest, target)
    (result,) = writing.do(Land(9, directory, [row])).results
    return result


def test_what_lands_has_the_stamp_that_it_has_in_its_place(writing: WriterBench) -> None:
    delayed(writing)
    (writing.dest / "file").write_bytes(OLD)
    writing.make(b"file", b"new")
    writing.make(b"d/file", b"other")
    writing.link(b"d/link", b"file")
    assert (writing.dest / "file").read_bytes() == OLD
    for path in ("file", "d/file", "d/link"):
        result = land(writing, path.encode(), target=b"file" if path.endswith("link") else b"")
        found = os.lstat(writing.dest / path)
        assert result == (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    assert (writing.dest / "file").read_bytes() == b"new"
    assert os.readlink(writing.dest / "d/link") == "file"


def test_what_has_not_come_is_told_from_what_could_not_be_placed(writing: WriterBench) -> None:
    delayed(writing)
    (writing.dest / "d" / "full").mkdir(parents=True)
    (writing.dest / "d" / "full" / "mine").touch()
    writing.make(b"d/full", b"new")
    assert land(writing, b"d/nothing", digest=DIGEST) == ""
    assert land(writing, b"elsewhere/nothing", digest=DIGEST) == ""
    refused = land(writing, b"d/full")
    assert isinstance(refused, str)
    assert "a directory" in refused
    assert (writing.dest / "d" / "full" / "mine").exists()


def test_an_object_waits_under_its_id_and_small_files_of_a_killed_run_are_removed(
    writing: WriterBench,
) -> None:
    delayed(writing)
    writing.make_new(b"big")
    writing.make(b"small", b"small")
    folder = writing.dest / os.fsdecode(PARTIAL)
    assert (folder / DIGEST.hex()).read_bytes() == NEW
    assert not (writing.dest / "big").exists()
    writing.again()
    delayed(writing)
    writing.make(b"other", b"other")
    assert land(writing, b"small") == ""
    assert isinstance(land(writing, b"big", digest=DIGEST), tuple)
    assert (writing.dest / "big").read_bytes() == NEW

"""What goes where in DEST: as rsync has it, which is asked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.node.fetch_world import World
from tests.node.simulator import Link, Tree

from p2psync.errors import FileError, P2psyncError, SelectionError, UsageError
from p2psync.fetch.options import Delete
from p2psync.format.url import ArchiveUrl

ARCHIVE: Tree = {
    b"a": b"one",
    b"dir": {b"b": b"two", b"sub": {b"c": b"three"}},
    b"flink": Link(b"a"),
    b"link": Link(b"dir"),
    b"far": {b"away": Link(b"../link/sub")},
}
SOURCES = [b"", b"dir", b"dir/sub/", b"dir/b", b"a/", b"link", b"nosuch"]
LINKED = [b"link/", b"link/b", b"link/sub", b"far/away", b"far/away/", b"far/away/c", b"flink/", b"flink/x"]
PLACES = [b"there", b"there/", b"new", b"new/", b"file", b"file/", b"x/y/z", b"x/y/z/"]


def put(tree: Tree, place: Path) -> None:
    """The same on a disk."""
    place.mkdir()
    for name, what in tree.items():
        path = place / os.fsdecode(name)
        if isinstance(what, dict):
            put(what, path)
        elif isinstance(what, Link):
            path.symlink_to(os.fsdecode(what.target))
        else:
            assert isinstance(what, bytes)
            path.write_bytes(what)


def what_is_there(folder: Path) -> dict[str, bytes | str | None]:
    """Every path below a directory: bytes of files, targets of links, None for directories."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(folder.rglob("*")):
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(folder))] = content
    return found


def some_room(folder: Path) -> Path:
    """A directory with a directory and a file in it."""
    (folder / "there").mkdir(parents=True)
    (folder / "file").write_text("was here")
    return folder


def a_daemon(folder: Path) -> Path:
    """A remote shell that leads to an rsync daemon with ``folder / "module"`` as the module m, and to no
    port.
    """
    configuration = folder / "rsyncd.conf"
    configuration.write_text(f"use chroot = no\n[m]\npath = {folder / 'module'}\n")
    shell = folder / "shell"
    shell.write_text(f"#!/bin/sh\nexec rsync --server --daemon --config={configuration} .\n")
    shell.chmod(0o755)
    return shell


def rsync(shell: Path, source: bytes, dest: bytes) -> int:
    """The exit code of fetching a part of the module m."""
    asked = [b"rsync", b"-rlpt", b"-e", bytes(shell), b"host::m/" + source, dest]
    return subprocess.run(asked, capture_output=True, check=False).returncode


@pytest.mark.parametrize("source", SOURCES + LINKED, ids=os.fsdecode)
def test_src_and_dest_mean_what_they_mean_to_rsync(world: World, source: bytes) -> None:
    world.publisher.publish(ARCHIVE)
    put(ARCHIVE, world.folder / "module")
    remote = a_daemon(world.folder)
    for number, place in enumerate(PLACES[:3] if source in LINKED else PLACES):
        theirs = some_room(world.folder / f"rsync {number}")
        code = rsync(remote, source, bytes(theirs) + b"/" + place)
        ours = some_room(world.folder / f"p2psync {number}")
        world.fresh_state()
        try:
            got = world.fetch(bytes(ours) + b"/" + place, source).exit_code
        except P2psyncError as error:
            got = error.exit_code
        assert (place, got) == (place, code)
        assert (place, what_is_there(ours)) == (place, what_is_there(theirs))


def test_what_is_beside_the_directory_in_dest_stays_as_it_is(world: World) -> None:
    world.dest.mkdir()
    (world.dest / "mine").write_text("mine")
    world.dest.chmod(0o711)
    before = world.dest.stat().st_mode
    world.fetch(path=b"notes", delete=Delete.ALL)
    assert sorted(os.listdir(world.dest)) == ["mine", "notes"]
    assert world.dest.stat().st_mode == before
    (world.dest / "notes" / "more").write_text("goes")
    world.fetch(path=b"notes", delete=Delete.ALL)
    assert sorted(os.listdir(world.dest / "notes")) == ["a", "b"]


def test_both_spellings_of_one_place_are_one_tree_to_the_index(world: World) -> None:
    world.fetch(path=b"notes")
    again = world.fetch(world.dest / "notes", path=b"notes/")
    assert (again.changed, len(world.state.trees.all())) == (0, 1)


def test_a_link_in_dest_where_the_directory_should_go_is_not_followed(world: World) -> None:
    outside = world.folder / "outside"
    outside.mkdir()
    world.dest.mkdir()
    (world.dest / "notes").symlink_to(outside)
    with pytest.raises(SelectionError, match="in the way"):
        world.fetch(path=b"notes")
    assert os.listdir(outside) == []


def test_two_parts_of_an_archive_are_fetched_into_one_directory_at_once(world: World) -> None:
    import asyncio

    async def both() -> None:
        await asyncio.gather(world.fetching(path=b"notes"), world.fetching(path=b"pool"))

    world.dest.mkdir()
    world.run(both())
    assert sorted(os.listdir(world.dest)) == ["notes", "pool"]


def test_two_fetches_of_one_directory_do_not_meet_whatever_it_is_called(world: World) -> None:
    import asyncio

    async def both() -> list[object]:
        world.dest.mkdir()
        one, other = world.fetching(path=b"pool"), world.fetching(world.dest / "pool", path=b"pool/")
        return list(await asyncio.gather(one, other, return_exceptions=True))

    failed = [outcome for outcome in world.run(both()) if isinstance(outcome, FileError)]
    assert len(failed) == 1
    assert "another p2psync" in str(failed[0])


def test_a_mirror_of_a_directory_is_recorded_where_the_directory_is(world: World) -> None:
    world.fetch(path=b"notes", mirror=True)
    (tree,) = world.state.trees.all()
    assert tree.path == bytes(world.dest) + b"/notes"
    assert ArchiveUrl.parse(tree.source) == ArchiveUrl(world.publisher.archive, b"notes", inside=True)


def test_a_file_is_not_mirrored(world: World) -> None:
    world.dest.mkdir()
    with pytest.raises(SelectionError, match="'notes/a' is a file"):
        world.fetch(path=b"notes/a", mirror=True)


@pytest.mark.parametrize("below", ["", "sub", "sub/deeper/still"])
def test_a_directory_that_is_published_from_here_is_no_dest(world: World, below: str) -> None:
    world.dest.mkdir()
    world.state.trees.ensure(bytes(world.dest), "publish", b"p" * 32)
    with pytest.raises(UsageError, match="published"):
        world.fetch(world.dest / below)
    with pytest.raises(UsageError, match="published"):
        world.fetch(world.dest / below, mirror=True)
    assert os.listdir(world.dest) == []


def test_links_that_lead_nowhere_are_named_with_the_reason(world: World) -> None:
    world.publisher.publish(
        {b"out": Link(b"../x"), b"abs": Link(b"/etc"), b"x": Link(b"y"), b"y": Link(b"x")}
    )
    for path, reason in ((b"out/", "out of the archive"), (b"abs/passwd", "out of"), (b"x/", "more than 40")):
        with pytest.raises(P2psyncError, match=reason) as refused:
            world.fetch(path=path)
        assert refused.value.exit_code == 23


def test_a_mirror_of_a_directory_goes_on_when_that_becomes_a_link(world: World) -> None:
    world.publisher.publish({b"stable": {b"a": b"one"}})
    world.fetch(path=b"stable/", mirror=True)
    world.publisher.publish({b"twelve": {b"a": b"one", b"b": b"two"}, b"stable": Link(b"twelve")})
    world.fetch(path=b"stable/", mirror=True)
    assert what_is_there(world.dest) == {"a": b"one", "b": b"two"}

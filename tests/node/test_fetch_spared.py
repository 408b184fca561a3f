"""A state directory that lies in DEST: no policy of removal, archive or index gets at the keys in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.node.fetch_world import TREE, World, changed
from tests.node.simulator import Link, Tree, content

from p2psync.daemon.mirrors import register
from p2psync.errors import UsageError
from p2psync.fetch.options import Delete, FetchOptions
from p2psync.format.url import ArchiveUrl
from p2psync.state import State
from p2psync.tree.beneath import Beneath


def move_state(world: World, path: str) -> Path:
    """Let the client's state directory lie at ``path`` below DEST, with a key."""
    world.state.close()
    world.state = State.open(world.dest / path)
    world.state.identity()
    return world.dest / path


def keys(state: Path) -> bytes:
    assert {"node.key", "keys", "locks", "index.sqlite"} <= set(os.listdir(state))
    return (state / "node.key").read_bytes()


@pytest.mark.parametrize("dest", ["", "keys", "new/deep", "link", "link/keys"])
@pytest.mark.parametrize("mirror", [False, True])
def test_the_state_directory_is_no_dest(world: World, dest: str, mirror: bool) -> None:
    world.folder.joinpath("link").symlink_to(world.state.path)
    place = world.folder / dest if dest.startswith("link") else world.state.path / dest
    key = world.state.identity().seed
    before = sorted(world.state.path.rglob("*"))
    with pytest.raises(UsageError, match="private keys"):
        world.fetch(place, delete=Delete.ALL, mirror=mirror)
    with pytest.raises(UsageError, match="private keys"):
        register(world.state, FetchOptions(ArchiveUrl(world.publisher.archive, b""), bytes(place)))
    assert sorted(world.state.path.rglob("*")) == before
    assert world.state.identity().seed == key
    assert world.state.trees.all() == []


@pytest.mark.parametrize("delete", list(Delete))
@pytest.mark.parametrize("where", [".state", "a/b/.state", "pool/.state"])
def test_it_is_spared_and_what_is_beside_it_is_not(world: World, delete: Delete, where: str) -> None:
    world.fetch()
    state = move_state(world, where)
    key = keys(state)
    (state.parent / "mine").write_text("mine")
    (world.dest / "other").mkdir()
    for _ in range(2):
        summary = world.fetch(delete=delete)
        assert summary.exit_code == 0
        assert keys(state) == key
        assert (state.parent / "mine").exists() == (world.dest / "other").exists() == (delete != Delete.ALL)
        assert world.differs() == []
    if delete == Delete.ALL:
        assert summary.kept == ([b"a"] if where.startswith("a") else [])


def test_it_stays_when_the_archive_drops_the_directory_that_it_is_in(world: World) -> None:
    world.fetch()
    state = move_state(world, "pool/.state")
    key = keys(state)
    for path in (world.dest / "pool").glob("*.deb"):
        path.unlink()  # What is to go has to be what this state directory has put there.
    world.fetch()
    world.publisher.publish({name: value for name, value in TREE.items() if name != b"pool"})
    summary = world.fetch(delete=Delete.OWN)
    assert (summary.deleted, summary.kept) == (100, [b"pool"])
    assert os.listdir(world.dest / "pool") == [".state"]
    assert keys(state) == key


def test_nothing_of_it_is_read_or_indexed(world: World) -> None:
    """It is no content when DEST is adopted, nor a place to look for chunks, nor what an older index says."""
    world.fetch()
    state = move_state(world, "pool/.state")
    (state / "large").write_bytes(content("same", 300_000))
    world.publisher.publish(changed(big=content("same", 300_000)))
    (world.dest / "pool" / "000.deb").unlink()
    summary = world.fetch(mirror=True, delete=Delete.ALL)
    assert summary.received > 300_000
    (tree,) = world.state.trees.all()
    assert world.state.trees.files_in(tree.id, b"pool")
    row = world.state.trees.files_in(tree.id, b"")[b"big"]
    for directory in (b"pool/.state", b"pool/.state/keys"):
        assert world.state.trees.files_in(tree.id, directory) == {}
        world.state.trees.put_files(tree.id, directory, [row])
    assert b".state" not in world.state.trees.dirs_in(tree.id, b"pool")
    world.fetch(mirror=True)
    for directory in (b"pool/.state", b"pool/.state/keys"):
        assert world.state.trees.files_in(tree.id, directory) == {}


@pytest.mark.parametrize(
    "tree",
    [
        {b"a": {b"state": b"a file"}},
        {b"a": {b"state": {b"node.key": b"theirs"}}},
        {b"a": {b"state": Link(b"/tmp")}},
        {b"a": b"a file"},
        {b"a": Link(b"/tmp")},
    ],
)
def test_an_archive_that_wants_its_place_is_refused(world: World, tree: Tree) -> None:
    state = move_state(world, "a/state")
    key = keys(state)
    world.publisher.publish(tree)
    with pytest.raises(UsageError) as refused:
        world.fetch(delete=Delete.ALL)
    assert str(state) in str(refused.value)
    assert repr("a/state" if isinstance(tree[b"a"], dict) else "a") in str(refused.value)
    assert os.listdir(world.dest) == ["a"]
    assert keys(state) == key


def test_a_single_file_goes_beside_it_and_not_over_it(world: World) -> None:
    state = move_state(world, "a")
    key = keys(state)
    world.fetch(path=b"big")
    with pytest.raises(UsageError, match="the archive has 'a'"):
        world.fetch(path=b"notes/a")
    assert (world.dest / "big").exists()
    assert keys(state) == key


def test_it_may_not_lie_in_the_folder_for_unfinished_files(world: World) -> None:
    state = move_state(world, ".p2psync.partial/old")
    key = keys(state)
    with pytest.raises(UsageError, match="when the fetch into"):
        world.fetch()
    assert keys(state) == key


def test_removal_below_dest_refuses_what_is_spared(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "state").mkdir(parents=True)
    (tmp_path / "a" / "bc").mkdir()
    beneath = Beneath(bytes(tmp_path), frozenset({b"a/b/state"}))
    for parent, name in ((b"", b"a"), (b"a", b"b"), (b"a/b", b"state")):
        with pytest.raises(OSError, match="busy"):
            beneath.remove(parent, name)
    assert beneath.remove(b"a", b"bc") == 1
    assert (tmp_path / "a" / "b" / "state").is_dir()
    beneath.close()


@pytest.mark.parametrize("delete", list(Delete))
def test_what_a_killed_writer_left_beside_files_goes_whatever_else_stays(
    world: World, delete: Delete
) -> None:
    world.fetch()
    left = world.dest / "pool" / ".p2psync-tmp-7"
    left.write_text("half a file")
    summary = world.fetch(delete=delete)
    assert (summary.deleted, summary.kept, summary.exit_code) == (0, [], 0)
    assert not left.exists()
    assert world.differs() == []

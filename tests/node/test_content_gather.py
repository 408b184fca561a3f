"""Rows of a batch, gathered out of trees: each is what was published, or not here, in whatever order they
come.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.help.descriptors import open_below

from p2psync.content.library import StateLibrary
from p2psync.format.ids import chunk_id
from p2psync.publish import publish
from p2psync.sources.wire import NOT_HERE, ROW_LENGTH, Row
from p2psync.state import State
from p2psync.tree.opener import SMALL_MAX

SIZES = (20, 100, SMALL_MAX, SMALL_MAX + 1, 30_000)
DIRECTORIES = (b"", b"few", b"many", b"a/b/c", *(b"one/%d" % number for number in range(40)))


@dataclass
class World:
    tree: Path
    state: State
    library: StateLibrary
    archive: bytes
    contents: dict[bytes, bytes]
    """By digest."""
    paths: list[Path]

    def gather(self, rows: Sequence[Row]) -> list[bytes | None]:
        """What comes for each row."""
        room = bytearray(b"?" * sum(ROW_LENGTH.size + length for _, _, length in rows))
        taken = self.library.gather(rows, memoryview(room))
        came: list[bytes | None] = []
        at = 0
        for size, archive in zip(taken.sizes, taken.archives, strict=True):
            (length,) = ROW_LENGTH.unpack_from(room, at)
            begin, at = at + ROW_LENGTH.size, at + size
            came.append(None if length == NOT_HERE else bytes(room[begin:at]))
            assert archive == (None if length == NOT_HERE else self.archive)
            assert size - ROW_LENGTH.size == (0 if length == NOT_HERE else length)
        assert len(came) == len(rows)
        return came


def whole(data: bytes) -> Row:
    return chunk_id(data), 0, len(data)


def make(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    top = tmp_path_factory.mktemp("gather")
    rng = random.Random(1)
    contents: dict[bytes, bytes] = {}
    paths: list[Path] = []
    for directory in DIRECTORIES:
        for number in range(3 if directory != b"many" else 300):
            data = rng.randbytes(SIZES[number % len(SIZES)])
            paths.append(make(top / "tree" / os.fsdecode(directory) / f"f{number}", data))
            contents[chunk_id(data)] = data
    make(top / "tree" / "a/again", paths[0].read_bytes())
    with State.open(top / "state") as state:
        archive = publish(state, top / "tree").archive
        library = StateLibrary(state)
        yield World(top / "tree", state, library, archive, contents, paths)
        library.close()


@pytest.fixture
def fresh(world: World, tmp_path: Path) -> Iterator[World]:
    """A world to be changed."""
    tree = tmp_path / "tree"
    shutil.copytree(world.tree, tree)
    with State.open(tmp_path / "state") as state:
        archive = publish(state, tree).archive
        library = StateLibrary(state)
        paths = [tree / path.relative_to(world.tree) for path in world.paths]
        yield World(tree, state, library, archive, world.contents, paths)
        library.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_rows_in_any_order_whole_and_in_part(world: World, data: st.DataObject) -> None:
    known = list(world.contents)
    rows: list[Row] = []
    expected: list[bytes | None] = []
    for digest in data.draw(
        st.lists(st.sampled_from(known) | st.binary(min_size=32, max_size=32), max_size=60)
    ):
        content = world.contents.get(digest, b"")
        offset = data.draw(st.integers(0, max(len(content) - 1, 0)))
        length = data.draw(st.integers(1, len(content) - offset + 2))
        rows.append((digest, offset, length))
        expected.append(content[offset : offset + length] if offset + length <= len(content) else None)
    assert world.gather(rows) == expected


def test_a_whole_tree_by_one_batch(world: World) -> None:
    """As clients ask: directory by directory, in the order of names."""
    contents = [path.read_bytes() for path in world.paths]
    assert world.gather([whole(data) for data in contents]) == contents
    random.Random(2).shuffle(contents)
    assert world.gather([whole(data) for data in contents]) == contents


@pytest.mark.parametrize("change", ["written", "removed", "link", "fifo", "directory"])
def test_one_that_changed_is_not_here_and_its_neighbours_are(fresh: World, change: str) -> None:
    contents = [path.read_bytes() for path in fresh.paths]
    rows = [whole(data) for data in contents]
    assert fresh.gather(rows) == contents
    changed = [index for index, path in enumerate(fresh.paths) if path.name == "f1"]
    for index in changed:
        path, data = fresh.paths[index], contents[index]
        path.unlink()
        if change == "written":
            path.write_bytes(bytes(len(data)))
        elif change == "link":
            path.symlink_to(make(fresh.tree / "aside" / path.parent.name, data))
        elif change == "fifo":
            os.mkfifo(path)
        elif change == "directory":
            path.mkdir()
    expected = [None if index in changed else data for index, data in enumerate(contents)]
    assert fresh.gather(rows) == expected


def test_a_directory_that_was_replaced_by_an_equal_one_is_read_again(fresh: World) -> None:
    """Its files are the same, by their inodes, in a directory that is not the one that is open."""
    some = [path for path in fresh.paths if path.parent.name == "many"]
    contents = [path.read_bytes() for path in some]
    rows = [whole(data) for data in contents]
    assert fresh.gather(rows) == contents
    (fresh.tree / "many").rename(fresh.tree / "old")
    (fresh.tree / "many").mkdir()
    for path in some:
        os.rename(fresh.tree / "old" / path.name, path)
    publish(fresh.state, fresh.tree)
    assert fresh.gather(rows) == contents


def test_a_directory_behind_a_link_is_not_read(fresh: World, tmp_path: Path) -> None:
    some = [path for path in fresh.paths if path.parent.name == "many"]
    rows = [whole(path.read_bytes()) for path in some]
    (fresh.tree / "many").rename(tmp_path / "outside")
    (fresh.tree / "many").symlink_to(tmp_path / "outside")
    assert fresh.gather(rows) == [None] * len(rows)


def test_what_was_published_anew_is_found_and_what_is_gone_is_not(fresh: World) -> None:
    path = fresh.tree / "many" / "f7"
    old, new = path.read_bytes(), b"newer"
    assert fresh.gather([whole(old), whole(new)]) == [old, None]
    path.write_bytes(new)
    assert fresh.gather([whole(old), whole(new)]) == [None, None]
    publish(fresh.state, fresh.tree)
    assert fresh.gather([whole(old), whole(new)]) == [None, new]


def test_a_copy_serves_where_the_first_was_changed(fresh: World) -> None:
    data = fresh.paths[0].read_bytes()
    fresh.paths[0].write_bytes(bytes(len(data)))
    neighbour = fresh.paths[1].read_bytes()
    assert fresh.gather([whole(data), whole(neighbour), whole(data)]) == [data, neighbour, data]


def test_no_directory_stays_in_use(fresh: World) -> None:
    contents = [path.read_bytes() for path in fresh.paths]
    fresh.gather([whole(data) for data in contents])
    fresh.library.close()
    assert not open_below(fresh.tree)

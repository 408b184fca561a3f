"""What options leave as it is in DEST: what is noted of that, and which links lead out. What each option
leaves is judged by rsync (tests/interop/test_selecting_rsync.py).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tests.node.fetch_world import TREE, World
from tests.node.simulator import MTIME, Link, Tree

from p2psync.plan.receiving import leads_out


@pytest.mark.parametrize(
    ("target", "directory", "unsafe"),
    [
        (b"a", b"", False),
        (b"../a", b"", True),
        (b"../a", b"d", False),
        (b"..", b"d", False),
        (b"../..", b"d/e", True),  # rsync takes every end in /.. for unsafe
        (b"../../a", b"d/e", False),
        (b"../../../a", b"d/e", True),
        (b"..//../a", b"d/e", False),
        (b"d/../a", b"d", True),
        (b"./../a", b"d", True),
        (b"/a", b"d", True),
        (b"", b"d", True),
        (b"..a", b"", False),
    ],
)
def test_links_that_lead_out_are_those_of_rsync(target: bytes, directory: bytes, unsafe: bool) -> None:
    assert leads_out(target, directory) is unsafe


def age(place: Path, seconds: int) -> None:
    os.utime(place, ns=(MTIME + seconds * 10**9,) * 2)


@pytest.mark.parametrize(
    "options",
    [
        {"max_size": 1000},
        {"safe_links": True},
        {"update": True},
        {"ignore_existing": True},
        {"size_only": True},
    ],
)
def test_a_mirror_that_leaves_something_claims_no_snapshot_until_it_does_not(
    world: World, options: dict[str, Any]
) -> None:
    world.publisher.publish({**TREE, b"out": Link(b"/etc")})
    world.dest.mkdir()
    (world.dest / "notes").mkdir()
    (world.dest / "notes" / "a").write_bytes(b"1ne")
    age(world.dest / "notes" / "a", 60)
    for _ in range(2):
        summary = world.fetch(mirror=True, **options)
        assert summary.exit_code == 0
        tree = world.state.trees.get(os.fsencode(world.dest))
        assert tree is not None
        assert tree.snapshot is None
        assert world.differs()
    # Without having looked it does not become the whole one, either.
    world.fetch(mirror=True, check_dest=False, **options)
    tree = world.state.trees.get(os.fsencode(world.dest))
    assert tree is not None
    assert tree.snapshot is None
    world.fetch(mirror=True, check_dest=False)
    tree = world.state.trees.get(os.fsencode(world.dest))
    assert tree is not None
    assert tree.snapshot == world.publisher.head.snapshot
    assert world.differs() == []


def test_what_is_left_out_by_its_size_needs_no_room_and_is_no_progress(world: World) -> None:
    summary = world.fetch(max_size=2_500)
    assert (summary.changed, summary.reused, summary.exit_code) == (3, 0, 0)
    assert world.fetch(max_size=2_500).changed == 0
    assert world.fetch(min_size=400_000).changed == 1
    assert world.fetch().changed == 99
    assert world.differs() == []


def test_links_are_safe_or_not_by_how_deep_they_lie(world: World) -> None:
    links: Tree = {b"up": Link(b"../x"), b"x": b"x"}
    world.publisher.publish({b"a": {b"b": links, **links}, **links})
    world.fetch(safe_links=True)
    found = {str(path.relative_to(world.dest)) for path in world.dest.rglob("*") if path.is_symlink()}
    assert found == {"a/up", "a/b/up"}


def test_a_file_of_the_right_size_is_known_by_what_it_has_and_not_by_what_it_should(world: World) -> None:
    world.dest.mkdir()
    (world.dest / "notes").mkdir()
    (world.dest / "notes" / "a").write_bytes(b"1ne")
    world.fetch(size_only=True)
    assert (world.dest / "notes" / "a").read_bytes() == b"1ne"
    assert (world.dest / "notes" / "a").stat().st_mtime_ns == MTIME
    # Now it looks right, and the index knows better.
    world.fetch()
    assert world.differs() == []


def test_a_directory_in_the_way_goes_by_force_but_for_what_is_protected(world: World) -> None:
    (world.dest / "big").mkdir(parents=True)
    (world.dest / "big" / "mine").write_text("mine")
    assert world.fetch().exit_code == 23
    assert world.fetch(force=True, filters=(b"P mine",)).exit_code == 23
    assert (world.dest / "big" / "mine").exists()
    assert world.fetch(force=True).exit_code == 0
    assert world.differs() == []

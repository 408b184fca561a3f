"""Hard links: a snapshot says how many names share their file with others, and a fetch that is to keep them
is refused where there may be any.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.node.fetch_world import World, world
from tests.node.publishing import NOW, state, tree, write

from p2psync.errors import LinksNotKept
from p2psync.format.marks import LINKED, further, has_no_links
from p2psync.format.snapshot import Snapshot
from p2psync.publish.publisher import publish
from p2psync.rules.filter import Filter
from p2psync.state import State
from p2psync.tree import statx

__all__ = ["state", "tree", "world"]


def linked(state: State, tree: Path, rules: Filter | None = None) -> object:
    """What the snapshot says that is published now."""
    done = publish(state, os.fsencode(tree), now=NOW, rules=rules)
    head = state.heads.newest(done.archive)
    assert head is not None
    snapshot = state.meta.read(head.snapshot, Snapshot.decode)
    assert snapshot is not None
    return snapshot.extra.get(LINKED)


@pytest.mark.parametrize("by_statx", [True, False])
def test_a_snapshot_counts_the_names_of_files_that_have_others(
    state: State, tree: Path, by_statx: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not by_statx:
        monkeypatch.setattr(statx, "look", lambda *_: None)
    write(tree / "dir/a", b"1")
    write(tree / "b", b"1")
    assert linked(state, tree) == 0
    os.link(tree / "dir/a", tree / "dir/c")
    assert linked(state, tree) == 2
    # Whether the other name is published does not matter: whoever copies would not know of it.
    assert linked(state, tree, Filter().with_exclude(b"c")) == 1


def test_a_link_that_changes_nothing_else_makes_a_new_snapshot_once(state: State, tree: Path) -> None:
    write(tree / "a", b"1")
    write(tree / "b", b"1")
    assert linked(state, tree) == 0
    before = (tree / "b").stat()
    (tree / "b").unlink()
    os.link(tree / "a", tree / "b")
    os.utime(tree, ns=(before.st_atime_ns, tree.stat().st_mtime_ns))
    assert linked(state, tree) == 2
    assert not publish(state, os.fsencode(tree), now=NOW).changed


def test_what_could_not_be_read_may_have_had_further_names() -> None:
    assert has_no_links(further(unread=0, linked=0))
    assert not has_no_links(further(unread=1, linked=0))
    others: tuple[dict[str, object], ...] = ({LINKED: 1}, {LINKED: False}, {LINKED: b""}, {})
    assert not any(map(has_no_links, others))


def test_a_fetch_that_is_to_keep_links_is_refused_unless_there_are_none(world: World) -> None:
    # This publisher says nothing of links, as those did that did not know of it.
    with pytest.raises(LinksNotKept, match="hard links"):
        world.fetch(hard_links=True)
    assert not world.dest.exists()
    world.fetch()
    assert world.differs() == []

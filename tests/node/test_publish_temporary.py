"""What rsync has under way in a directory is not published, unless it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.node.publishing import NOW, write
from tests.node.test_publish import manifest

from p2psync.publish import Published, publish
from p2psync.rules.filter import Filter
from p2psync.rules.temporary import is_temporary, may_have_temporary
from p2psync.state import State

UNDER_WAY = [
    ".file.iso.aB3dE9",
    "sub/.~tmp~/file",
    "sub/.rsync-partial/file",
    "Archive-Update-in-Progress-host",
]
OTHERS = ["file", ".hidden", ".a.12345", ".a.1234567", "a.123456", ".rsync-partial", "sub/~tmp~/x", ".abcdef"]


@pytest.fixture
def full(tree: Path) -> Path:
    for name in [*UNDER_WAY, *OTHERS]:
        write(tree / name, b"x")
    return tree


def published(state: State, done: Published) -> set[str]:
    return {path.decode() for path, entry in manifest(state, done).items() if entry.kind == 0}


def test_it_is_left_out_and_counted(state: State, full: Path) -> None:
    done = publish(state, full, now=NOW)
    assert published(state, done) == set(OTHERS)
    assert done.temporaries == len(UNDER_WAY)
    again = publish(state, full, now=NOW + 1)
    assert not again.changed
    assert again.temporaries == len(UNDER_WAY)


def test_whoever_asks_for_it_has_it_and_goes_on_to_have_it(state: State, full: Path) -> None:
    publish(state, full, temporary=True, now=NOW)
    done = publish(state, full, now=NOW + 1)
    assert published(state, done) == {*OTHERS, *UNDER_WAY}
    assert published(state, publish(state, full, temporary=False, now=NOW + 2)) == set(OTHERS)


def test_a_rule_about_the_name_comes_first(state: State, full: Path) -> None:
    rules = Filter.parse([b"+ .file.iso.aB3dE9", b"- .hidden"])
    done = publish(state, full, rules=rules, now=NOW)
    assert published(state, done) == {*OTHERS, ".file.iso.aB3dE9"} - {".hidden"}
    assert done.temporaries == len(UNDER_WAY) - 1


def test_what_was_published_before_it_could_be_said_goes_on(state: State, full: Path) -> None:
    publish(state, full, temporary=True, now=NOW)
    tree = state.trees.get(bytes(full))
    assert tree is not None
    del tree.options["temporary"]
    state.trees.update(tree)
    assert not publish(state, full, now=NOW + 1).changed


@pytest.mark.parametrize("name", [name.rpartition("/")[2].encode() for name in OTHERS])
def test_other_names_are_none(name: bytes) -> None:
    assert not is_temporary(name, False)
    assert not may_have_temporary([name]) or name == b".rsync-partial"


def test_they_are_found_among_any_names() -> None:
    plain = [b"%06d" % number for number in range(1000)]
    assert not may_have_temporary(sorted([*plain, b".a", b"Archive", b"Archive-Updates"]))
    for name in (b".a.123456", b".~tmp~", b".rsync-partial", b"Archive-Update-x"):
        assert may_have_temporary(sorted([*plain, name]))

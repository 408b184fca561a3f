"""Publishing again after any changes gives what publishing afresh would give, listings and rows alike."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from p2psync.publish import publish
from p2psync.rules.filter import Filter
from p2psync.state import State

NAMES = ("a", "b", "c/a", "c/b", "c/d/a", "c/d/b", "e/f/g/h", "c", "c/d", "e")
RULES = (Filter(), Filter.parse([b"- b"]), Filter.parse([b"- /c/d/"]))

change = st.tuples(
    st.sampled_from(["write", "touch", "remove", "rename", "link", "mkdir", "chmod", "replace"]),
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.integers(0, 3),
)


def apply(top: Path, kind: str, first: str, second: str, number: int) -> None:
    """Make one change where it is possible: what is in the way is removed."""
    path, other = top / first, top / second
    if kind == "rename" and path.exists() and not other.is_relative_to(path):
        make_room(top, other)
        if path.exists():
            os.rename(path, other)
    elif kind == "remove":
        make_room(top, path)
    elif kind == "mkdir":
        make_room(top, path)
        path.mkdir()
    elif kind == "link":
        make_room(top, path)
        path.symlink_to(second)
    elif kind == "write":
        make_room(top, path)
        path.write_bytes(bytes([number]) * (number * 30_000))
    elif kind == "replace" and path.is_file() and not path.is_symlink():
        # The same size again within the same tick of the clock: only the second look at such files finds it.
        path.write_bytes(os.urandom(path.stat().st_size))
    elif kind == "touch" and path.exists() and not path.is_symlink():
        os.utime(path, ns=(number, 1_600_000_000_000_000_000 + number))
    elif kind == "chmod" and path.exists() and not path.is_symlink():
        path.chmod(0o700 + number)


def make_room(top: Path, path: Path) -> None:
    for parent in reversed(
        [parent for parent in path.parents if parent.is_relative_to(top) and parent != top]
    ):
        if parent.is_symlink() or parent.is_file():
            parent.unlink()
        parent.mkdir(exist_ok=True)
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)


def rows(state: State) -> set[tuple[object, ...]]:
    """All rows of files but for when they were hashed, in this directory or that one."""
    found = [
        (path, *row[:6])
        for path, _ in state.trees.directories(1)
        for row in state.trees.files_in(1, path).values()
    ]
    assert state.trees.find_many(row[6] for row in found).keys() == {row[6] for row in found}
    return set(found)


def directories(state: State) -> set[tuple[object, ...]]:
    return {(path, row.listing) for path, row in state.trees.directories(1)}


@given(
    rounds=st.lists(st.tuples(st.sampled_from(RULES), st.lists(change, max_size=8)), min_size=1, max_size=5)
)
@settings(max_examples=60)
def test_publishing_again_equals_publishing_afresh(
    rounds: list[tuple[Filter, list[tuple[str, str, str, int]]]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        top = base / "tree"
        top.mkdir()
        with State.open(base / "again") as again:
            for number, (rules, changes) in enumerate(rounds):
                for one in changes:
                    apply(top, *one)
                done = publish(again, top, rules=rules, accept_shrink=True)
                with State.open(base / f"afresh{number}") as afresh:
                    fresh = publish(afresh, top, rules=rules)
                    assert (done.root, done.files, done.bytes) == (fresh.root, fresh.files, fresh.bytes)
                    assert rows(again) == rows(afresh)
                    assert directories(again) == directories(afresh)

"""What a fetch makes of options that select, judged by the real rsync: trees, what stands in DEST, and
lists of options are generated, and both must leave the same tree, delete as much and end with the same exit
code.

100 cases here, always the same; `make test-long` has thousands, always others (P2PSYNC_CASES).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.node.differential import OLD, Bench, Outcome
from tests.node.fetch_world import World
from tests.node.simulator import MTIME, Link, Tree
from tests.node.wire_support import program

from p2psync.fetch.options import Delete
from p2psync.rules.filter import Filter
from p2psync.rules.parse import Outside


@pytest.fixture(autouse=True)
def rsync() -> None:
    """It judges."""
    program("rsync", "rsync")


CASES = int(os.environ.get("P2PSYNC_CASES", "100"))

NAMES = (b"a", b"b", b"a.o", b"b.c", b"foo", b".d", b"a b", b"core", b"[x]")
CONTENT = st.sampled_from([b"", b"one", b"two two", b"three " * 20])
TARGETS = st.sampled_from([b"a", b"../a", b"foo/b", b"../../a", b"/etc/passwd", b"nowhere"])


def trees(depth: int) -> st.SearchStrategy[Tree]:
    leaf = st.one_of(CONTENT, CONTENT, TARGETS.map(Link))
    value = leaf if depth == 0 else st.one_of(leaf, st.deferred(lambda: trees(depth - 1)))
    return st.dictionaries(st.sampled_from(NAMES), value, max_size=5)


PIECES = (b"a", b"b", b"foo", b".d", b".c", b".o", b"/", b"/", b"*", b"*", b"**", b"***", b"?", b"[ab]")
pattern = st.one_of(
    st.sampled_from(
        [b"*", b"*/", b"a", b"foo/", b"*.o", b"/foo/***", b"/foo/**", b"**/foo", b"/a", b"foo/a"]
    ),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map(b"".join).filter(lambda p: p.strip(b"/")),
)
prefix = st.sampled_from(
    [b"- "] * 6
    + [b"+ "] * 5
    + [b"-! ", b"+! ", b"-s ", b"-p ", b"+s ", b"-r ", b"H ", b"S ", b"P ", b"R ", b"Pp ", b"-sr "]
)
rule = st.one_of(*[st.tuples(prefix, pattern).map(b"".join)] * 12, st.sampled_from([b"-C", b"!"]))


class Asked:
    """Options, as words for rsync and as those of a fetch."""

    def __init__(self) -> None:
        self.words: list[bytes] = []
        self.options: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"{b' '.join(self.words)!r} {self.options}"


RECEIVING: tuple[tuple[bytes, int, dict[str, Any]], ...] = (
    (b"--max-size=5", 7, {"max_size": 5}),
    (b"--min-size=4", 7, {"min_size": 4}),
    (b"--safe-links", 20, {"safe_links": True}),
    (b"--existing", 7, {"existing": True}),
    (b"--ignore-existing", 7, {"ignore_existing": True}),
    (b"--update", 12, {"update": True}),
    (b"--size-only", 7, {"size_only": True}),
    (b"--checksum", 7, {"checksum": True}),
    (b"--modify-window=2", 7, {"modify_window": 2}),
    (b"--omit-dir-times", 7, {"omit_dir_times": True}),
    (b"--delay-updates", 30, {"delay_updates": True}),
    (b"--force", 7, {"force": True}),
    (b"--ignore-errors", 3, {"ignore_errors": True}),
)
"""Words of rsync, in how many of a hundred cases, and what a fetch calls them."""
AGES = (OLD, OLD, MTIME, MTIME + 10**9, MTIME + 10**9 * 1800)
"""Times of what stands in DEST before."""


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    made = Asked()
    rules = draw(st.lists(rule, max_size=4))
    made.words += [b"--filter=" + each for each in rules]
    excluded = False
    if draw(st.integers(1, 100)) > 40:
        made.options["delete"] = Delete.ALL
        how = draw(
            st.sampled_from(
                [b"--delete", b"--delete", b"--delete-after", b"--delete-before", b"--delete-excluded"]
            )
        )
        excluded = how == b"--delete-excluded"
        made.words.append(how)
    if draw(st.integers(1, 100)) > 75:
        made.words.append(b"-m")
        made.options["prune_empty_dirs"] = True
    for word, chance, options in RECEIVING:
        if draw(st.integers(1, 100)) > 100 - chance:
            made.words.append(word)
            made.options |= options
    made.options["filters"] = tuple(Filter.parse(rules, Outside(deletes_excluded=excluded)).texts())
    return made


@given(
    tree=trees(2),
    before=trees(2),
    asked=asked(),
    below=st.sampled_from([b"", b"", b"foo/", b"foo"]),
    age=st.sampled_from(AGES),
)
@settings(
    max_examples=CASES,
    deadline=None,
    derandomize="P2PSYNC_CASES" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_fetch_leaves_what_rsync_leaves(
    world: World, tree: Tree, before: Tree, asked: Asked, below: bytes, age: int
) -> None:
    if below and not isinstance(tree.get(b"foo"), dict):
        tree = {**tree, b"foo": {b"a": b"one", b"b": {}}}
    if below == b"foo" and not isinstance(before.get(b"foo"), dict):
        # What is in the way of the directory itself that is fetched is never removed by a fetch.
        before = {name: value for name, value in before.items() if name != b"foo"}
    if "ignore_existing" in asked.options:
        # rsync leaves it, complains of what it cannot make below, and gives it the directory's time.
        assume(not something_stands_where_directories_are_wanted(tree, before, below))
    ours, theirs = Bench(world).compare(
        tree, before, asked.words, below=below, before_ns=age, **asked.options
    )
    if ours.code == theirs.code == 23:
        # A directory makes way for a file as a whole or not at all; rsync begins with what is not protected.
        ways = list(directories_in_the_way(tree if below != b"foo/" else tree[b"foo"], before))
        ours, theirs = without(ours, ways), without(theirs, ways)
    if asked.options.keys() & {"omit_dir_times", "modify_window"}:
        # They are those of the moment wherever something was made, and that is not in the same places; where
        # a fetch sets any, it sets that of the archive, though the one that is there were near enough.
        ours, theirs = without_directory_times(ours), without_directory_times(theirs)
    assert ours == theirs


def directories_in_the_way(tree: Any, before: Any, above: bytes = b"") -> Iterator[bytes]:
    for name in tree.keys() & before.keys():
        wanted, there = tree[name], before[name]
        if isinstance(there, dict):
            if isinstance(wanted, dict):
                yield from directories_in_the_way(wanted, there, above + name + b"/")
            else:
                yield above + name


def without(outcome: Outcome, paths: Iterable[bytes]) -> Outcome:
    left = [path + b"/" for path in paths]
    tree = {
        path: row
        for path, row in outcome.tree.items()
        if not any((path + b"/").startswith(each) for each in left)
    }
    return outcome._replace(tree=tree, deleted=0, lines=[])


def without_directory_times(outcome: Outcome) -> Outcome:
    return outcome._replace(
        tree={path: row[:3] if row and stat.S_ISDIR(row[0]) else row for path, row in outcome.tree.items()}
    )


def something_stands_where_directories_are_wanted(tree: Tree, before: Tree, below: bytes = b"") -> bool:
    inside = tree[b"foo"] if below.endswith(b"/") else tree
    assert isinstance(inside, dict)
    return any(
        isinstance(value, dict)
        and name in before
        and (
            not isinstance(there := before[name], dict)
            or something_stands_where_directories_are_wanted(value, there)
        )
        for name, value in inside.items()
    )


PARTS = (b"a", b"b", b"foo", b".d", b"a.o")
name = st.one_of(
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=3).map(b"/".join),
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=2).map(lambda parts: b"/".join(parts) + b"/"),
    st.sampled_from([b".", b"./", b"/a", b"foo/../b", b"..", b"foo//a", b"# a"]),
)
plain: st.SearchStrategy[Tree] = st.dictionaries(
    st.sampled_from(PARTS),
    st.one_of(CONTENT, st.dictionaries(st.sampled_from(PARTS), st.one_of(CONTENT, st.just({})), max_size=4)),
    max_size=5,
)


@given(
    tree=plain,
    before=plain,
    names=st.lists(name, min_size=1, max_size=4, unique_by=lambda each: os.path.normpath(b"/" + each)),
    asked=asked(),
    recursive=st.booleans(),
    age=st.sampled_from(AGES),
)
@settings(
    max_examples=max(CASES // 3, 10),
    deadline=None,
    derandomize="P2PSYNC_CASES" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_fetch_of_a_list_leaves_what_rsync_leaves(
    world: World, tree: Tree, before: Tree, names: list[bytes], asked: Asked, recursive: bool, age: int
) -> None:
    if "ignore_existing" in asked.options:
        assume(not something_stands_where_directories_are_wanted(tree, before))
    words = [*asked.words, *([b"-r"] if recursive else [])]
    ours, theirs = Bench(world).compare(
        tree, before, words, before_ns=age, names=names, recursive=recursive, **asked.options
    )
    # DEST itself is only given a time where it is listed; else it has that of the moment or keeps its own.
    for outcome in (ours, theirs):
        outcome.tree[b""] = ()
    if ours.code == theirs.code == 23:
        ways = list(directories_in_the_way(tree, before))
        ours, theirs = without(ours, ways), without(theirs, ways)
    if asked.options.keys() & {"omit_dir_times", "modify_window"}:
        ours, theirs = without_directory_times(ours), without_directory_times(theirs)
    assert ours == theirs

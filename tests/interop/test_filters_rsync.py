"""The filter rules judged by the real rsync: on generated trees and rules, both must let the same names
through.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.node.wire_support import program

from p2psync.rules.filter import Filter
from p2psync.rules.parse import Outside


@pytest.fixture(autouse=True)
def rsync() -> None:
    """It judges."""
    program("rsync", "rsync")


# One tree for all examples: building one per example would cost more than the comparison.
NAMES = (b"a", b"b", b"ab", b"a.c", b"ab.c", b".x", b"a b", b"[", b"a*", b"\\", b"-a", b"a-", b"\xff", b"_a")
TOP = (b"a", b"ab", b"foo", b".d")


@pytest.fixture(scope="module")
def tree() -> object:
    with tempfile.TemporaryDirectory() as made:
        root = os.fsencode(made)
        for first in TOP:
            for second in (*TOP, b"a b", b"\xfe"):
                os.makedirs(os.path.join(root, first, second))
                for name in NAMES:
                    Path(os.fsdecode(os.path.join(root, first, second, name + b"f"))).touch()
                deep = os.path.join(root, first, second, b"a", b"foo")
                os.makedirs(deep)
                for name in NAMES:
                    Path(os.fsdecode(os.path.join(deep, name))).touch()
            for name in NAMES:
                Path(os.fsdecode(os.path.join(root, first, name + b".o"))).touch()
        for name in NAMES:
            target = os.path.join(root, name)
            if not os.path.exists(target):
                Path(os.fsdecode(target)).touch()
        os.symlink(b"a", os.path.join(root, b"link"))
        yield root


def ours(root: bytes, rules: Filter) -> set[bytes]:
    found: set[bytes] = set()
    pending = [b""]
    while pending:
        at = pending.pop()
        scope = rules.scope(at)
        for entry in os.scandir(os.path.join(root, at)):
            path = os.path.join(at, entry.name)
            is_dir = entry.is_dir(follow_symlinks=False)
            assert scope.hides(entry.name, is_dir) == rules.hidden(path, is_dir)
            if scope.hides(entry.name, is_dir):
                continue
            found.add(path)
            if is_dir:
                pending.append(path)
    return found


def theirs(root: bytes, options: list[bytes], empty: bytes) -> set[bytes]:
    done = subprocess.run(
        [b"rsync", b"-n", b"-rl", b"-8", b"--out-format=%n", *options, root + b"/", empty + b"/"],
        capture_output=True,
        check=True,
    )
    out = {line.rstrip(b"/") for line in done.stdout.split(b"\n")}
    return {line for line in out if line} - {b"."}


# fmt: off
PIECES = (
    b"a", b"b", b"ab", b"foo", b".d", b".c", b".o", b"f", b"/", b"/", b"*", b"*", b"**", b"***", b"?", b" ",
    b"[ab]", b"[!a]", b"[^a-c]", b"[[:alpha:]]", b"[[:punct:]]", b"[]a]", b"[a-]", b"[!]a]", b"[\\]]",
    b"[z-a]", b"[", b"[[:x:]]", b"[[:", b"[[]", b"[a/b]", b"\\", b"\\*", b"\\a", b"\xff", b"\xfe", b"_", b"-",
    b"!", b"#", b"[\xf0-\xff]", b"[[:alpha:]-z]", b"[a-\\c]", b"/**/", b"**/", b"/*", b"*/",
)
# fmt: on
piece = st.sampled_from(PIECES)
pattern = st.lists(piece, min_size=1, max_size=5).map(b"".join).filter(lambda p: p.strip(b"/ ") != b"")
prefix = st.sampled_from(
    [b"- ", b"+ ", b"-! ", b"+! ", b"-_", b"-s ", b"exclude ", b"include,! ", b"H ", b"S ", b"hide "]
)


@given(rules=st.lists(st.tuples(prefix, pattern).map(b"".join), min_size=1, max_size=5))
@example(rules=[b"+ */", b"+ *.c", b"- *"])
@example(rules=[b"- /a/***"])
@example(rules=[b"- **/foo"])
@example(rules=[b"- foo/**/a"])
@example(rules=[b"-! */"])
@example(rules=[b"- a/foo", b"!", b"- b"])
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_same_names_pass_as_with_rsync(tree: bytes, tmp_path: Path, rules: list[bytes]) -> None:
    mine = ours(tree, Filter.parse(rules))
    judged = theirs(tree, [b"--filter=" + rule for rule in rules], os.fsencode(tmp_path))
    assert mine == judged


@given(
    rules=st.lists(
        st.tuples(st.booleans(), st.sampled_from([b"", b"+ ", b"- "]), pattern), min_size=1, max_size=4
    )
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_include_and_exclude_options_mean_the_same(
    tree: bytes, tmp_path: Path, rules: list[tuple[bool, bytes, bytes]]
) -> None:
    made = Filter()
    options = []
    for include, start, text in rules:
        made = made.with_include(start + text) if include else made.with_exclude(start + text)
        options.append((b"--include=" if include else b"--exclude=") + start + text)
    assert ours(tree, made) == theirs(tree, options, os.fsencode(tmp_path))


def test_merge_files_mean_the_same(tree: bytes, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    outer = tmp_path / "outer"
    inner.write_bytes(b"# comment\n\n; another\n- *.o\r\n+ ab*\n")
    outer.write_bytes(b"+ a.o\n. " + os.fsencode(inner) + b"\n- a*\n")
    plain = tmp_path / "plain"
    plain.write_bytes(b"# comment\nfoo\n- x\n+ y\n*f\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    words = tmp_path / "words"
    words.write_bytes(b"foo *.o\n!\tab* x")
    kinds = [(b". ", outer), (b"merge,- ", plain), (b".- ", plain), (b".C ", words), (b".-w ", words)]
    kinds += [(b".e ", outer), (b".s+ ", plain), (b".r- ", plain), (b"-C", empty), (b"+C", empty)]
    for rule in [rule + (os.fsencode(file) if rule.endswith(b" ") else b"") for rule, file in kinds]:
        made = Filter.parse([rule], Outside(lambda name: Path(os.fsdecode(name)).read_bytes()))
        assert ours(tree, made) == theirs(tree, [b"--filter=" + rule], os.fsencode(empty))

"""Any sequence of orders, stopped anywhere: each path is as it was before the last order, or after it."""

from __future__ import annotations

import os
import tempfile
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.node.simulator import MTIME
from tests.node.test_tree_maker import Killed, crash_at, die
from tests.node.writer_bench import OLD, WriterBench, target

from p2psync.tree.orders import Dress, DressDirectories, MakeDirectory, Remove

PATHS = (b"a", b"b", b"d", b"d/a", b"d/e/a")
Step = tuple[str, bytes, bool]
steps = st.lists(
    st.tuples(
        st.sampled_from(["file", "link", "object", "directory", "remove", "dress", "tidy"]),
        st.sampled_from(PATHS),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


def prepare(dest: Path) -> None:
    (dest / "a").write_bytes(OLD)
    (dest / "d" / "e").mkdir(parents=True)
    (dest / "d" / "e" / "a").write_bytes(OLD)


def carry_out(writing: WriterBench, step: Step, number: int) -> None:
    kind, path, flag = step
    if kind == "file":
        writing.make(path, b"new %d" % number, replaces=flag)
    elif kind == "link":
        writing.link(path, b"new %d" % number)
    elif kind == "object":
        writing.write_new()
        writing.finish_new(target(path, replaces=flag))
    elif kind == "directory":
        writing.do(MakeDirectory(1, path))
        if flag:
            writing.may_replace(path)
    elif kind == "remove":
        parent, _, name = path.rpartition(b"/")
        writing.do(Remove(1, parent, [(name, flag)]))
    elif kind == "dress":
        writing.do(DressDirectories(1, [Dress(path, 0o700, MTIME)]))
    else:
        writing.tidy(everything=flag)


def look(dest: Path) -> dict[str, str | bytes]:
    """What stands in DEST, without the folder of unfinished files."""
    found: dict[str, str | bytes] = {}
    for place, dirs, files in os.walk(dest):
        for name in dirs + files:
            path = Path(place, name)
            key = os.fspath(path.relative_to(dest))
            if not key.startswith(".p2psync.partial"):
                found[key] = _value(path)
    return found


def _value(path: Path) -> str | bytes:
    if path.is_symlink():
        return "link " + os.fspath(path.readlink())
    return "directory" if path.is_dir() else path.read_bytes()


@given(sequence=steps)
@settings(max_examples=20)
def test_stopped_anywhere(sequence: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as name:
        expected = WriterBench(Path(name), dest="expected")
        prepare(expected.dest)
        states = [look(expected.dest)]
        for number, step in enumerate(sequence):
            carry_out(expected, step, number)
            states.append(look(expected.dest))
        expected.writer.close()
        for stop in count():
            writing = WriterBench(Path(name), dest=str(stop))
            begun = stopped_at(stop, writing, sequence)
            if begun is None:
                break
            compare(states[begun], states[begun + 1], look(writing.dest))


def stopped_at(stop: int, writing: WriterBench, sequence: list[Step]) -> int | None:
    """Carry out a sequence until the ``stop``-th call to the system; the number of the step that was under
    way, None if all was done before.
    """
    prepare(writing.dest)
    with pytest.MonkeyPatch.context() as patched:
        crash_at(stop, patched)
        for number, step in enumerate(sequence):
            try:
                carry_out(writing, step, number)
            except Killed:
                patched.undo()
                die(writing)
                return number
    writing.writer.close()
    return None


def compare(
    before: dict[str, str | bytes], after: dict[str, str | bytes], found: dict[str, str | bytes]
) -> None:
    for path in before.keys() | after.keys() | found.keys():
        was, becomes, there = before.get(path), after.get(path), found.get(path)
        if "directory" in (was, becomes) and there is None:
            continue  # Between a directory that is empty and a file or a link, nothing may stand there.
        if was is becomes is None and there == "directory":
            continue
        assert there in (was, becomes), (path, was, becomes, there)

"""The profiler of the benchmark: processes write where their CPU time went, and a table adds it up."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from bench.data import many_files
from bench.profile.__main__ import Profiled, table
from bench.profile.sampler import room


def stack_of(path: str) -> FrameType:
    """The frame of a library's function that was called by one in the file ``path``."""
    found: list[FrameType] = []
    scope: dict[str, Any] = {"found": found, "sys": sys}
    exec(compile("def inner(): found.append(sys._getframe())", "/usr/lib/library.py", "exec"), scope)  # noqa: S102
    exec(compile("def outer(): inner()", path, "exec"), scope)  # noqa: S102
    scope["outer"]()
    return found[0]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/x/node/p2psync/tree/writer.py", ("tree", "tree/writer.py:outer")),
        ("/x/p2psync/node/p2psync/tree/writer.py", ("tree", "tree/writer.py:outer")),
        ("/x/node/p2psync/errors.py", ("start and top level", "errors.py:outer")),
        ("/x/dht/p2psync_dht/node.py", ("p2psync_dht", "node.py:outer")),
        ("/x/other.py", ("libraries", "library.py:inner")),
    ],
)
def test_time_in_a_library_counts_for_the_function_of_p2psync_that_called_it(
    path: str, expected: tuple[str, str]
) -> None:
    assert room(stack_of(path)) == expected


def test_table_adds_up_processes_by_room_and_by_function(tmp_path: Path) -> None:
    for pid, seconds in ((1, 1.0), (2, 2.0)):
        rows = [
            ["MainThread", "tree", "tree/writer.py:f", seconds],
            ["disk", "state", "state/state.py:g", 0.5],
        ]
        (tmp_path / f"{pid}.json").write_text(json.dumps({"argv": ["p", "fetch"], "cpu": 2, "rows": rows}))
    rooms, functions = " ".join(table(tmp_path)).split("  state        ")[0], table(tmp_path)
    assert "3.00 s  75.0 %  tree" in rooms
    assert any("1.00 s  25.0 %  state" in line and "state.py:g" in line for line in functions)
    assert any("disk: state" in line for line in table(tmp_path, tell_threads=True))


def test_a_process_is_profiled_only_while_that_is_wanted(tmp_path: Path) -> None:
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    ours = Profiled(tmp_path / "ours")
    ours.run(ours.words("publish", many_files(tmp_path / "a", 5, 500), state=tmp_path / "s"), "publish")
    assert list(profiles.iterdir()) == []
    ours.profiles = profiles
    tree = many_files(tmp_path / "b", 2000, 10_000_000)
    ours.run(ours.words("publish", tree, state=tmp_path / "s"), "publish")
    (told,) = [json.loads(path.read_text()) for path in profiles.iterdir()]
    assert "publish" in told["argv"] and told["cpu"] > 0
    assert {"publish"} <= {row[1] for row in told["rows"]}

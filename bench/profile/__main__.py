"""Profile p2psync at work on a tree of many files or of one: a table by room and one by function.

python -m bench.profile fetch --files 20000 --megabytes 500
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from bench.contestants.ours import Ours
from bench.data import many_files, one_file
from bench.profile.sampler import FOLDER_VARIABLE

MB: Final = 1_000_000
SHOWN: Final = 25
"""Functions in the table."""
WORKS: Final = ("fetch", "again", "serve", "publish")


class Profiled(Ours):
    """p2psync whose processes write profiles into ``profiles``, as long as that is set."""

    profiles: Path | None = None

    def environment(self) -> dict[str, str]:
        plain = super().environment()
        if self.profiles is None:
            return plain
        here = os.path.join(os.path.dirname(__file__), "startup")
        root = os.fspath(Path(__file__).parents[2])
        path = os.pathsep.join([here, root, plain.get("PYTHONPATH", "")])
        return plain | {"PYTHONPATH": path, FOLDER_VARIABLE: os.fspath(self.profiles)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("work", choices=WORKS, help="again: a fetch when nothing has changed")
    parser.add_argument("--files", type=int, default=20_000, help="1: a single large one (20000)")
    parser.add_argument("--megabytes", type=int, default=500, help="of all files together (500)")
    parser.add_argument("--threads", action="store_true", help="tell threads apart")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="p2psync-profile-") as folder, ExitStack() as stack:
        profiles = Path(folder) / "profiles"
        profiles.mkdir()
        size = options.megabytes * MB
        tree = Path(folder) / "tree"
        if options.files == 1:
            one_file(tree, size)
        else:
            many_files(tree, options.files, size)
        work(stack, options.work, Profiled(Path(folder) / "ours"), tree, profiles)
        stack.close()
        print("\n".join(table(profiles, tell_threads=options.threads)))
    return 0


def work(stack: ExitStack, what: str, ours: Profiled, tree: Path, profiles: Path) -> None:
    """Do it all, but let only what is asked for write profiles."""

    def watch(*works: str) -> None:
        ours.profiles = profiles if what in works else None

    watch("publish")
    ours.hold(tree)
    watch("serve")
    servers = [ours.serve(stack, tree)]
    dest = ours.home / "dest"
    watch("fetch")
    ours.fetch(servers, dest)
    if what == "again":
        watch("again")
        ours.fetch(servers, dest)


def table(profiles: Path, *, tell_threads: bool = False) -> list[str]:
    """Seconds of CPU by room, then by function, of all processes together."""
    told: list[dict[str, Any]] = [json.loads(path.read_text()) for path in sorted(profiles.glob("*.json"))]
    rooms: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for one in told:
        for thread, room, function, seconds in one["rows"]:
            where = f"{thread}: {room}" if tell_threads else room
            rooms[where] += seconds
            functions[f"{where:<12} {function}"] += seconds
    total = sum(rooms.values())
    lines = [f"{' '.join(one['argv'][:2])}: {one['cpu']:.2f} s of CPU" for one in told]
    return [*lines, "", *_lines(rooms.most_common(), total), "", *_lines(functions.most_common(SHOWN), total)]


def _lines(rows: Sequence[tuple[str, float]], total: float) -> list[str]:
    return [f"{seconds:8.2f} s {100 * seconds / (total or 1):5.1f} %  {name}" for name, seconds in rows]


if __name__ == "__main__":
    sys.exit(main())

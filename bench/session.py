"""What all rows share: options, data made once, directories, and the hand that notes figures."""

from __future__ import annotations

import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from bench.contestants.contestant import Contestant
from bench.data import clear
from bench.figures import Results
from bench.targets import BY_NAME

C = TypeVar("C", bound=Contestant)
MEMORY: Final = Path("/dev/shm")  # noqa: S108 (a directory of our own is made in it)
ROOM_FACTOR: Final = 1.3
"""Free bytes needed for each byte that is to be written: small files take whole pages, and something has to
be left to the machine.
"""
FILE_OVERHEAD: Final = 5 << 10
"""Bytes a small file takes in memory, with its inode."""


@dataclass(frozen=True, slots=True)
class Options:
    """``scale`` multiplies sizes and counts. ``contestants``: only these; None: all. ``folder``: where data
    is made.
    """

    runs: int = 5
    scale: float = 1.0
    large: bool = False
    contestants: frozenset[str] | None = None
    folder: Path | None = None


class Session:
    """One run of the benchmark."""

    def __init__(self, options: Options, results: Results, stack: ExitStack) -> None:
        """Everything that is made is removed when ``stack`` ends."""
        self.options = options
        self.runs = options.runs
        self._results = results
        self._stack = stack
        made = tempfile.mkdtemp(prefix="p2psync-bench-", dir=options.folder)
        stack.callback(shutil.rmtree, made)
        self.folder = Path(made)
        self._trees: dict[str, Path] = {}
        self._row = ""
        self._work = ""
        self._full = True

    def begin(self, row: str) -> None:
        self._results.begin(row)
        self._row = row

    def work(self, text: str, *, full: bool | None = None) -> None:
        """What the row does, with real sizes; ``full``: whether targets are meant for these, None: at scale
        1.
        """
        self._work = text
        self._full = self.options.scale == 1 if full is None else full

    def note(self, name: str, who: str, value: float | None, remark: str = "", *, row: str = "") -> None:
        """Add one run's value to a figure of the row that runs, or of another that it measures as well."""
        row = row or self._row
        kind = BY_NAME[row, name]
        self._results.note(row, name, self._work, who, value, remark, full=self._full)
        told = "–" if value is None else kind.text(value)
        print(f"# {row:<14} {name:<28} {who:<22} {told} {remark}", file=sys.stderr, flush=True)

    def scaled(self, amount: int) -> int:
        """A size or count under ``--scale``; at least one."""
        return max(1, round(amount * self.options.scale))

    def wants(self, name: str) -> bool:
        return self.options.contestants is None or name in self.options.contestants

    def tree(self, name: str, make: Callable[[Path], Path]) -> Path:
        """A tree by name, made when it is first asked for and kept to the end."""
        if name not in self._trees:
            self._trees[name] = make(self.folder / "trees" / name)
        return self._trees[name]

    def drop_tree(self, name: str) -> None:
        """Remove a tree that is too large to keep."""
        clear(self._trees.pop(name))

    @contextmanager
    def copies(self, size: int, files: int = 1) -> Iterator[Path]:
        """A directory for so many bytes and files: in memory if there is room, else beside the data."""
        wanted = (size + files * FILE_OVERHEAD) * ROOM_FACTOR
        room = _room(MEMORY)
        with tempfile.TemporaryDirectory(
            prefix="p2psync-bench-", dir=MEMORY if room >= wanted else self.folder
        ) as made:
            yield Path(made)

    def field(self, kinds: Sequence[type[C]], home: Path) -> list[C]:
        """The wanted ones of some contestants, each with a home of its own."""
        wanted = [kind for kind in kinds if self.wants(kind.name.partition(",")[0])]
        return [kind(home / kind.name.replace(" ", "-")) for kind in wanted]


def _room(path: Path) -> float:
    """Bytes that may be written into a directory in memory: what it has free, but not the machine's last."""
    if not path.is_dir():
        return 0
    there = os.statvfs(path)
    fields = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    available = next((int(words[1]) * 1024 for words in fields if words[0] == "MemAvailable:"), math.inf)
    return min(there.f_bavail * there.f_frsize, available)

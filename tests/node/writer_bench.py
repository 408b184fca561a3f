"""A DEST with a writer at work in it, for tests of what orders do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.node.simulator import MTIME, content

from p2psync.chunking import cut_object
from p2psync.format.reserved import PARTIAL
from p2psync.tree.maker import TreeWriter
from p2psync.tree.orders import (
    Broken,
    Done,
    Fact,
    File,
    FinishObject,
    Link,
    MakeFiles,
    MakeLinks,
    MayReplace,
    OpenObject,
    Order,
    Result,
    Target,
    Tidy,
    WriteObject,
)

OLD, NEW = content("old", 150_000), content("new", 200_000)
DIGEST = cut_object(NEW)[0].digest
PART = 65_536
"""Bytes of the parts in which ``NEW`` is written."""


class WriterBench:
    """A DEST, an arena, and a writer that can end and begin again."""

    def __init__(self, folder: Path, spared: frozenset[bytes] = frozenset(), *, dest: str = "dest") -> None:
        self.dest = folder / dest
        self.dest.mkdir(exist_ok=True)
        self._spared = spared
        self._arena = bytearray(1 << 20)
        self.begin()

    def begin(self) -> None:
        self.writer = TreeWriter(bytes(self.dest), self._spared, memoryview(self._arena))

    def again(self) -> None:
        self.writer.close()
        self.begin()

    def do(self, order: Order) -> Done:
        fact: Fact | None = self.writer.carry_out(order)
        assert isinstance(fact, Done), fact
        assert fact.token == getattr(order, "token", None)
        return fact

    def broken(self, order: Order) -> Broken:
        fact = self.writer.carry_out(order)
        assert isinstance(fact, Broken), fact
        return fact

    def small(self, path: bytes, data: bytes, **more: Any) -> MakeFiles:
        """An order for one small file, whose bytes are put into the arena."""
        directory, _, name = path.rpartition(b"/")
        self._arena[1000 : 1000 + len(data)] = data
        fields: dict[str, Any] = {"mode": 0o640, "mtime_ns": MTIME, "replaces": False, **more}
        return MakeFiles(1, directory, [File(name, offset=1000, length=len(data), **fields)])

    def make(self, path: bytes, data: bytes, **more: Any) -> Result:
        (result,) = self.do(self.small(path, data, **more)).results
        return result

    def link(self, path: bytes, target: bytes, mtime_ns: int = MTIME) -> Result:
        directory, _, name = path.rpartition(b"/")
        (result,) = self.do(MakeLinks(2, directory, [Link(name, target, mtime_ns)])).results
        return result

    def write_new(self, first: int = 0, last: int | None = None) -> list[Result]:
        """Open the object of ``NEW`` and write those of its parts."""
        results = self.do(OpenObject(3, DIGEST, len(NEW))).results
        for offset in list(range(0, len(NEW), PART))[first:last]:
            data = NEW[offset : offset + PART]
            self._arena[: len(data)] = data
            results += self.do(WriteObject(4, DIGEST, [(offset, 0, len(data))])).results
        return results

    def finish_new(self, *targets: Target) -> Done:
        return self.do(FinishObject(5, DIGEST, list(targets)))

    def make_new(self, path: bytes, *, replaces: bool = False) -> Done:
        assert not any(isinstance(each, str) for each in self.write_new())
        return self.finish_new(target(path, replaces=replaces))

    def may_replace(self, *paths: bytes, seal: bytes | None = None) -> None:
        assert self.writer.carry_out(MayReplace(dict.fromkeys(paths, seal))) is None

    def tidy(self, *, everything: bool = False) -> Result:
        (result,) = self.do(Tidy(6, everything)).results
        return result

    def end(self) -> None:
        """A run that got everything."""
        assert self.tidy(everything=True) == (0, 0, 0, 0)
        self.again()

    @property
    def partial(self) -> set[str]:
        folder = self.dest / os.fsdecode(PARTIAL)
        return set(os.listdir(folder)) if folder.exists() else set()

    def place(self, path: bytes) -> Path:
        return self.dest / os.fsdecode(path)


def target(path: bytes, mode: int = 0o640, *, replaces: bool = False) -> Target:
    directory, _, name = path.rpartition(b"/")
    return Target(directory, name, mode, MTIME, replaces)


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[WriterBench]:
    made = WriterBench(tmp_path)
    yield made
    made.writer.close()

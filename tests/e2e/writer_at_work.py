"""A program that turns one tree into another through a writer process, to be killed at any moment.

    python -m tests.e2e.writer_at_work DEST

prints the writer's process id, waits for a line, then prints the token of each fact; exits with 3 if the
writer is broken.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from p2psync.arena import Arena
from p2psync.tree.orders import (
    Broken,
    Fact,
    File,
    FinishObject,
    Link,
    MakeDirectory,
    MakeFiles,
    MakeLinks,
    MayReplace,
    OpenObject,
    Order,
    Remove,
    Target,
    Tidy,
    WriteObject,
)
from p2psync.tree.worker import open_writer
from p2psync.tree.worker_process import ProcessWriter

DIRS, FILES, SIZE = 12, 15, 3000
MTIME = 1_700_000_000_000_000_001
OLD = b"old" * 1000
BIG = bytes(range(251)) * 1200
"""An object of several parts, which replaces a file and a directory."""
DIGEST = b"\x07" * 32


def new(directory: int, number: int) -> bytes:
    start = directory * FILES + number
    return BIG[start : start + SIZE]


def make_old(dest: Path) -> None:
    """The tree before."""
    for directory in range(0, DIRS, 2):
        (dest / f"d{directory}").mkdir(parents=True)
        for number in range(0, FILES, 2):
            (dest / f"d{directory}" / f"f{number}").write_bytes(OLD)
        (dest / f"d{directory}" / "link").symlink_to("old")
        (dest / f"d{directory}" / "gone").write_bytes(OLD)
    (dest / "big").write_bytes(OLD)
    (dest / "way" / "inner").mkdir(parents=True)
    (dest / "way" / "inner" / "file").write_bytes(OLD)


def orders() -> list[Order]:
    """What leads to the tree after. ``BIG`` lies at the beginning of the arena."""
    made: list[Order] = [MayReplace({b"way": None}), OpenObject(1, DIGEST, len(BIG))]
    for directory in range(DIRS):
        path = b"d%d" % directory
        part = len(BIG) // DIRS
        made += [
            MakeDirectory(2, path),
            MakeFiles(
                3,
                path,
                [
                    File(b"f%d" % n, 0o640, MTIME, directory * FILES + n, SIZE, n % 4 == 0)
                    for n in range(FILES)
                ],
            ),
            MakeLinks(4, path, [Link(b"link", b"new", MTIME)]),
            Remove(5, path, [(b"gone", False)]),
            WriteObject(6, DIGEST, [(directory * part, directory * part, part)]),
        ]
    rest = len(BIG) // DIRS * DIRS
    made += [
        WriteObject(7, DIGEST, [(rest, rest, len(BIG) - rest)]),
        FinishObject(
            8,
            DIGEST,
            [Target(b"", b"way", 0o600, MTIME, False), Target(b"", b"big", 0o640, MTIME, True)],
        ),
        Tidy(9, True),
    ]
    return made


async def main(dest: str) -> None:
    arena = Arena(1 << 20)
    arena.view[: len(BIG)] = BIG
    broken = False

    def told(fact: Fact) -> None:
        nonlocal broken
        broken = broken or isinstance(fact, Broken)
        print(fact.token, flush=True)

    async with open_writer(os.fsencode(dest), frozenset(), arena) as writer:
        assert isinstance(writer, ProcessWriter)
        print(writer.pid, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        writer.on_fact = told
        for order in orders():
            writer.send(order)
    if broken:
        sys.exit(3)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

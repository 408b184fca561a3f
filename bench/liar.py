"""A copy of a tree that turns false behind the back of whoever holds it: a holder who lies without knowing
it.

The copy is on a file system of its own, whose image is changed while it is not mounted: so neither size nor
any time of a file tells that its bytes are not those that were hashed. It works with any server. Needs root.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.processes import POLL, READY_DEADLINE, BenchError, need

BLOCK: Final = 4096
"""Of the file system: a bit in each block of the file is wrong, so no piece of anybody's is right."""
OVERHEAD: Final = 64 << 20
"""Bytes of a file system beside its files."""


class FalseCopy:
    """``tree`` is equal to the original until ``spoil``, when nobody may have it open."""

    def __init__(self, original: Path, image: Path, folder: Path) -> None:
        self.tree = folder / original.name
        self._original, self._image, self._folder = original, image, folder

    def mount(self) -> None:
        _do("mount", "-o", "loop", self._image, self._folder)

    def unmount(self) -> None:
        """A server that has just ended may keep the file system busy for a moment."""
        deadline = time.monotonic() + READY_DEADLINE
        argv = [need("umount"), os.fspath(self._folder)]
        while subprocess.run(argv, stderr=subprocess.PIPE, check=False).returncode != 0:
            if time.monotonic() > deadline:
                raise BenchError(f"{self._folder} cannot be unmounted: see who uses it with fuser -m")
            time.sleep(POLL)

    def spoil(self) -> None:
        self.unmount()
        flip(self._image, self._original / "file")
        self.mount()


@contextmanager
def false_copy(original: Path, size: int, folder: Path) -> Iterator[FalseCopy]:
    """A copy, below ``folder``, of a tree of one file of ``size`` bytes."""
    image = folder.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(size + size // 8 + OVERHEAD)
    _do("mkfs.ext4", "-q", "-F", "-b", str(BLOCK), image)
    folder.mkdir()
    made = FalseCopy(original, image, folder)
    made.mount()
    try:
        _do("cp", "-a", original, folder)
        yield made
    finally:
        made.unmount()


def flip(image: Path, original: Path) -> None:
    """Change a bit in each block of an image that is a block of a file. Raises BenchError if there are fewer
    such blocks than whole ones in the file.
    """
    with original.open("rb") as file:
        wanted = set(iter(lambda: file.read(BLOCK), b""))
    changed = 0
    with image.open("r+b") as file:
        while block := file.read(BLOCK):
            if block in wanted:
                file.seek(-len(block), 1)
                file.write(bytes([block[0] ^ 1]) + block[1:])
                changed += 1
    if changed < original.stat().st_size // BLOCK:
        raise BenchError(f"only {changed} blocks of {original} are in {image}: they cannot be made wrong")


def _do(program: str, *words: str | Path) -> None:
    subprocess.run([need(program), *words], check=True)

"""The sizes of the rows, and their trees."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from bench.data import many_files, one_file
from bench.session import Session

GIB: Final = 1 << 30
MB: Final = 1_000_000
BIG: Final = GIB
SMALL_FILES: Final = 20_000
SMALL_SIZE: Final = 500 * MB
TINY_FILES: Final = 200_000
TINY_FILE_SIZE: Final = 100


class Data(NamedTuple):
    """A tree, how many files and bytes it has, and how it is told."""

    tree: Path
    files: int
    size: int
    told: str


def big(session: Session, size: int = BIG) -> Data:
    size = session.scaled(size)
    name = f"big{size}"
    return Data(session.tree(name, partial(one_file, size=size)), 1, size, f"one file of {told_size(size)}")


def small(session: Session) -> Data:
    return _many(session, SMALL_FILES, SMALL_SIZE)


def tiny(session: Session, files: int = TINY_FILES) -> Data:
    return _many(session, files, files * TINY_FILE_SIZE)


def single(session: Session) -> Data:
    """As small as can be, at any scale: for what start-up takes."""
    tree = session.tree("single", partial(one_file, size=TINY_FILE_SIZE))
    return Data(tree, 1, TINY_FILE_SIZE, f"one file of {TINY_FILE_SIZE} bytes")


def _many(session: Session, files: int, size: int) -> Data:
    files, size = session.scaled(files), session.scaled(size)
    tree = session.tree(f"many{files}-{size}", partial(many_files, count=files, size=size))
    return Data(tree, files, size, f"{files:,} files, {told_size(size)}")


def told_size(size: int) -> str:
    if size >= GIB:
        return f"{size / GIB:g} GiB"
    return f"{size / MB:,.0f} MB" if size >= MB else f"{size / 1000:,.1f} kB"

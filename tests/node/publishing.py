"""What tests of publishing share: a state directory, a tree, and files with old times."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2psync.state import State

OLD = 1_600_000_000_123_456_789
"""ns; files with old times are never "racily clean"."""
NOW = 1_800_000_000.0


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "state") as made:
        yield made


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    made.mkdir()
    return made


def write(path: Path | bytes, data: bytes, mtime_ns: int = OLD) -> None:
    """Write a file, with the directories above it."""
    name = os.fsencode(path)
    os.makedirs(os.path.dirname(name), exist_ok=True)
    with open(name, "wb") as file:
        file.write(data)
    os.utime(name, ns=(mtime_ns, mtime_ns))

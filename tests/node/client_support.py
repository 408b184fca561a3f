"""A node that serves a small archive, and a client with a state directory of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.e2e.harness import make_tree
from tests.node.wire_support import Served, served

from p2psync import Client
from p2psync.format.url import archive_text


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    """It serves what is published in the folder ``tree``, whatever becomes of its publisher."""
    async with served(tmp_path, make_tree(tmp_path / "tree")) as made:
        yield made


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with Client(tmp_path / "state") as made:
        yield made


def url(node: Served, path: str = "") -> str:
    """Of its archive, or of what is at ``path`` (with a slash in front), with the node as the source."""
    return f"p2psync://{archive_text(node.archive)}{path}?peer={node.address}"

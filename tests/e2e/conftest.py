"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.harness import Network


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Network]:
    """A network of real processes, killed at the end of the test."""
    network = Network(tmp_path)
    try:
        yield network
    finally:
        network.close()

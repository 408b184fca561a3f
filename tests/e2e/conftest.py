"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.harness import Network
from tests.e2e.servers import Background, background


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Network]:
    """A network of real processes, killed at the end of the test."""
    with Network(tmp_path) as network:
        yield network


@pytest.fixture
def servers() -> Iterator[Background]:
    """Where servers that a test plays itself run; they are closed at its end."""
    with background() as made:
        yield made

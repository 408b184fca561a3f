"""What holds for all tests: the event loop that they run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.help.patient import PatientLoop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test with an event loop gets one that a busy machine does not hurry."""
    return {"patient": PatientLoop}

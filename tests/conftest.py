"""What holds for all tests: the event loop that they run on, and that no example is timed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hypothesis import HealthCheck, settings
from tests.help.patient import PatientLoop

# Hypothesis fails an example that takes 200 ms, or data that is slow to make: on a busy machine, any.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test with an event loop gets one that a busy machine does not hurry."""
    return {"patient": PatientLoop}

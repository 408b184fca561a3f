"""When what is new in a file is had by way of its older version."""

from __future__ import annotations

from enum import StrEnum


class Compress(StrEnum):
    """When missing chunks are put together from older versions (``matching``)."""

    AUTO = "auto"
    """Where that is sooner done than fetching them."""
    OFF = "off"
    MAX = "max"
    """Wherever it saves bytes."""

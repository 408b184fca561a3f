"""What was served, for metrics. Threads share it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Literal

Way = Literal["object", "batch", "packed", "tree"]
"""How content goes out: alone by its id, many by their ids, these compressed, or as a file of the browsable
tree.
"""


class Counters:
    """Numbers that only grow. Bytes are bytes of bodies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent: Counter[tuple[Way, bytes | None]] = Counter()
        self.requests = 0
        self.objects = 0
        self.files = 0
        self.batches = 0
        self.rows = 0
        self.missed = 0
        self.refused = 0
        self.redirected = 0

    def note(
        self,
        *,
        requests: int = 0,
        objects: int = 0,
        files: int = 0,
        batches: int = 0,
        rows: int = 0,
        missed: int = 0,
        refused: int = 0,
        redirected: int = 0,
    ) -> None:
        """Count what happened."""
        with self._lock:
            self.requests += requests
            self.objects += objects
            self.files += files
            self.batches += batches
            self.rows += rows
            self.missed += missed
            self.refused += refused
            self.redirected += redirected

    def add(self, way: Way, archive: bytes | None, number: int) -> None:
        """Count bytes that went out."""
        with self._lock:
            self._sent[way, archive] += number

    @property
    def sent(self) -> Mapping[tuple[Way, bytes | None], int]:
        """Bytes by way, and by the archive in whose tree they were found: one of those that are here. None
        for what belongs to no one archive: manifests, and the lengths between the rows of batches."""
        with self._lock:
            return dict(self._sent)

    @property
    def bytes_sent(self) -> int:
        """All content together."""
        return sum(self.sent.values())

    def bytes_by(self, way: Way) -> int:
        """What went out one way, of all archives."""
        return sum(number for (each, _), number in self.sent.items() if each == way)

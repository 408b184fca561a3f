"""A DHT node whose lookups are timed. What becomes of the times is for whoever listens."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from p2psync_dht import DhtNode, HeadLookup, HolderRecord
from p2psync_dht.heads import QUORUM
from p2psync_dht.node import DEFAULT_LIMIT

ROOT_SIZE: Final = 32

Listener = Callable[[str, bool, float], None]
"""Called with the kind of a lookup, whether it found (or stored) anything, and its seconds."""


class _Outcome:
    found = False


class MeteredDht(DhtNode):
    """Kinds of lookups: ``head``, ``holders``, ``put_head``, ``put_holder``, ``probe``."""

    listener: Listener | None = None

    async def get_head(self, root: bytes, *, quorum: int = QUORUM) -> HeadLookup:
        with self._timed("head") as outcome:
            made = await super().get_head(root, quorum=quorum)
            outcome.found = made.best is not None
        return made

    async def get_holders(self, key: bytes, *, limit: int = DEFAULT_LIMIT) -> list[HolderRecord]:
        with self._timed("holders") as outcome:
            made = await super().get_holders(key, limit=limit)
            outcome.found = bool(made)
        return made

    async def put_head(self, raw: bytes) -> int:
        with self._timed("put_head") as outcome:
            copies = await super().put_head(raw)
            outcome.found = copies > 1  # One copy is our own.
        return copies

    async def put_holder(self, raw: bytes) -> int:
        with self._timed("put_holder") as outcome:
            copies = await super().put_holder(raw)
            outcome.found = copies > 1
        return copies

    async def probe(self) -> bool:
        """Look up a key that nobody has; whether anybody answered. Shows what lookups cost now."""
        with self._timed("probe") as outcome:
            made = await super().get_head(os.urandom(ROOT_SIZE))
            outcome.found = made.answered > 0
        return outcome.found

    @contextmanager
    def _timed(self, kind: str) -> Iterator[_Outcome]:
        outcome = _Outcome()
        began = time.monotonic()
        yield outcome
        if self.listener is not None:
            self.listener(kind, outcome.found, time.monotonic() - began)

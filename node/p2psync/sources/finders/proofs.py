"""Which node answers at an address: asked of each address once, before anything else is asked there.

A holder record may be older than the tenant of its address, or name the address of somebody else. So an
address becomes a source only where a node with the record's key answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from p2psync.errors import P2psyncError
from p2psync.sources.interfaces import Source

PROOFS_AT_ONCE: Final = 16
"""Addresses that are asked at the same time: some are silent, and should not hold up the others."""
PROOF_TIMEOUT: Final = 5.0
"""Seconds that an answer may take, connecting included."""
RETRY_FIRST: Final = 2.0
RETRY_MAX: Final = 60.0
"""Seconds until a silent address is asked again, doubled each time: whoever was there may have left."""
ADDRESSES_MAX: Final = 2048
"""Addresses that are remembered; strangers could name any number."""


class _Silent(NamedTuple):
    until: float
    pause: float
    reason: str


class Proofs:
    """The keys of the nodes at addresses, and the sources that were opened to ask for them."""

    def __init__(self, open_source: Callable[[str], Source]) -> None:
        self._open = open_source
        self._asking: dict[str, asyncio.Task[bytes | None]] = {}
        self._keys: dict[str, bytes] = {}
        self._silent: dict[str, _Silent] = {}
        self._opened: dict[str, Source] = {}
        self._gate = asyncio.Semaphore(PROOFS_AT_ONCE)

    async def key_at(self, name: str, source: Source | None = None) -> bytes | None:
        """The key of the node at the address ``name``; None if none answers, or did a short while ago.

        ``source``: the one that is in use there, if there is one.
        """
        if name in self._keys:
            return self._keys[name]
        silent = self._silent.get(name)
        if silent is not None and time.monotonic() < silent.until:
            return None
        if name not in self._asking:
            if silent is None and len(self._keys) + len(self._silent) >= ADDRESSES_MAX:
                return None
            self._asking[name] = asyncio.create_task(self._ask(name, source))
        return await asyncio.shield(self._asking[name])

    def is_silent(self, name: str) -> bool:
        """Whether an address was asked and has not answered: in time, or so far."""
        return name in self._silent or name in self._asking

    @property
    def failures(self) -> list[str]:
        """Why addresses that were asked did not answer; one sentence each, with the address."""
        return [silent.reason for silent in self._silent.values()]

    def take(self, name: str) -> Source:
        """The source at an address that answered; it is the caller's from now on."""
        return self._opened.pop(name, None) or self._open(name)

    async def close(self) -> None:
        """Ask no more, and close what nobody took."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        if asking:
            await asyncio.wait(asking)
        for source in self._opened.values():
            await source.close()

    async def _ask(self, name: str, source: Source | None) -> bytes | None:
        opened = source or self._open(name)
        kept = False
        try:
            async with self._gate, asyncio.timeout(PROOF_TIMEOUT):
                assert opened.tracker is not None  # noqa: S101 - addresses are those of nodes
                key = (await opened.tracker.info()).key
            self._keys[name] = key
            self._silent.pop(name, None)
            if source is None:
                self._opened[name] = opened
            kept = True
            return key
        except (P2psyncError, TimeoutError) as error:
            before = self._silent.get(name)
            pause = RETRY_FIRST if before is None else min(2 * before.pause, RETRY_MAX)
            self._silent[name] = _Silent(time.monotonic() + pause, pause, str(error) or f"{name}: silent")
            return None
        finally:
            del self._asking[name]
            if not kept and source is None:
                await opened.close()

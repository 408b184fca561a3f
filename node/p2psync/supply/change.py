"""Something changed: how those who wait in the event loop hear of it, without looking again and again."""

from __future__ import annotations

import asyncio

from p2psync.errors import P2psyncError


class Change:
    """Wakes all who wait. After ``fail`` they get the error, and so does anyone who comes later."""

    def __init__(self) -> None:
        self._next: asyncio.Future[None] | None = None
        self.failure: P2psyncError | None = None

    def tell(self) -> None:
        """Something changed. Cheap, and may be called as often as it happens."""
        if self._next is not None and not self._next.done():
            self._next.set_result(None)

    def fail(self, error: P2psyncError) -> None:
        """Nothing can go on; the first reason counts."""
        self.failure = self.failure or error
        self.tell()

    def check(self) -> None:
        """Raise what ``fail`` was told, if anything."""
        if self.failure is not None:
            raise self.failure

    async def happened(self, seconds: float | None = None) -> None:
        """Until the next change, or for ``seconds`` at most, whatever ``fail`` was told."""
        if self._next is None or self._next.done():
            self._next = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._next], timeout=seconds)

    async def wait(self, seconds: float | None = None) -> None:
        """Until the next change, or for ``seconds`` at most. Raises what ``fail`` was told."""
        self.check()
        await self.happened(seconds)
        self.check()

"""What may be changed while a transfer runs: its speed, and whether it goes on. To end it, cancel its task.

A program holds a `Control`, and may use it from any thread; the engine looks at it before it asks for more.
"""

from __future__ import annotations

import asyncio
import threading

from p2psync.sources.http.rate import RateLimiter


class Control:
    """One for each transfer, or for several that share a limit and a switch."""

    def __init__(self, bytes_per_second: int | None = None) -> None:
        """`bytes_per_second`: the limit to begin with; None for none."""
        self.limiter = RateLimiter(bytes_per_second)
        """What all connections share."""
        self._lock = threading.Lock()
        self._paused = False
        self._waiting: set[asyncio.Future[None]] = set()

    def limit(self, bytes_per_second: int | None) -> None:
        """Receive no faster than this from now on, over all sources; None: as fast as they send."""
        self.limiter.rate = bytes_per_second

    def pause(self) -> None:
        """Ask for nothing more until `resume`. What is under way comes, and is kept."""
        with self._lock:
            self._paused = True

    def resume(self) -> None:
        """Go on where it was paused."""
        with self._lock:
            self._paused = False
            waiting, self._waiting = self._waiting, set()
            # Under the lock: a waiter that is cancelled leaves first, and its loop may be closed after that.
            for waiter in waiting:
                waiter.get_loop().call_soon_threadsafe(_wake, waiter)

    @property
    def paused(self) -> bool:
        return self._paused

    async def going(self) -> None:
        """For the engine: returns at once unless paused, and then when it goes on."""
        while True:
            with self._lock:
                if not self._paused:
                    return
                waiter = asyncio.get_running_loop().create_future()
                self._waiting.add(waiter)
            try:
                await waiter
            finally:
                with self._lock:
                    self._waiting.discard(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)

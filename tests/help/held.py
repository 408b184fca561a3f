"""Work in a thread that goes on until a test lets go of it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from tests.help.waiting import PATIENCE


class Held:
    """``work`` returns ``result``, or raises it, once it is let go of. Made in an event loop."""

    def __init__(self, result: Any = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._go_on = threading.Event()
        self._result = result
        self.begun = asyncio.Event()
        self.ended = False

    def work(self, *_: Any, **__: Any) -> Any:
        self._loop.call_soon_threadsafe(self.begun.set)
        assert self._go_on.wait(PATIENCE)
        self.ended = True
        if isinstance(self._result, Exception):
            raise self._result
        return self._result

    def let_go(self) -> None:
        self._go_on.set()


async def turns() -> None:
    """Let everything happen that is going to without anybody else."""
    for _ in range(10):
        await asyncio.sleep(0)


async def cancel_while_held(task: asyncio.Task[Any], held: Held, times: int = 1) -> None:
    """Cancel a task that waits for the work, so many times, and see that it waits on. Then let go of it, and
    see that the task was cancelled.
    """
    try:
        await held.begun.wait()
        for _ in range(times):
            task.cancel()
            await turns()
            assert not task.done() and not held.ended, "nobody waited for the work"
    finally:
        held.let_go()
    await asyncio.wait([task])
    assert task.cancelled() and held.ended

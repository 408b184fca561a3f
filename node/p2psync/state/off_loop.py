"""Work that an event loop must not wait for, done in threads and waited for to its end.

Writing to the state directory waits for other processes that write, up to a minute
(``database.BUSY_SECONDS``), and for the disk. Reading it does not: a write-ahead log lets readers go on.

Nobody can stop a thread. Who is cancelled while one works, and goes on at once, closes what it works with: a
descriptor, whose number goes to the next file that is opened; a lock, behind which somebody else begins in
the same directory; the state directory, in which what is half written would come after what is written then.
So who is cancelled waits all the same, however often he is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


async def off_loop(
    work: Callable[[], T],
    *,
    stop: Callable[[], object] | None = None,
    lost: Callable[[T], object] | None = None,
) -> T:
    """Do ``work`` in another thread, in the context of this one (`contextvars`); its result, or what it
    raises. `to_its_end` has the rest.
    """
    within = partial(copy_context().run, work)
    return await to_its_end(asyncio.get_running_loop().run_in_executor(None, within), stop=stop, lost=lost)


async def to_its_end(
    doing: Awaitable[T],
    *,
    stop: Callable[[], Any] | None = None,
    lost: Callable[[T], Any] | None = None,
) -> T:
    """What comes of ``doing``: work in a thread, or closing what threads work with.

    Who is cancelled meanwhile ends when it has. ``stop`` is called then, to have it end sooner; ``lost`` is
    given the result that nobody takes, to close it.
    """
    ending = asyncio.ensure_future(doing)
    try:
        return await asyncio.shield(ending)
    except asyncio.CancelledError:
        if stop is not None:
            stop()
        while not ending.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([ending])
        if not ending.cancelled() and ending.exception() is None and lost is not None:
            lost(ending.result())
        raise

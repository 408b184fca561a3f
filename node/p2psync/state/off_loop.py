"""Work on the state directory that an event loop must not wait for.

Writing waits for other processes that write, up to a minute (``database.BUSY_SECONDS``), and for the disk.
Reading does not: a write-ahead log lets readers go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def off_loop(work: Callable[[], T]) -> T:
    """Do ``work`` in another thread; its result, or what it raises.

    Who is cancelled waits for it all the same: the state directory may be closed next, and what is half
    written would come after what is written then.
    """
    doing = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        raise

"""Who tells whether directories of DEST are as the index knows them: a thread here, and the writer's
process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from p2psync.plan.compare import Stamped
from p2psync.tree.beneath import Beneath
from p2psync.tree.checker import is_as_it_was
from p2psync.tree.worker import Writer


class ThreadChecker:
    """Checks in a thread of this process."""

    def __init__(self, beneath: Beneath) -> None:
        """``beneath`` is used by nobody else meanwhile."""
        self._beneath = beneath

    async def check(self, directories: Sequence[Stamped]) -> Sequence[bool]:
        work = asyncio.ensure_future(asyncio.to_thread(self._look, directories))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise

    def _look(self, directories: Sequence[Stamped]) -> list[bool]:
        return [is_as_it_was(self._beneath, path, stamp) for path, stamp in directories]


class WriterChecker:
    """Lets the writer's process check, which has nothing to write yet."""

    def __init__(self, open_writer: Callable[[], Awaitable[Writer]]) -> None:
        self._open = open_writer

    async def check(self, directories: Sequence[Stamped]) -> Sequence[bool]:
        return await (await self._open()).check(directories)

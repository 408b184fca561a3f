"""What the state directory remembers of one archive: its newest head, and who holds it. Asked off the event
loop, since another process may be writing there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from p2psync.format.head import ArchiveHead
from p2psync.sources.finders.records import Found
from p2psync.state import State

T = TypeVar("T")


class Remembered:
    """The memory of ``archive``."""

    def __init__(self, state: State, archive: bytes) -> None:
        self._state = state
        self._archive = archive

    async def head(self) -> ArchiveHead | None:
        """The newest head that was ever accepted."""
        return await _in_thread(lambda: self._state.heads.newest(self._archive))

    async def keep_head(self, head: ArchiveHead) -> None:
        await _in_thread(lambda: self._state.heads.put(head, "network"))

    async def holders(self, now: float) -> list[bytes]:
        """Records that have not expired at ``now`` (Unix seconds); they were verified when they were kept."""
        return await _in_thread(lambda: self._state.holders.for_archive(self._archive, now))

    async def keep(self, found: Sequence[Found]) -> None:
        """Keep records that were verified."""

        def put() -> None:
            for record, _ in found:
                self._state.holders.put(
                    self._archive,
                    record.raw,
                    node_key=record.node_key,
                    issued=record.issued,
                    expires=record.expires,
                )

        await _in_thread(put)

    async def drop(self, found: Found) -> None:
        """Forget this record of a node; a later one of it stays."""

        def forget() -> None:
            if found.record.raw in self._state.holders.for_archive(self._archive, 0):
                self._state.holders.drop(self._archive, found.record.node_key)

        await _in_thread(forget)


async def _in_thread(work: Callable[[], T]) -> T:
    """Do ``work`` in another thread. Who is cancelled waits for it all the same: the state directory may be
    closed next.
    """
    doing = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        raise

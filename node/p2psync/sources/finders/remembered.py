"""What the state directory remembers of one archive: its newest head, and who holds it. Asked off the event
loop, since another process may be writing there.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2psync.format.head import ArchiveHead
from p2psync.sources.finders.records import Found
from p2psync.state import State
from p2psync.state.off_loop import off_loop


class Remembered:
    """The memory of ``archive``."""

    def __init__(self, state: State, archive: bytes) -> None:
        self._state = state
        self._archive = archive

    async def head(self) -> ArchiveHead | None:
        """The newest head that was ever accepted."""
        return await off_loop(lambda: self._state.heads.newest(self._archive))

    async def keep_head(self, head: ArchiveHead) -> None:
        await off_loop(lambda: self._state.heads.put(head, "network"))

    async def holders(self, now: float) -> list[bytes]:
        """Records that have not expired at ``now`` (Unix seconds); they were verified when they were kept."""
        return await off_loop(lambda: self._state.holders.for_archive(self._archive, now))

    async def keep(self, found: Sequence[Found]) -> None:
        """Keep records that were verified."""

        def put() -> None:
            for record, _ in found:
                self._state.holders.keep(self._archive, record)

        await off_loop(put)

    def node_runs(self) -> bool:
        """Whether the node of this state directory is there."""
        return self._state.node_runs()

    async def drop(self, found: Found) -> None:
        """Forget this record of a node; a later one of it stays."""

        def forget() -> None:
            if found.record.raw in self._state.holders.for_archive(self._archive, 0):
                self._state.holders.drop(self._archive, found.record.node_key)

        await off_loop(forget)

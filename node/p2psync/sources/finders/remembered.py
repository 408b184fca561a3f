"""What the state directory remembers of one archive: its newest head, and who holds it. Asked off the event
loop, since another process may be writing there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from p2psync.format.head import ArchiveHead
from p2psync.sources.finders.records import Found
from p2psync.state import State
from p2psync.state.off_loop import off_loop
from p2psync.trust import Standing
from p2psync_dht import Endpoint


class Remembered:
    """The memory of ``archive``."""

    def __init__(self, state: State, archive: bytes) -> None:
        self._state = state
        self._archive = archive

    async def head(self) -> ArchiveHead | None:
        """The newest head that was ever accepted."""
        return await off_loop(lambda: self._state.heads.newest(self._archive))

    async def made_here(self) -> bool:
        """Whether the archive's snapshots are made here, so that nobody has to be asked for newer ones."""
        trees = await off_loop(lambda: self._state.trees.by_archive(self._archive))
        return any(tree.role == "publish" for tree in trees)

    async def keep_head(self, head: ArchiveHead) -> None:
        await off_loop(lambda: self._state.heads.put(head, "network"))

    async def holders(self, now: float) -> list[bytes]:
        """Records that have not expired at ``now`` (Unix seconds), in no order that means anything; they were
        verified when they were kept.
        """
        return await off_loop(lambda: self._state.holders.for_archive(self._archive, now))

    async def keep(self, found: Sequence[Found]) -> None:
        """Keep records that were verified, as far as there is room for what strangers tell."""
        records = [record for record, _ in found]
        await off_loop(lambda: self._state.holders.hear(self._archive, records, time.time()))

    async def standings(self, found: Sequence[Found]) -> dict[bytes, Standing]:
        """What speaks for these holders, by node key."""
        records = [record for record, _ in found]
        return await off_loop(lambda: self._state.nodes.standings(records, time.time()))

    async def proved(self, node_key: bytes, place: Endpoint) -> None:
        """The node has just proved its key at an address: its record may be passed on."""
        await off_loop(lambda: self._state.nodes.proved(node_key, place, time.time()))

    async def delivered(self, node_keys: Sequence[bytes]) -> None:
        """These nodes have given content that was right: the next fetch begins with them."""
        await off_loop(lambda: self._state.nodes.delivered(node_keys, time.time()))

    def node_runs(self) -> bool:
        """Whether the node of this state directory is there."""
        return self._state.node_runs()

    async def drop(self, found: Found) -> None:
        """Forget this record of a node; a later one of it stays."""

        def forget() -> None:
            if found.record.raw in self._state.holders.for_archive(self._archive, 0):
                self._state.holders.drop(self._archive, found.record.node_key)

        await off_loop(forget)

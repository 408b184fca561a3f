"""What a publisher asks before it signs: the newest head that anybody has. Others may have signed since:
another machine, or this one before a backup was put back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Final

from p2psync.errors import P2psyncError, UsageError
from p2psync.format.head import ArchiveHead, decode_head
from p2psync.format.url import ArchiveUrl
from p2psync.network.holders import holder_places
from p2psync.state import State
from p2psync.state.off_loop import off_loop

PATIENCE: Final = 3.0
"""Seconds that sources have to tell of a newer head: it may be that nobody is there, and publishing goes on
meanwhile.
"""
ASKED_MAX: Final = 24
"""Sources that are asked."""


def sources_of(state: State, archive: bytes) -> dict[str, bytes | None]:
    """HOST:PORT of nodes that may have an archive: known holders, with the key that must be there, and
    those given for its mirrors here.
    """
    found: dict[str, bytes | None] = dict(holder_places(state, archive))
    for tree in state.trees.by_archive(archive):
        with contextlib.suppress(UsageError):  # Its update says what is wrong.
            found |= dict.fromkeys(ArchiveUrl.parse(tree.source).peers if tree.source else ())
    return dict(list(found.items())[:ASKED_MAX])


async def heads_elsewhere(state: State, archive: bytes, bootstrap: Sequence[str]) -> list[ArchiveHead]:
    """The heads that the DHT and known sources have, verified. The DHT is asked where `bootstrap` or what is
    remembered leads into it; where a node runs on this state directory, that one sees to it.
    """
    answers = [_heads_of_sources(state, archive)]
    if bootstrap or (state.contacts_path.exists() and not state.node_runs()):
        from p2psync.network.once import known_heads  # noqa: PLC0415 - kademlia, 60 ms

        answers.append(known_heads(state, archive, bootstrap))
    return [head for heads in await asyncio.gather(*answers) for head in heads]


async def _heads_of_sources(state: State, archive: bytes) -> list[ArchiveHead]:
    names = await off_loop(partial(sources_of, state, archive))
    if not names:
        return []
    found: list[ArchiveHead] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            for name, key in names.items():
                group.create_task(_ask(name, key, archive, found))
    return found


async def _ask(name: str, key: bytes | None, archive: bytes, found: list[ArchiveHead]) -> None:
    """What one has; one that is silent, talks nonsense, or is another than it is said to be, has none."""
    from p2psync.sources.node import PeerSource  # noqa: PLC0415 - not for who knows nobody

    with contextlib.suppress(P2psyncError):
        source = PeerSource(name, connections=1, connect_timeout=PATIENCE, idle_timeout=PATIENCE)
        try:
            # Before anything else: anybody can have named this address.
            proved = key is None or (await source.info()).key == key
            raw = await source.head(archive) if proved else None
        finally:
            await source.close()
        head = None if raw is None else decode_head(raw)
        if head is not None and head.archive == archive:
            found.append(head)

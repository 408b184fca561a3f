"""What a command does in the DHT by itself, where no node runs on its state directory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from p2psync.errors import FormatError, NetworkError, P2psyncError
from p2psync.format.head import ArchiveHead, from_record
from p2psync.network.dht import open_dht
from p2psync.network.over_dht import way_of
from p2psync.network.seeds.query import split
from p2psync.state import State

REMEMBERED_ANSWER: Final = 3.0
"""Seconds for nodes that are remembered from earlier runs to tell of a newer head."""


async def announce_published(state: State, archive: bytes, bootstrap: Sequence[str]) -> int:
    """Put the newest head into the DHT; how many nodes hold it then. A running node has done so by itself.

    Raises NetworkError: nobody answered, with who was asked.
    """
    head = state.heads.newest(archive)
    if head is None:
        return 0
    async with open_dht(state, bootstrap=bootstrap, archive=archive) as dht:
        if not dht.contacts():
            raise NetworkError(str(way_of(dht, split(bootstrap)[0])))
        return await dht.put_head(head.raw)


async def known_heads(state: State, archive: bytes, bootstrap: Sequence[str]) -> list[ArchiveHead]:
    """The head that the DHT has: a publisher must sign what comes after it, whoever published last.

    Without `bootstrap`, who is remembered has `REMEMBERED_ANSWER` to answer: it may be that nobody is there.
    """
    if bootstrap:
        return await _heads(state, archive, bootstrap)
    try:
        async with asyncio.timeout(REMEMBERED_ANSWER):
            return await _heads(state, archive, bootstrap)
    except (TimeoutError, P2psyncError):
        return []


async def _heads(state: State, archive: bytes, bootstrap: Sequence[str]) -> list[ArchiveHead]:
    async with open_dht(state, bootstrap=bootstrap, archive=archive) as dht:
        best = (await dht.get_head(archive)).best if dht.contacts() else None
    if best is None:
        return []
    try:
        return [from_record(best)]
    except FormatError:
        return []

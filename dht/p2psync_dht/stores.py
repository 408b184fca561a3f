"""Storing a record at the k nodes nearest to its key, or in the region of a crowded one (see `density`), this
node included if it is one of them.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from p2psync_dht.lookup import Lookup
from p2psync_dht.query import Answer, Query, Reply
from p2psync_dht.wire import Kind, Status, WireError, field

if TYPE_CHECKING:
    from p2psync_dht.protocol import DhtProtocol

KEPT: Final = (Status.STORED, Status.SAME)


def statuses_of(reply: Reply, count: int) -> bytes | None:
    """One status a record of a STORE reply; None if the token was refused or the reply is no answer."""
    try:
        statuses: bytes | None = field(reply.body, 2, bytes, size=count, optional=True)
    except WireError:
        return None
    return statuses


def store_one(protocol: DhtProtocol, answer: Answer, raw: bytes) -> asyncio.Future[bool]:
    """Send one record to a node that gave a token; the future says whether it is kept there."""
    done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def stored(reply: Reply | None) -> None:
        statuses = None if reply is None else statuses_of(reply, 1)
        if not done.done():
            done.set_result(statuses is not None and statuses[0] in KEPT)

    protocol.query(Query(Kind.STORE, answer.contact, [answer.token, [raw]], stored))
    return done


async def closest(
    protocol: DhtProtocol, family: socket.AddressFamily, key: bytes
) -> tuple[list[Answer], bool]:
    """The nodes of one family that should keep records under `key`, and whether this node is one of them."""
    ksize = protocol.tables[family].ksize
    answers = await Lookup(protocol, family, key).run()
    if not protocol.server:
        return answers, False
    distance = protocol.source_node.long_id ^ int.from_bytes(key, "big")
    if len(answers) >= ksize and distance > answers[-1].distance:
        return answers, False
    # In the region of a crowded key there are more, and all of them count.
    return (answers if len(answers) > ksize else answers[: ksize - 1]), True


async def store_at_closest(
    protocol: DhtProtocol, families: Sequence[socket.AddressFamily], key: bytes, raw: bytes
) -> int:
    """Store in every family; the number of nodes that keep the record now."""
    found = await asyncio.gather(*(closest(protocol, family, key) for family in families))
    copies = 0
    # A server without contacts is the first of its network: it is its own closest node.
    alone = protocol.server and not families
    if alone or any(here for _, here in found):
        copies += protocol.storage.put(raw) in KEPT
    targets = [answer for answers, _ in found for answer in answers]
    results = await asyncio.gather(*(store_one(protocol, answer, raw) for answer in targets))
    return copies + sum(results)

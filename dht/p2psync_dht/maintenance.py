"""What a node does by itself: refresh quiet buckets, ask after silent contacts, fill free places, prune the
store.

One loop per node, owned and ended by `node.DhtNode`. Heads and holder records are refreshed by those who have
an interest in them (`announce`), never by the nodes that store them: a network that republishes among itself
feeds on itself.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from p2psync_dht.contact import Contact
from p2psync_dht.lookup import Lookup
from p2psync_dht.routing import KEY_BITS, ContactBucket

if TYPE_CHECKING:
    from p2psync_dht.query import Reply
    from p2psync_dht.server import DhtServer

# Seconds between two rounds, give or take a quarter so that nodes started together drift apart.
TICK: Final = 60.0
STALE_AFTER: Final = 900.0  # seconds without an answer, then a contact is asked whether it is still there
MAX_PINGS: Final = 8  # of these and others in one round
# Of the pings of a round, as many go to any contacts: where nobody answers, nobody is blamed, as it may be
# our own link. Else a few who had fallen silent together would be the only ones asked, for ever.
ANYBODY: Final = 2
MAX_REFRESHES: Final = 1  # bucket lookups in one round
REFRESH_COUNT: Final = 8  # nodes that a refresh converges on


class Maintenance:
    """The rounds of one node. `rejoin` is called when no contact is left."""

    def __init__(self, server: DhtServer, rejoin: Callable[[], Awaitable[object]]) -> None:
        self._server = server
        self._protocol = server.protocol
        self._rejoin = rejoin

    async def run(self) -> None:
        """Rounds until cancelled."""
        rng = self._protocol.rng
        while True:
            await asyncio.sleep(TICK * rng.uniform(0.75, 1.25))
            await self.round()

    async def round(self) -> None:
        """One round: a few pings, at most one lookup per family, a slice of the store."""
        self._protocol.storage.prune()
        if not any(len(self._protocol.tables[family]) for family in self._protocol.families()):
            await self._rejoin()
            return
        for family in self._protocol.families():
            self._ask_after_stale(family)
            self._fill_places(family)
            for bucket in self._protocol.tables[family].lonely_buckets()[:MAX_REFRESHES]:
                await Lookup(self._protocol, family, self._id_in(bucket), count=REFRESH_COUNT).run()

    def _ask_after_stale(self, family: socket.AddressFamily) -> None:
        """Ping the contacts that have been silent for longest, and some others; two time-outs remove them."""
        before = self._protocol.now() - STALE_AFTER
        contacts = list(self._protocol.tables[family])
        stale = sorted(
            (one for one in contacts if one.seen < before or one.failures), key=lambda one: one.seen
        )
        asked = stale[: MAX_PINGS - ANYBODY]
        if asked:
            others = [one for one in contacts if one not in asked]
            asked += self._protocol.rng.sample(others, min(ANYBODY, len(others)))
        for contact in asked:
            self._protocol.ping(contact, _ignore)

    def _fill_places(self, family: socket.AddressFamily) -> None:
        """Let one candidate of each bucket with room prove itself."""
        table = self._protocol.tables[family]
        for bucket in table.buckets:
            candidate: Contact | None = table.next_candidate(bucket)
            if candidate is not None:
                self._protocol.verify(candidate)

    def _id_in(self, bucket: ContactBucket) -> bytes:
        low, high = bucket.range
        return self._protocol.rng.randint(low, high).to_bytes(KEY_BITS // 8, "big")


def _ignore(_reply: Reply | None) -> None:
    """The protocol has noted the answer, or its absence, in the table."""

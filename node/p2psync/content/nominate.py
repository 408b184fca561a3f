"""Holders that nominate themselves: what is checked before their record is kept and re-shared.

The record must be signed by its node for this archive and be current; an endpoint must be the address that
the request came from, and a node with the record's key must answer there. So nobody can list somebody
else's address, and what is passed on holds only nodes that were reachable not long ago. One endpoint more
may be of the other address family. One that takes back what its node said before needs the signature alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from p2psync.content.interface import Library
from p2psync.content.threads import Threads
from p2psync.errors import P2psyncError
from p2psync.network.here import client_of, plain_ip
from p2psync.sources.node import PeerSource
from p2psync_dht import Endpoint, HolderRecord, RecordError, holders_key
from p2psync_dht.networks import Caps, NetworkQuota
from p2psync_dht.scope import may_claim

CALLBACKS_MAX: Final = 16
"""Call-backs under way at once: bounds sockets and memory that nominations can take."""
CALLBACKS_PER_NETWORK: Final = Caps(client=1, site=2, provider=4)
"""Of these, such as one network asked for: whoever has a whole provider keeps three quarters for others. A
client pays with its own connections for each; local addresses are limited by that alone.
"""
CALLBACK_TIMEOUT: Final = 5.0
"""Seconds for a node to be reached and to say who it is."""


class Refused(Exception):
    """A nomination that is not taken: the HTTP status, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Nominations:
    """Judges nominations for a library."""

    def __init__(
        self,
        library: Library,
        threads: Threads,
        *,
        own_key: bytes,
        callback_timeout: float = CALLBACK_TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._library = library
        self._threads = threads
        self._own_key = own_key
        self._timeout = callback_timeout
        self._clock = clock
        self._under_way: list[str] = []
        """The addresses that asked for call-backs which have not ended."""

    async def consider(self, archive: bytes, raw: bytes, sender: str) -> None:
        """Verify and keep ``raw``, which came from the IP address ``sender``. Raises Refused."""
        address = plain_ip(sender)
        record, known = await self._threads.do(self._examine, archive, raw, address)
        if known:
            return
        place = None
        if not record.withdrawn:
            for endpoint in dict.fromkeys(record.endpoints):
                if endpoint.ip == address:  # One of the other family may not be reachable from here at all.
                    await self._call_back(endpoint, record.node_key, address)
                    place = endpoint
        if not await self._threads.do(self._library.keep_holder, archive, record, place):
            raise Refused(429, "too many holders of this address or network are listed already")

    def _examine(self, archive: bytes, raw: bytes, address: str) -> tuple[HolderRecord, bool]:
        """The record, and whether these very bytes are kept already."""
        if archive not in self._library.archives():
            raise Refused(404, "this archive is not here")
        known = raw in self._library.holders(archive)
        try:
            record = HolderRecord.decode(raw)
            record.check_time(int(self._clock()))
            if not known:
                record.verify()
        except RecordError as error:
            raise Refused(400, str(error)) from None
        if record.key != holders_key(archive):
            raise Refused(400, "the record is for something else")
        if record.node_key == self._own_key:
            raise Refused(400, "that is this node itself")
        # To leave, the node's signature is enough, from wherever it comes.
        places = [endpoint.ip for endpoint in record.endpoints]
        own = "" not in places and may_claim(places, address)
        if not own and not record.withdrawn:
            raise Refused(403, f"an endpoint is not the address that this came from ({address})")
        return record, known

    async def _call_back(self, endpoint: Endpoint, key: bytes, address: str) -> None:
        under_way = self._under_way
        client = client_of(address)
        busy = len(under_way) >= CALLBACKS_MAX or any(client_of(other) == client for other in under_way)
        if busy or not NetworkQuota(under_way, caps=CALLBACKS_PER_NETWORK).admit(address):
            raise Refused(429, "too many nominations are being checked")
        under_way.append(address)
        source = PeerSource(
            str(endpoint), connections=1, connect_timeout=self._timeout, idle_timeout=self._timeout
        )
        try:
            async with asyncio.timeout(2 * self._timeout):
                info = await source.info()
        except (P2psyncError, TimeoutError) as error:
            raise Refused(403, f"no node was reached at {endpoint}: {error}") from None
        finally:
            await source.close()
            under_way.remove(address)
        if info.key != key:
            raise Refused(403, f"another node answers at {endpoint}")

"""Serving while fetching: the content server of a running fetch, and its nomination to the sources.

Others then get from us what we have already. Nominations go to our sources only, for the length of the run,
and never into the DHT: nobody's downloads are written into a public table unasked.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import Final

from p2psync.content.library import StateLibrary
from p2psync.content.partial import PartialObjects
from p2psync.content.server import ContentServer
from p2psync.errors import P2psyncError
from p2psync.format.coverage import Coverage
from p2psync.format.url import host_and_port
from p2psync.sources.swarm import Member, Swarm
from p2psync.state import State
from p2psync.supply.jobs import Job
from p2psync.supply.local import PARTIAL
from p2psync.tree.beneath import join
from p2psync_dht import Endpoint, HolderRecord, HolderRole, Identity, holders_key

LIFETIME: Final = 900
"""Seconds that a nomination lasts: a fetch that dies without a word is forgotten soon."""
RENEW: Final = 300.0
"""Seconds after which it is handed in again."""
RETRY: Final = 10.0
"""Seconds after which a source that did not take it is asked again: it may have been busy."""
TELL_TIMEOUT: Final = 5.0
"""Seconds that handing it in may take."""
ROUND: Final = 1.0
"""Seconds between looks for sources that do not know us yet."""


class PartialShare:
    """Offers the unfinished objects of a fetch through a registry that a content server looks into."""

    def __init__(self, partial: PartialObjects, dest: bytes) -> None:
        self._partial = partial
        self._dest = dest

    def offer(self, job: Job) -> None:
        """Offer the chunks of an unfinished object."""
        path = join(self._dest, join(PARTIAL, job.ref.digest.hex().encode()))
        self._partial.register(job.ref.digest, path, job.recipe, job.have)

    def withdraw(self, job: Job) -> None:
        """It is whole and found by the index, or was given up."""
        self._partial.drop(job.ref.digest)


class Sharing(PartialShare):
    """The sharing side of one fetch, with a server of its own."""

    def __init__(self, state: State, identity: Identity, archive: bytes, dest: bytes) -> None:
        super().__init__(PartialObjects(), dest)
        self._identity = identity
        self._archive = archive
        self._state = state
        self._library = StateLibrary(state, self._partial, fetched=True)
        self._server: ContentServer | None = None
        self._due: dict[str, float] = {}

    async def start(self, host: str, port: int) -> None:
        """Begin to serve. Raises NetworkError if the address cannot be used."""
        key = self._identity.public_key
        self._server = await ContentServer.start(self._library, host, port, node_key=key)

    async def close(self) -> None:
        if self._server is not None:
            await self._server.close()
        self._library.close()

    async def nominate(self, swarm: Swarm, coverage: Coverage) -> None:
        """Keep the sources told that we are here, until cancelled.

        Where a node runs on this state directory they are not: it has the same key, and whoever knows it as a
        mirror would forget that for our sake.
        """
        if self._state.node_runs():
            return
        while True:
            now = time.monotonic()
            due = [m for m in swarm.alive() if m.tracker and now >= self._due.get(m.name, now)]
            if due:
                await asyncio.gather(*(self._tell(member, coverage) for member in due))
            await asyncio.sleep(ROUND)

    async def _tell(self, member: Member, coverage: Coverage) -> None:
        """Hand our record to one source, with the address of ours that it sees."""
        assert self._server is not None  # noqa: S101 - started before
        ip = local_address(member.name)
        if ip is None:
            self._due[member.name] = time.monotonic() + RENEW
            return
        now = int(time.time())
        record = HolderRecord.sign(
            self._identity,
            holders_key(self._archive),
            endpoints=[Endpoint(ip, self._server.address[1])],
            issued=now,
            expires=now + LIFETIME,
            role=HolderRole.PEER,
            payload=coverage.encode(),
        )
        # A source that cannot reach us, or keeps no list, is a source all the same.
        self._due[member.name] = time.monotonic() + RETRY
        with contextlib.suppress(P2psyncError, TimeoutError):
            async with asyncio.timeout(TELL_TIMEOUT):
                assert member.tracker is not None  # noqa: S101 - only such are told
                await member.tracker.nominate(self._archive, record.raw)
            self._due[member.name] = time.monotonic() + RENEW


def local_address(peer: str) -> str | None:
    """Our IP address on the way to ``peer`` (HOST:PORT), or None if there is no way.

    Connecting a datagram socket sends nothing; it makes the kernel choose the address (ip(7)).
    """
    host, port = host_and_port(peer)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError:
        return None

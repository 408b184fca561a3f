"""Serving while fetching: the content server of a running fetch, and its nomination to the sources.

Others then get from us what we have already. Nominations go to our sources only, for the length of the run,
and never into the DHT: nobody's downloads are written into a public table unasked.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from p2psync.content.partial import PartialObjects, Place
from p2psync.content.served import tell_served
from p2psync.errors import NetworkError, P2psyncError
from p2psync.events import Teller
from p2psync.format.coverage import Coverage
from p2psync.format.paths import split
from p2psync.format.reserved import PARTIAL
from p2psync.format.url import host_port
from p2psync.network.here import local_address
from p2psync.sources.source import Busy
from p2psync.sources.swarm import Member, Swarm
from p2psync.sources.withdrawal import take_back
from p2psync.state import State
from p2psync.state.off_loop import off_loop
from p2psync.supply import bundles
from p2psync.supply.jobs import Job
from p2psync.tree.opener import Stamp
from p2psync_dht import Endpoint, HolderRecord, HolderRole, Identity, holders_key
from p2psync_dht.sockets import open_sockets

if TYPE_CHECKING:
    from p2psync.content.library import StateLibrary
    from p2psync.content.server import ContentServer

SHARE_AFTER: Final = 0.25
"""Seconds that a fetch lasts before it begins to serve."""
LIFETIME: Final = 900
"""Seconds that a nomination lasts: a fetch that dies without a word is forgotten soon."""
RENEW: Final = 300.0
"""Seconds after which it is handed in again."""
RETRY: Final = 10.0
"""Seconds after which a source that did not take it is asked again."""
TELL_TIMEOUT: Final = 5.0
"""Seconds that handing it in may take."""
LEAVE: Final = 1.0
"""Seconds that a fetch which ends may spend on telling its sources so."""
ROUND: Final = 1.0
"""Seconds between looks for sources that do not know us yet, or were busy: with somebody of our address,
who came at the same time.
"""


class PartialShare:
    """Offers the unfinished objects of a fetch through a registry that a content server looks into."""

    def __init__(self, partial: PartialObjects, dest: bytes) -> None:
        self._partial = partial
        self._dest = dest

    def offer(self, job: Job) -> None:
        """Offer the chunks of an unfinished object."""
        assert job.written is not None  # noqa: S101 - an object that has an unfinished file
        name = job.digest.hex().encode()
        place = Place(self._dest, PARTIAL, name)
        self._partial.register(job.digest, place, job.recipe, job.written, job.ino)

    def complete(self, job: Job, path: bytes, stamp: bundles.Stamp) -> None:
        """It is whole; the index does not know it yet."""
        self._partial.complete(job.digest, Place(self._dest, *split(path)), Stamp(*stamp))

    def withdraw(self, job: Job) -> None:
        """It is whole and found by the index, or was given up."""
        self._partial.drop(job.digest)


class Sharing(PartialShare):
    """The sharing side of one fetch, with a server of its own.

    The server begins when the fetch has lasted a while: what is over sooner is of no use to others, and
    loading the server would take longer than that.
    """

    def __init__(self, state: State, identity: Identity, archive: bytes, dest: bytes) -> None:
        super().__init__(PartialObjects(), dest)
        self._identity = identity
        self._archive = archive
        self._state = state
        self._listen = ("", 0)
        self._library: StateLibrary | None = None
        self._starting: asyncio.Future[ContentServer] | None = None
        self._server: ContentServer | None = None
        self._due: dict[str, float] = {}
        self._records: dict[str, HolderRecord] = {}
        """Our latest record by the address of ours that is in it."""
        self._renew_at: dict[str, float] = {}
        self._recording = asyncio.Lock()
        self._took: dict[str, Member] = {}
        """Sources that have our record, or may have it."""

    async def start(self, host: str, port: int) -> None:
        """Be ready to serve at an IP address and a port (0: a free one); `nominate` begins it.

        Raises NetworkError: the address cannot be listened at.
        """
        try:
            for sock in open_sockets(host, port, socket.SOCK_STREAM):
                sock.close()
            self._listen = host, port
        except OSError as error:
            raise NetworkError(
                f"cannot listen at {host_port(host, port)}: {error.strerror or error}; "
                "choose another address with --listen, or do without sharing by --no-share"
            ) from None

    @property
    def sent(self) -> int:
        """Bytes of content that others were given."""
        return 0 if self._server is None else self._server.counters.bytes_sent

    async def close(self) -> None:
        with contextlib.suppress(TimeoutError, P2psyncError, sqlite3.Error):
            async with asyncio.timeout(LEAVE):
                await self._take_back()
        if self._starting is not None:
            with contextlib.suppress(NetworkError):  # Whoever waited for it has heard of it.
                await (await self._starting).close()
        if self._library is not None:
            self._library.close()

    async def _serve(self) -> ContentServer:
        """Begin to serve. Raises NetworkError: somebody else listens there by now."""
        # aiohttp and all that serving needs: loaded here, off the loop, and not by who fetches a trifle.
        library = await asyncio.to_thread(importlib.import_module, "p2psync.content.library")
        server = await asyncio.to_thread(importlib.import_module, "p2psync.content.server")
        self._library = library.StateLibrary(self._state, self._partial, archive=self._archive)
        key = self._identity.public_key
        self._starting = asyncio.ensure_future(
            server.ContentServer.start(self._library, *self._listen, node_key=key)
        )
        started: ContentServer = await asyncio.shield(self._starting)  # Half one could not be closed.
        self._server = started
        return started

    async def nominate(self, swarm: Swarm, coverage: Coverage, tell: Teller) -> None:
        """Serve, and keep the sources told that we are here, until cancelled. ``tell`` hears what is given.

        Where a node runs on this state directory they are not: it has the same key, and whoever knows it as a
        mirror would forget that for our sake.
        """
        await asyncio.sleep(SHARE_AFTER)
        server = await self._serve()
        async with asyncio.TaskGroup() as group:
            group.create_task(tell_served(server, tell))
            if not self._state.node_runs():
                group.create_task(self._keep_nominated(server, swarm, coverage))

    async def _keep_nominated(self, server: ContentServer, swarm: Swarm, coverage: Coverage) -> None:
        while True:
            now = time.monotonic()
            # Whoever has given nothing may be a stranger who has nothing, and need not know of us.
            likely = [m for m in swarm.alive() if m.tracker and m.is_reliable]
            due = [m for m in likely if now >= self._due.get(m.name, now)]
            if due:
                await asyncio.gather(*(self._tell(member, coverage, server.address[1]) for member in due))
            await asyncio.sleep(ROUND)

    async def _tell(self, member: Member, coverage: Coverage, port: int) -> None:
        """Hand our record to one source, with the address of ours that it sees."""
        ip = await local_address(member.name)
        if ip is None:
            self._due[member.name] = time.monotonic() + RENEW
            return
        async with self._recording:
            record = self._records.get(ip)
            if record is None or time.monotonic() >= self._renew_at[ip]:
                record = await off_loop(partial(self._record, Endpoint(ip, port), coverage))
                self._records[ip], self._renew_at[ip] = record, time.monotonic() + RENEW
        # A source that cannot reach us, or keeps no list, is a source all the same.
        self._due[member.name] = time.monotonic() + RETRY
        try:
            async with asyncio.timeout(TELL_TIMEOUT):
                assert member.tracker is not None  # noqa: S101 - only such are told
                self._took[member.name] = member  # Before: who is stopped meanwhile does not know.
                await member.tracker.nominate(self._archive, record.raw)
            self._due[member.name] = time.monotonic() + RENEW
        except Busy:
            self._due[member.name] = time.monotonic()  # In the next round.
        except (P2psyncError, TimeoutError):
            return

    def _record(self, endpoint: Endpoint, coverage: Coverage) -> HolderRecord:
        """Our next record. It is kept, as a node keeps its own: another fetch of this archive has the same
        key, and is to go on after it.
        """
        holders = self._state.holders
        now = holders.next_issue(self._archive, self._identity.public_key, int(time.time()))
        record = HolderRecord.sign(
            self._identity,
            holders_key(self._archive),
            endpoints=[endpoint],
            issued=now,
            expires=now + LIFETIME,
            role=HolderRole.PEER,
            payload=coverage.encode(),
        )
        holders.keep_own(self._archive, record, time.time())
        return record

    async def _take_back(self) -> None:
        """Tell the sources that have our record that we are gone."""
        if not self._records:
            return
        record = await off_loop(self._withdrawal)
        members = [member for member in self._took.values() if not (member.dead or member.failures)]
        if record is not None:
            await asyncio.gather(*(self._leave(member, record) for member in members))

    def _withdrawal(self) -> HolderRecord | None:
        """What is to be told. Nothing if somebody with our key has said since that it is there: another fetch
        of this archive, or a node.
        """
        said = self._state.holders.of_node(self._archive, self._identity.public_key)
        if said not in self._records.values():
            return None
        return take_back(self._state, self._identity, self._archive, time.time())

    async def _leave(self, member: Member, record: HolderRecord) -> None:
        assert member.tracker is not None  # noqa: S101 - only such were told
        with contextlib.suppress(P2psyncError):
            await member.tracker.nominate(self._archive, record.raw)

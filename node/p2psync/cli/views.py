"""Looking at an archive without fetching it: its entries, and who holds it. What `ls` and `mirrors` share."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2psync.dht import open_dht
from p2psync.errors import NetworkError, PartialError
from p2psync.fetch.discovery import Discovery
from p2psync.fetch.manifest import Manifest
from p2psync.fetch.options import FetchOptions
from p2psync.fetch.swarm import Swarm
from p2psync.format.head import ArchiveHead
from p2psync.format.listing import Entry, Kind
from p2psync_dht import HolderRecord, RecordError

if TYPE_CHECKING:
    from p2psync.cli.options import Common, Network
    from p2psync.format.url import ArchiveUrl
    from p2psync.state import State


@dataclass(frozen=True, slots=True)
class View:
    """An archive that is being looked at. ``entry`` is what the URL's path names."""

    head: ArchiveHead
    entry: Entry
    _manifest: Manifest

    async def listing(self, directory: Entry) -> list[Entry]:
        """What is in a directory, by name. Raises PartialError if nobody has its listing."""
        return await _listing(self._manifest, directory)


@dataclass(frozen=True, slots=True)
class Holders:
    """Who says that they hold an archive, and its newest head, None if nobody has one."""

    head: ArchiveHead | None
    records: list[HolderRecord]


@contextlib.asynccontextmanager
async def open_view(
    common: Common, network: Network, state: State, url: ArchiveUrl, *, require_fresh: bool = False
) -> AsyncIterator[View]:
    """The newest snapshot of an archive, as far as the sources have it.

    Raises:
        NetworkError: no head was found. PartialError: the archive has no such path, or nobody has its
        listing.
    """
    async with _discovering(common, network, state, url, require_fresh) as (discovery, swarm):
        manifest = Manifest(state, swarm, discovery.start)
        head = await discovery.newest_head()
        entry = (await manifest.snapshot(head.snapshot)).root
        for name in url.path.split(b"/") if url.path else []:
            inside = await _listing(manifest, entry) if entry.kind == Kind.DIR else []
            found = next((one for one in inside if one.name == name), None)
            if found is None:
                raise PartialError(f"the archive has no {os.fsdecode(url.path)!r}")
            entry = found
        yield View(head, entry, manifest)


async def find_holders(common: Common, network: Network, state: State, url: ArchiveUrl) -> Holders:
    """Ask the DHT and every known source who holds an archive."""
    async with _discovering(common, network, state, url, False) as (discovery, _):
        head: ArchiveHead | None = None
        with contextlib.suppress(NetworkError):
            head = await discovery.newest_head()
        await discovery.start()
    records = []
    for raw in state.holders.for_archive(url.archive, time.time()):
        with contextlib.suppress(RecordError):
            records.append(HolderRecord.decode(raw))
    return Holders(head, records)


@contextlib.asynccontextmanager
async def _discovering(
    common: Common, network: Network, state: State, url: ArchiveUrl, require_fresh: bool
) -> AsyncIterator[tuple[Discovery, Swarm]]:
    warn = common.out.warn
    options = FetchOptions(
        url, b"", network.sources, tuple(map(str, network.bootstrap)), require_fresh=require_fresh
    )
    swarm = Swarm(time.monotonic, warn)
    async with open_dht(state, bootstrap=options.bootstrap, archive=url.archive) as dht:
        try:
            yield Discovery(state, options, dht, swarm, warn), swarm
        finally:
            for member in swarm.members:
                await member.source.close()


async def _listing(manifest: Manifest, directory: Entry) -> list[Entry]:
    if await manifest.load([directory.ref]):
        raise PartialError("no source has a part of the listing that is needed; try again later")
    return manifest.listing(directory.ref)

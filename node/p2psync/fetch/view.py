"""Looking at an archive without fetching it: its newest head, its listings, its holders."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from p2psync.errors import P2psyncError, PartialError
from p2psync.fetch.discovery import Discovery
from p2psync.fetch.options import FetchOptions
from p2psync.format.head import ArchiveHead
from p2psync.format.listing import Entry, Kind
from p2psync.format.url import ArchiveUrl
from p2psync.network.beside import open_network
from p2psync.sources.swarm import Swarm
from p2psync.state import State
from p2psync.supply.manifest import Manifest
from p2psync_dht import HolderRecord


@dataclass(frozen=True, slots=True)
class Holders:
    """Who is known to hold an archive, and its newest head, if one was found."""

    head: ArchiveHead | None
    records: list[HolderRecord]


class View:
    """The newest snapshot of an archive, at the path of a URL."""

    def __init__(self, manifest: Manifest, head: ArchiveHead, entry: Entry) -> None:
        self._manifest = manifest
        self.head = head
        self.entry = entry
        """What the URL names; the root has an empty name."""

    async def listing(self, directory: Entry) -> list[Entry]:
        """The entries of a directory. Raises PartialError if no source has it."""
        if await self._manifest.load([directory.ref]):
            name = os.fsdecode(directory.name) or "the root"
            raise PartialError(f"no source has the listing of {name!r}; try again later")
        return self._manifest.listing(directory.ref)


async def resolve(snapshot_root: Entry, path: bytes, manifest: Manifest) -> Entry:
    """The entry at ``path`` below a root. Raises PartialError: there is none, or a listing cannot be had."""
    entry = snapshot_root
    for name in path.split(b"/") if path else []:
        inner: Entry | None = None
        if entry.kind == Kind.DIR:
            if await manifest.load([entry.ref]):
                raise PartialError(f"no source has the listing above {os.fsdecode(path)!r}; try again later")
            inner = next((each for each in manifest.listing(entry.ref) if each.name == name), None)
        if inner is None:
            raise PartialError(f"the archive has no {os.fsdecode(path)!r}; p2psync ls tells what it has")
        entry = inner
    return entry


@contextlib.asynccontextmanager
async def open_view(
    url: ArchiveUrl,
    state: State,
    warn: Callable[[str], None],
    *,
    sources: Sequence[str] = (),
    bootstrap: Sequence[str] = (),
    require_fresh: bool = False,
) -> AsyncIterator[View]:
    """The newest snapshot that can be found, to be looked at. Raises as a fetch does."""
    options = FetchOptions(
        url, b"", sources=tuple(sources), bootstrap=tuple(bootstrap), share=False, require_fresh=require_fresh
    )
    async with _finding(options, state, warn) as (discovery, swarm):
        head = await discovery.newest_head()
        manifest = Manifest(state, swarm, discovery.start)
        snapshot = await manifest.snapshot(head.snapshot)
        yield View(manifest, head, await resolve(snapshot.root, url.path, manifest))


async def find_holders(
    url: ArchiveUrl,
    state: State,
    warn: Callable[[str], None],
    *,
    sources: Sequence[str] = (),
    bootstrap: Sequence[str] = (),
) -> Holders:
    """Who holds the archive, as far as the DHT, known holders and ``sources`` tell."""
    options = FetchOptions(url, b"", sources=tuple(sources), bootstrap=tuple(bootstrap), share=False)
    async with _finding(options, state, warn) as (discovery, _):
        head: ArchiveHead | None = None
        try:
            head = await discovery.newest_head()
        except P2psyncError as error:
            warn(str(error))
        await discovery.start()
        raws = state.holders.for_archive(url.archive, time.time())
        return Holders(head, [HolderRecord.decode(raw) for raw in raws])


@contextlib.asynccontextmanager
async def _finding(
    options: FetchOptions, state: State, warn: Callable[[str], None]
) -> AsyncIterator[tuple[Discovery, Swarm]]:
    swarm = Swarm(time.monotonic, warn)
    async with open_network(
        state,
        options.url.archive,
        bootstrap=options.bootstrap,
        peers=options.peers,
        has_source=options.has_source,
    ) as network:
        discovery = Discovery(state, options, network, swarm, warn)
        try:
            yield discovery, swarm
        finally:
            await discovery.close()

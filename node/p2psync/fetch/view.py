"""Looking at an archive without fetching it: its newest head and its listings. Its holders are `holders`'."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

from p2psync.errors import PartialError, show_path
from p2psync.fetch.options import FetchOptions
from p2psync.format.head import ArchiveHead
from p2psync.format.listing import Entry, Kind
from p2psync.format.url import ArchiveUrl
from p2psync.format.walk import LeadsNowhere, NotThere, Walk
from p2psync.network.beside import open_network
from p2psync.sources.finders.discovery import Discovery
from p2psync.sources.swarm import Swarm
from p2psync.state import State
from p2psync.state.off_loop import to_its_end
from p2psync.supply.manifest import Manifest
from p2psync.trust import earlier_text, ended_text


class Listed(NamedTuple):
    """One name in an archive."""

    path: bytes
    """From the directory that was asked for, which is "."."""
    kind: Kind
    mode: int
    """Permissions; of a symlink 0o777."""
    size: int
    """Bytes: of a file, of all files below a directory, of a symlink's target."""
    mtime_ns: int
    target: bytes = b""
    """Of a symlink."""
    digest: bytes = b""
    """Names the content (of a directory: its listing); empty for an empty file and for a symlink."""

    @classmethod
    def of(cls, path: bytes, entry: Entry) -> Listed:
        size = len(entry.target) if entry.kind == Kind.SYMLINK else entry.below.bytes
        return cls(path, entry.kind, entry.mode, size, entry.mtime_ns, entry.target, entry.digest)


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
            what = f"'{show_path(directory.name)}'" if directory.name else "the root"
            raise PartialError(f"no source has the listing of {what}; try again later")
        return self._manifest.listing(directory.ref)

    async def walk(self, *, recursive: bool = False) -> AsyncIterator[Listed]:
        """What the URL names, by its name; a directory as ".", followed by what is in it, in order.

        Raises PartialError if no source has a listing.
        """
        if self.entry.kind != Kind.DIR:
            yield Listed.of(self.entry.name, self.entry)
            return
        yield Listed.of(b".", self.entry)
        below = [(b"", iter(await self.listing(self.entry)))]
        while below:
            prefix, entries = below[-1]
            entry = next(entries, None)
            if entry is None:
                below.pop()
                continue
            path = prefix + entry.name
            yield Listed.of(path, entry)
            if recursive and entry.kind == Kind.DIR:
                below.append((path + b"/", iter(await self.listing(entry))))


async def resolve(root: Entry, url: ArchiveUrl, manifest: Manifest) -> Entry:
    """What a URL names below a root. Symbolic links on the way are followed, one at its end only with a slash
    behind it: as in rsync. Raises PartialError: there is none, or a listing cannot be had.
    """
    shown = f"'{show_path(url.path)}'"
    walk = Walk(root, url.path, follow_last=url.inside)
    try:
        while (directory := walk.next_directory()) is not None:
            if await manifest.load([directory.ref]):
                raise PartialError(f"no source has the listing above {shown}; try again later")
            walk.step(manifest.listing(directory.ref))
    except NotThere:
        raise PartialError(f"the archive has no {shown}; p2psync ls tells what it has") from None
    except LeadsNowhere as reason:
        raise PartialError(
            f"a symbolic link on the way to {shown} {reason}; p2psync ls tells what the archive has"
        ) from None
    return walk.entry


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
    async with finding(options, state, warn) as (discovery, swarm):
        head = await discovery.newest_head()
        tell_ended(head, warn)
        manifest = Manifest(state, swarm, discovery.start, archive=url.archive)
        if await manifest.load([head.snapshot]):
            earlier = await discovery.before(head)
            if earlier is not None:
                warn(earlier_text(head, earlier))
                head = earlier
        snapshot = await manifest.snapshot(head.snapshot)
        await discovery.accept(head)
        yield View(manifest, head, await resolve(snapshot.root, url, manifest))


def tell_ended(head: ArchiveHead, warn: Callable[[str], None]) -> None:
    """Warn of an archive that its publisher has ended."""
    if head.ended is not None:
        warn(ended_text(head))


@contextlib.asynccontextmanager
async def finding(
    options: FetchOptions, state: State, warn: Callable[[str], None]
) -> AsyncIterator[tuple[Discovery, Swarm]]:
    """Who may know of the archive, for the length of the block."""
    swarm = Swarm(time.monotonic, warn)
    async with open_network(
        state,
        options.url.archive,
        bootstrap=options.bootstrap,
        peers=options.peers,
        gateways=options.gateways,
        has_source=options.has_source,
    ) as network:
        discovery = Discovery(state, options.search(), network, swarm, warn)
        try:
            yield discovery, swarm
        finally:
            await to_its_end(discovery.close())

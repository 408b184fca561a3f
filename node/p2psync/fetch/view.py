"""Looking at an archive without fetching it: its newest head, its listings, its holders."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final, NamedTuple

from p2psync.checks import Track
from p2psync.errors import FormatError, NetworkError, P2psyncError, PartialError, show_path
from p2psync.fetch.options import FetchOptions
from p2psync.format.coverage import Coverage
from p2psync.format.head import ArchiveHead
from p2psync.format.listing import Entry, Kind
from p2psync.format.mirror_list import Mirror
from p2psync.format.url import ArchiveUrl
from p2psync.format.walk import LeadsNowhere, NotThere, Walk
from p2psync.network.beside import open_network
from p2psync.sources.finders.discovery import Discovery
from p2psync.sources.swarm import Swarm
from p2psync.state import State
from p2psync.state.off_loop import to_its_end
from p2psync.supply.manifest import Manifest
from p2psync.trust import earlier_text, ended_text
from p2psync_dht import HolderRecord, HolderRole, node_id_of


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


class Checked(NamedTuple):
    """What checks of a holder by this machine, which publishes the archive, have found."""

    listed: bool
    """It passes them, and may be recommended."""
    dropped: bool
    """It sent something wrong, or had not what it said, and has not made up for that."""
    reason: str
    """Why it is not listed, or failed last: a clause; empty where there is nothing to say."""
    verified: int
    checked: int
    """When it passed a check last (0: never), and was checked last. Seconds since 1970."""
    lag: int
    """Seconds for which there has been a newer snapshot than it has."""
    rate: float
    """Bytes a second, from here; 0: not measured."""
    failures: int
    """Checks in a row that it failed."""
    checks: int
    passes: int
    epoch: int
    seq: int
    """The snapshot that it was at."""
    complete: bool
    """It has all of the newest snapshot, as far as random chunks show."""
    parts: list[bytes]
    """Names at the root of the archive below which it has something, if it has not all."""

    @classmethod
    def of(cls, track: Track, head: ArchiveHead | None, now: float) -> Checked:
        """``head``: the newest one, which may be newer than the last check."""
        lag = track.lag(now)
        if not lag and track.passed and head is not None and (track.epoch, track.seq) < head.order[:2]:
            lag = max(int(now) - head.record.signed_at, 0)
        return cls(
            listed=track.listed,
            dropped=track.dropped,
            reason=track.reason,
            verified=track.passed,
            checked=track.checked,
            lag=lag,
            rate=track.rate,
            failures=track.failures,
            checks=track.checks,
            passes=track.passes,
            epoch=track.epoch,
            seq=track.seq,
            complete=track.complete,
            parts=list(track.parts),
        )


class Holder(NamedTuple):
    """Who holds an archive, in the holder's own words, which it signed; and what checks of it have found."""

    node: str
    """Its id in the DHT, and its public key, in hexadecimal."""
    key: str
    role: str
    """One of origin, mirror, peer."""
    endpoints: list[str]
    complete: bool | None
    """Whether it has all of the snapshot (epoch, seq); None where it does not say, as of these."""
    epoch: int | None
    seq: int | None
    issued: int
    expires: int
    """Seconds since 1970."""
    state: str
    """Of one that was asked just now "answers" or "silent", else "unknown"; "withdrawn" where the record
    takes back what the holder said before.
    """
    check: Checked | None = None
    """None where this machine has not checked it."""
    recommended: Mirror | None = None
    """What the archive's list of mirrors says of it, as far as that is known here."""

    @classmethod
    def of(
        cls,
        record: HolderRecord,
        answers: bool | None = None,
        check: Checked | None = None,
        recommended: Mirror | None = None,
    ) -> Holder:
        claim: Coverage | None = None
        with contextlib.suppress(FormatError):
            claim = Coverage.decode(record.payload)
        return cls(
            node=node_id_of(record.node_key).hex(),
            key=record.node_key.hex(),
            role=record.role.name.lower(),
            endpoints=[str(endpoint) for endpoint in record.endpoints],
            complete=None if claim is None else claim.complete,
            epoch=None if claim is None else claim.epoch,
            seq=None if claim is None else claim.seq,
            issued=record.issued,
            expires=record.expires,
            state="withdrawn" if record.withdrawn else _STATES[answers],
            check=check,
            recommended=recommended,
        )


_STATES: Final[Mapping[bool | None, str]] = {True: "answers", False: "silent", None: "unknown"}


class Holders(NamedTuple):
    """Who is known to hold an archive and, of those that were to stay, who has withdrawn, both by role and
    then by key; and its newest head, if one was found.
    """

    head: ArchiveHead | None
    holders: list[Holder]
    withdrawn: list[Holder]


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
    async with _finding(options, state, warn) as (discovery, swarm):
        head = await discovery.newest_head()
        _tell_ended(head, warn)
        manifest = Manifest(state, swarm, discovery.start, archive=url.archive)
        if await manifest.load([head.snapshot]):
            earlier = await discovery.before(head)
            if earlier is not None:
                warn(earlier_text(head, earlier))
                head = earlier
        snapshot = await manifest.snapshot(head.snapshot)
        await discovery.accept(head)
        yield View(manifest, head, await resolve(snapshot.root, url, manifest))


async def find_holders(
    url: ArchiveUrl,
    state: State,
    warn: Callable[[str], None],
    *,
    sources: Sequence[str] = (),
    bootstrap: Sequence[str] = (),
) -> Holders:
    """Who holds the archive, as far as the DHT, known holders and ``sources`` tell.

    Raises NetworkError: nothing is known of it, and nobody could be asked.
    """
    options = FetchOptions(url, b"", sources=tuple(sources), bootstrap=tuple(bootstrap), share=False)
    async with _finding(options, state, warn) as (discovery, _):
        head: ArchiveHead | None = None
        try:
            head = await discovery.newest_head()
            await discovery.accept(head)
            _tell_ended(head, warn)
        except NetworkError as error:
            if not discovery.heard:
                raise
            warn(str(error))
        except P2psyncError as error:
            warn(str(error))
        await discovery.look_around()
        now = time.time()
        records = state.holders.records(url.archive, now)
        records.sort(key=lambda record: (record.role, record.node_key))
        tracks = state.checks.of_archive(url.archive)
        checks = {key: Checked.of(track, head, now) for key, track in tracks.items()}
        found = state.lists.newest(url.archive)
        listed = {} if found is None else {mirror.key: mirror for mirror in found.mirrors}
        present = [
            Holder.of(each, discovery.answers(each), checks.get(each.node_key), listed.get(each.node_key))
            for each in records
            if not each.withdrawn
        ]
        gone = [each for each in records if each.withdrawn and each.role is not HolderRole.PEER]
        return Holders(head, present, [Holder.of(each) for each in gone])


def _tell_ended(head: ArchiveHead, warn: Callable[[str], None]) -> None:
    if head.ended is not None:
        warn(ended_text(head))


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
        gateways=options.gateways,
        has_source=options.has_source,
    ) as network:
        discovery = Discovery(state, options.search(), network, swarm, warn)
        try:
            yield discovery, swarm
        finally:
            await to_its_end(discovery.close())

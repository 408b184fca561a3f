"""What is wanted of a snapshot: a directory of the archive, as the root of DEST, or a single file or link."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import NamedTuple

from p2psync.chunking import cut_object
from p2psync.errors import PartialError, show_path
from p2psync.fetch.destination import Destination
from p2psync.fetch.put import Chosen
from p2psync.fetch.view import resolve
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry, Kind, dir_entry, encode_listing
from p2psync.format.paths import join
from p2psync.format.snapshot import Snapshot
from p2psync.format.url import ArchiveUrl
from p2psync.state import State
from p2psync.state.off_loop import off_loop
from p2psync.supply.jobs import Target
from p2psync.supply.manifest import Manifest


class Wanted(NamedTuple):
    """What is fetched: a directory of the archive, or a made one that holds the single file or link."""

    root: Entry
    path: bytes
    """Where it, or the single file, is in the archive."""
    file: Entry | None = None
    """The single file or link, by the name that it gets in DEST."""
    chosen: Chosen | None = None
    """Where it is a part that options leave of that directory: which."""

    @property
    def single(self) -> bool:
        """Whether only one file or link is wanted."""
        return self.file is not None

    def archive_path(self, target: Target) -> bytes:
        """The path in the archive of a place in DEST."""
        if self.single:
            return self.path
        return join(self.path, target.path) if self.path else target.path


class Roots:
    """Finds what is wanted in snapshots of one archive."""

    def __init__(self, state: State, manifest: Manifest, dest: Destination, url: ArchiveUrl) -> None:
        """``url`` names what is fetched."""
        self._state = state
        self._manifest = manifest
        self._dest = dest
        self._url = url

    async def of(self, snapshot: Snapshot) -> Wanted:
        """The directory to fetch as the root of DEST. Raises PartialError: there is nothing of the kind
        that is wanted.
        """
        path = self._url.path
        entry = await resolve(snapshot.root, self._url, self._manifest)
        if self._url.inside and entry.kind != Kind.DIR:
            raise PartialError(
                f"'{show_path(path)}' is no directory of the archive; without the slash at its end it can be "
                "fetched"
            )
        if entry.kind == Kind.DIR:
            return Wanted(entry._replace(name=b""), path)
        file = entry._replace(name=self._dest.name_for(entry.name))
        raw = encode_listing([file])
        ref, _ = cut_object(raw)
        await off_loop(partial(self._state.meta.put, ref, raw, archive=self._url.archive))
        return Wanted(dir_entry(b"", 0o755, 0, ref, entry.below), path, file)

    async def known(self, previous: Ref | None) -> Entry | None:
        """The root of an earlier snapshot; None where it is not all here, or not a directory."""
        snapshot = None if previous is None else self._state.meta.read(previous, Snapshot.decode)
        if snapshot is None:
            return None
        with contextlib.suppress(PartialError):
            wanted = await self.of(snapshot)
            return None if wanted.single else wanted.root
        return None

"""What a fetch is asked to do, and what it says when it is done. Pure values; the command line fills them
in.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final

from blake3 import blake3

from p2psync.config import EVERYWHERE
from p2psync.errors import DeleteLimitError, PartialError
from p2psync.events import PathBytes
from p2psync.format.paths import split
from p2psync.format.url import ArchiveUrl, archive_text
from p2psync.plan.delete import Delete
from p2psync.plan.receiving import Receiving
from p2psync.rules.filter import Filter
from p2psync.rules.names import Names
from p2psync.rules.selection import Selection
from p2psync.sources.compress import Compress, Gains

if TYPE_CHECKING:
    from p2psync.sources.finders.search import Search
    from p2psync.sources.http.rate import RateLimiter

__all__ = ["Compress", "Delete", "FetchOptions", "FetchSummary"]

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for a source to accept a connection, unless --contimeout says otherwise: there are others."""
IDLE_TIMEOUT: Final = 15.0
"""Seconds of silence after which a request is given up, unless --timeout is shorter."""
NO_ARENA: Final = memoryview(b"")
"""The memory of a search that is for metadata only."""


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """One fetch of ``url`` into the directory ``dest``."""

    url: ArchiveUrl
    dest: bytes
    sources: tuple[str, ...] = ()
    """Sources given by hand, ``HOST:PORT`` or the URL of a web mirror, beside the hints of ``url``."""
    bootstrap: tuple[str, ...] = ()
    bwlimit: int | None = None
    """Bytes per second, over all sources."""
    share: bool | None = None
    """Serve what is there already while the fetch runs, and say so to the sources; of a mirror, let a node do
    so. It is remembered for DEST. None: as it was last asked for, which is to share if nobody asked.
    """
    listen: tuple[str, int] = (EVERYWHERE, 0)
    """Peers reach us on whichever address they see."""
    require_fresh: bool = False
    checksum: bool = False
    """Hash every file in DEST instead of trusting equal size and modification time."""
    check_dest: bool = True
    """Look at DEST even if the snapshot is the one that was fetched last."""
    compress: Compress = Compress.AUTO
    """Whether of files of which an older version is in DEST only what is new is received, compressed."""
    check_space: bool = True
    """Begin only what there is room for on the disk of DEST."""
    max_total: int | None = None
    """Bytes that what is wanted may have, None for any number."""
    max_files: int | None = None
    """Files, directories and links that what is wanted may have, None for any number."""
    special_bits: bool = False
    """Take setuid, setgid and sticky bits from the archive, beside permissions."""
    delete: Delete = Delete.NONE
    max_delete: int | None = None
    """Names that may be removed by one run (rsync's --max-delete), None for any number."""
    protect: tuple[str, ...] = ()
    """Patterns of names that are never removed (rsync's ``--filter 'P PATTERN'``)."""
    filters: tuple[bytes, ...] = ()
    """Filter rules in rsync's syntax, in order (``rules.filter``). What they hide is not fetched, and what
    they protect is not deleted.
    """
    above: bytes = b""
    """Where DEST lies below the directory at which rules begin; `rules_begin` says where they do."""
    names: tuple[bytes, ...] | None = None
    """Paths that alone take part (rsync's --files-from); None: there is no list."""
    recursive: bool = False
    """Of directories in the list, all that is below them takes part."""
    prune_empty_dirs: bool = False
    """Leave out directories in which there are no files (rsync's --prune-empty-dirs)."""
    max_size: int | None = None
    min_size: int | None = None
    """Bytes of the largest and of the smallest file that is fetched; others are left as they are."""
    safe_links: bool = False
    """Leave links that lead out of the tree."""
    existing: bool = False
    """Make nothing that is not there."""
    ignore_existing: bool = False
    """Change nothing that is there, but directories."""
    update: bool = False
    """Leave files that are younger here."""
    size_only: bool = False
    """Take a file of the right size for the right one."""
    modify_window: int = 0
    """Seconds by which times may differ."""
    omit_dir_times: bool = False
    """Leave the times of directories."""
    dry_run: bool = False
    """Say what would be done, and change nothing."""
    hard_links: bool = False
    """Refuse an archive that has hard links, or may have some: they are not known (rsync's --hard-links)."""
    delay_updates: bool = False
    """Put files and links in place together, when all have come."""
    force: bool = False
    """Remove a directory that is in the way of a file with all that is in it, though nothing is deleted."""
    ignore_errors: bool = False
    """Delete also where something could not be had."""
    accept_shrink: bool = False
    """Follow a snapshot that has lost most of what is in DEST."""
    accept_moved: bool = False
    """Update a mirror whose directory is gone, or is another one that is empty."""
    timeout: float | None = None
    """Seconds without a byte from anybody after which the fetch gives up (rsync's --timeout): None for the
    default, 0 for never."""
    contimeout: float | None = None
    """Seconds that one connection may take to come about."""
    mirror: bool = False
    """Record DEST as a mirror, which nodes on this state directory serve, announce and update."""
    mirror_interval: float = 3600.0
    """Seconds between updates of a mirror."""

    @property
    def rules_begin(self) -> bytes:
        """The path of what is fetched, as rules see it: as in rsync, ``ID/DIR`` is called DIR, and what is in
        ``ID/DIR/`` has no directory above it.
        """
        return self.above or (b"" if self.url.inside else split(self.url.path)[1])

    @property
    def receiving(self) -> Receiving:
        """What is left as it is in DEST."""
        return Receiving(**{name: getattr(self, name) for name in RECEIVING}, above=self.rules_begin)

    @property
    def selects(self) -> bool:
        """Whether there is anything that may leave out a part of the archive."""
        return (
            self.prune_empty_dirs
            or self.names is not None
            or any(rule.sender for rule in Filter.parse(self.filters).rules)
        )

    @property
    def choice(self) -> bytes:
        """Names what of the archive, and how, is taken, as far as that is not all; b"" if it is all."""
        chosen = {name: value for name in CHOOSING if (value := getattr(self, name)) != _DEFAULTS[name]}
        if hiding := [rule.text for rule in Filter.parse(self.filters).rules if rule.sender]:
            chosen["filters"] = hiding
        if not chosen:
            return b""
        chosen |= {"above": self.rules_begin, "special_bits": self.special_bits}
        return blake3(repr(sorted(chosen.items())).encode()).digest(length=CHOICE_BYTES)

    def selection(self, archive_path: bytes, dest: bytes) -> Selection:
        """What of the archive takes part. ``archive_path``, ``dest``: where what is fetched lies there and
        here, for absolute rules.
        """
        begin = self.rules_begin
        rules = [_protecting(os.fsencode(pattern), begin) for pattern in self.protect]
        made = Filter.parse([*rules, *self.filters])
        made = replace(made, above=begin, source=archive_path, dest=dest.strip(b"/"))
        names = None if self.names is None else Names(self.names, recursive=self.recursive)
        return Selection(made, self.prune_empty_dirs, names)

    @property
    def has_source(self) -> bool:
        """Whether anybody was given to begin with, a web mirror included."""
        return bool(self.sources or self.url.peers or self.url.webs)

    @property
    def peers(self) -> tuple[str, ...]:
        """The nodes given by hand, ``HOST:PORT``: each may be in the DHT, and wants to know of mirrors."""
        named = (source for source in self.sources if "://" not in source)
        return tuple(dict.fromkeys((*named, *self.url.peers)))

    @property
    def gateways(self) -> tuple[str, ...]:
        """The places given by hand, URLs among them, that may be nodes which ask the DHT for others."""
        return tuple(dict.fromkeys((*self.sources, *self.url.webs)))

    def search(self, limiter: RateLimiter | None = None, memory: memoryview = NO_ARENA) -> Search:
        """The search for the archive and its sources. ``memory`` is that of the arena for content."""
        # Whoever only says what is to be fetched loads no network.
        from p2psync.sources.finders.search import Search  # noqa: PLC0415
        from p2psync.sources.opening import SourceSettings  # noqa: PLC0415

        settings = SourceSettings(
            memory,
            limiter=limiter,
            connect_timeout=self.contimeout or CONNECT_TIMEOUT,
            idle_timeout=min(self.timeout or IDLE_TIMEOUT, IDLE_TIMEOUT),
            compress=self.compress,
            gains=Gains(),
        )
        given = (*self.sources, *self.url.peers, *self.url.webs)
        return Search(self.url.archive, settings, given, self.require_fresh)


RECEIVING: Final = tuple(name for name in Receiving._fields if name != "above")
CHOOSING: Final = ("names", "recursive", "prune_empty_dirs", *RECEIVING)
"""The fields, beside ``filters``, that say what of the archive is taken."""
CHOICE_BYTES: Final = 16
_DEFAULTS: Final = {field.name: field.default for field in fields(FetchOptions)}
_SPECIAL: Final = re.compile(rb"[*?\[\\]")


def _protecting(pattern: bytes, begin: bytes) -> bytes:
    """The rule of a pattern that names are protected by. It begins where DEST does."""
    if begin and pattern.startswith(b"/"):
        return b"P /" + _SPECIAL.sub(rb"\\\g<0>", begin) + pattern
    return b"P " + pattern


@dataclass(slots=True)
class FetchSummary:
    """The result; ``received`` counts every byte read from sockets, metadata and protocol included."""

    archive: bytes
    seq: int = 0
    files: int = 0
    bytes: int = 0
    received: int = 0
    reused: int = 0
    deleted: int = 0
    sources: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    changed: int = 0
    """Files that were made or replaced."""
    touched: int = 0
    """Other names that were made, or got another mode or time: directories, links, files with the right
    content.
    """
    sent: int = 0
    """Bytes that were given to others meanwhile, by the fetch itself."""
    banned: list[str] = field(default_factory=list)
    missing: list[PathBytes] = field(default_factory=list)
    """Paths that no source had."""
    failed: list[str] = field(default_factory=list)
    """Paths that could not be put in place, each with its reason."""
    kept: list[PathBytes] = field(default_factory=list)
    """Names in DEST that are not in the archive, and were left alone."""

    unread: int = 0
    """Paths that the publisher could not read: the snapshot is in DEST, but is not all that the archive has.
    """
    ended: int | None = None
    """Since when its publisher has ended the archive, in Unix seconds; None where it goes on."""
    withheld: int = 0
    """Names that would have been removed if ``max_delete`` had let them."""

    @property
    def missing_files(self) -> list[PathBytes]:
        """Of ``missing``, what has a name to ask for: not directories whose listing did not come."""
        return [path for path in self.missing if not path.endswith(b"/")]

    @property
    def complete(self) -> bool:
        """Whether all of the snapshot is in DEST."""
        return not (self.missing or self.failed)

    @property
    def speedup(self) -> float | None:
        """Size of all files for each byte received, as rsync(1) has it; None unless all is in place."""
        return self.bytes / self.received if self.complete and self.received else None

    @property
    def exit_code(self) -> int:
        """0, or as rsync: 23 if something of the snapshot is not in DEST or its publisher could not read
        something, else 25 if the limit of removals was reached.
        """
        if not self.complete or self.unread:
            return PartialError.exit_code
        return DeleteLimitError.exit_code if self.withheld else 0

    def as_event(self) -> dict[str, Any]:
        """The last line of ``--json``; keys are stable."""
        return {
            "event": "done",
            "archive": f"p2psync://{archive_text(self.archive)}",
            "seq": self.seq,
            "files": self.files,
            "bytes": self.bytes,
            "received": self.received,
            "reused": self.reused,
            "changed": self.changed,
            "touched": self.touched,
            "deleted": self.deleted,
            "missing": len(self.missing),
            "failed": len(self.failed),
            "unread": self.unread,
            "sent": self.sent,
            "speedup": None if self.speedup is None else round(self.speedup, 2),
            "sources": self.sources,
            "seconds": round(self.seconds, 3),
            "ended": self.ended,
        }

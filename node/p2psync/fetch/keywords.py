"""The options of a fetch as keywords, as `Client` takes them and the command line passes them on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

from p2psync.fetch.options import Compress, Delete, FetchOptions
from p2psync.format.url import ArchiveUrl
from p2psync.rules.filter import Filter
from p2psync.rules.parse import Outside

PathLike = str | bytes | os.PathLike[str]


class Leaving(TypedDict, total=False):
    """The way out; what is not said is as the environment says."""

    proxy: str | None
    """URL of the proxy for all connections; ``none`` for no proxy."""
    no_proxy: str | None
    """Hosts that are reached without, with commas between."""
    ca_file: str | None
    """A file of certificates (PEM) to trust beside the system's."""
    udp: bool | None
    """Whether the DHT is asked; None: where there is no proxy."""


class Asking(TypedDict, total=False):
    """Whom to ask. Without any, those who were met before."""

    sources: Sequence[str]
    """HOST:PORT of nodes, or URLs of nodes and web mirrors, to begin with."""
    bootstrap: Sequence[str]
    """HOST:PORT of nodes to join the network by; those of the client if not given."""


class TransferOptions(Asking, total=False):
    """The options of `Client.fetch` and `Client.mirror`, as those of the command line."""

    bwlimit: int | None
    """Bytes a second, over all sources; None for no limit. `Control.limit` changes it."""
    share: bool | None
    """Serve to others what is here. It is remembered for the directory; None (the default) is as the last
    time, and at first to share.
    """
    listen: tuple[str, int]
    """Where: address and port; 0 for a free one."""
    require_fresh: bool
    """Refuse an archive whose publisher is overdue."""
    checksum: bool
    """Hash every file that is here instead of trusting equal size and time."""
    check_dest: bool
    """Look at the directory even if the snapshot is the one that was fetched last (the default)."""
    compress: Compress
    """Whether of files of which an older version is here only what is new is received, compressed."""
    check_space: bool
    """Begin only what there is room for on the disk (the default)."""
    max_total: int | None
    """Bytes that what is wanted may have; None for any number."""
    max_files: int | None
    """Files, directories and links that it may have; None for any number."""
    special_bits: bool
    """Take setuid, setgid and sticky bits from the archive, beside permissions."""
    delete: Delete
    """What becomes of names that the archive does not have: a fetch keeps them, a mirror removes what came
    from the archive, unless this says otherwise.
    """
    max_delete: int | None
    """Names that may be removed by one run; None for any number."""
    protect: Sequence[str]
    """Patterns of names that are never removed, as in rsync's ``--filter 'P PATTERN'``."""
    rules: Filter | Iterable[str | bytes]
    """What takes part, and what is protected from deletion, in rsync's filter rules, as its --filter."""
    delete_excluded: bool
    """Delete also what rules leave out that name no side; `delete` is then `ALL`, if it does not say
    otherwise. Of a `Filter` its rules count as they are.
    """
    above: bytes
    """Where the directory lies below the one at which rules begin, where `source` does not say it."""
    files_from: Sequence[PathLike] | None
    """Paths that alone take part, from the directory that is fetched; None: there is no list. Directories
    take part as rsync's --files-from has them.
    """
    recursive: bool
    """Of directories in `files_from`, all that is below them takes part."""
    prune_empty_dirs: bool
    """Leave out directories in which there are no files."""
    max_size: int | None
    min_size: int | None
    """Leave files with more, or fewer, bytes as they are."""
    safe_links: bool
    """Leave links that lead out of the tree."""
    existing: bool
    """Make nothing that is not there."""
    ignore_existing: bool
    """Change nothing that is there, but directories."""
    update: bool
    """Leave files that are younger here."""
    size_only: bool
    """Take a file of the right size for the right one, whatever its time."""
    modify_window: int
    """Seconds by which times may differ and count as the same."""
    omit_dir_times: bool
    """Leave the times of directories."""
    dry_run: bool
    """Change nothing. A `Teller` that wants changes hears what would be done, before the result has the
    figures of it.
    """
    hard_links: bool
    """Refuse an archive that has hard links, or may have some, since they would become files of their own
    (`LinksNotKept`).
    """
    delay_updates: bool
    """Put files and links in place together, when all have come."""
    force: bool
    """Remove a directory that is in the way of a file with all that is in it, though nothing is deleted."""
    ignore_errors: bool
    """Delete also where something could not be had."""
    accept_shrink: bool
    """Follow a snapshot that has lost most of what is here."""
    accept_moved: bool
    """Update a mirror whose directory is gone, or is another one that is empty."""
    timeout: float | None
    """Seconds without a byte from anybody after which it gives up; None for the default, 0 for never."""
    contimeout: float | None
    """Seconds that one connection may take to come about; None for the default."""


def rules_in(options: TransferOptions) -> tuple[bytes, ...]:
    """The filter rules among the options of a transfer, as texts in order. Raises UsageError."""
    rules = options.get("rules", ())
    if not isinstance(rules, Filter):
        outside = Outside(deletes_excluded=options.get("delete_excluded", False))
        rules = Filter.parse(map(os.fsencode, rules), outside)
    return tuple(rules.texts())


def options_for(
    source: str | ArchiveUrl,
    dest: PathLike,
    options: TransferOptions,
    *,
    mirror: bool = False,
    interval: float = 3600.0,
) -> FetchOptions:
    """What a fetch is asked to do, as values. Raises UsageError: `source` is no URL of an archive."""
    given: dict[str, Any] = {**options}
    for several in ("sources", "bootstrap", "protect"):
        given[several] = tuple(given.get(several, ()))
    deletes_excluded = given.pop("delete_excluded", False)
    usual = Delete.ALL if deletes_excluded else Delete.OWN if mirror else Delete.NONE
    given.setdefault("delete", usual)
    given.pop("rules", None)
    listed = given.pop("files_from", None)
    url = source if isinstance(source, ArchiveUrl) else ArchiveUrl.parse(source)
    if listed is not None:
        given["names"] = tuple(map(os.fsencode, listed))
        url = url._replace(inside=bool(url.path))  # As in rsync, names are of what is in it.
    given["filters"] = rules_in(options)
    return FetchOptions(
        url,
        os.fsencode(dest),
        mirror=mirror,
        mirror_interval=interval,
        **given,
    )

"""The options of ``fetch`` and ``mirror``: how a transfer is done. Whom it asks is among ``options``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from p2psync.cli.options import Network, stack
from p2psync.cli.selecting import selecting_options
from p2psync.cli.types import RATE, RULE, SECONDS, SIZE, Consent

if TYPE_CHECKING:
    from p2psync.fetch.keywords import TransferOptions
    from p2psync.format.url import ArchiveUrl
    from p2psync.negotiate.origin import Origin

S = TypeVar("S", "ArchiveUrl", "Origin", "ArchiveUrl | Origin")


class Transfer(NamedTuple):
    """How to fetch. Rates in bytes a second, 0 for no limit; times in seconds, None for the default."""

    bwlimit: int
    no_share: bool | None
    require_fresh: bool
    checksum: bool
    special_bits: bool
    no_check_space: bool
    compress: str
    max_total: int | None
    max_files: int | None
    delete: bool | None
    max_delete: int | None
    protect: tuple[str, ...]
    accept_shrink: bool
    accept_moved: bool
    timeout: int | None
    contimeout: int
    no_check_dest: bool
    json_files: bool
    rules: Sequence[tuple[str, str]] = ()
    files_from: str | None = None
    recursive: bool = False
    cvs_exclude: bool = False
    from0: bool = False
    delete_excluded: bool = False
    delete_before: bool = False
    delete_during: bool = False
    delete_delay: bool = False
    delete_after: bool = False
    prune_empty_dirs: bool = False
    one_file_system: int = 0
    max_size: int | None = None
    min_size: int | None = None
    safe_links: bool = False
    update: bool = False
    existing: bool = False
    ignore_existing: bool = False
    size_only: bool = False
    ignore_times: bool = False
    modify_window: int = 0
    omit_dir_times: bool = False
    delay_updates: bool = False
    force: bool = False
    ignore_errors: bool = False

    def as_options(self, network: Network) -> TransferOptions:
        """As the client wants them, with whom to ask."""
        from p2psync.cli.rules import build_filter, read_names_file
        from p2psync.fetch.options import Compress, Delete

        rules = build_filter(
            self.rules,
            cvs_exclude=self.cvs_exclude,
            delete_excluded=self.delete_excluded,
            from0=self.from0,
        )
        made: TransferOptions = {
            "sources": network.sources,
            "bootstrap": network.asking()["bootstrap"],
            "bwlimit": self.bwlimit or None,
            "share": None if self.no_share is None else not self.no_share,
            "require_fresh": self.require_fresh,
            "checksum": self.checksum or (self.ignore_times and not self.size_only),
            "special_bits": self.special_bits,
            "check_space": not self.no_check_space,
            "compress": Compress(self.compress),
            "max_total": self.max_total,
            "max_files": self.max_files,
            "max_delete": None if self.max_delete is None else max(self.max_delete, 0),
            "protect": self.protect,
            "rules": rules,
            "prune_empty_dirs": self.prune_empty_dirs,
            "max_size": self.max_size,
            "min_size": self.min_size,
            "safe_links": self.safe_links,
            "update": self.update,
            "existing": self.existing,
            "ignore_existing": self.ignore_existing,
            "size_only": self.size_only,
            "modify_window": self.modify_window,
            "omit_dir_times": self.omit_dir_times,
            "delay_updates": self.delay_updates,
            "force": self.force,
            "ignore_errors": self.ignore_errors,
            "accept_shrink": self.accept_shrink,
            "accept_moved": self.accept_moved,
            "check_dest": not self.no_check_dest,
            "timeout": None if self.timeout is None else float(self.timeout),
            "contimeout": float(self.contimeout) or None,
        }
        if self.files_from is not None and not self.lists_in_archive:
            made["files_from"] = read_names_file(self.files_from, nul=self.from0)
        made["recursive"] = self.recursive
        delete = self.delete
        if delete is None and self._says_when_to_delete:
            delete = True
        if delete is not None:
            made["delete"] = Delete.ALL if delete else Delete.NONE
        return made

    @property
    def lists_in_archive(self) -> bool:
        """Whether --files-from names a file of the archive."""
        return self.files_from is not None and self.files_from.startswith(":")

    def base(self, src: S) -> S:
        """SRC; with a list of names, what is in it."""
        if self.files_from is None or not src.path:
            return src
        return src._replace(inside=True)

    @property
    def _says_when_to_delete(self) -> bool:
        """Whether an option says when, or what else, which means --delete in rsync too."""
        when = self.delete_before, self.delete_during, self.delete_delay, self.delete_after
        return self.delete_excluded or any(when)


def transfer_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What fetch and mirror have in common; the command receives ``transfer: Transfer``."""

    @functools.wraps(function)
    def command(*args: Any, **others: Any) -> Any:
        mine = {name: others.pop(name) for name in Transfer._fields}
        return function(*args, transfer=Transfer(**mine), **others)

    return stack(
        command,
        selecting_options,
        click.option(
            "--bwlimit",
            type=RATE,
            default="0",
            metavar="RATE",
            help="Receive no more than this a second, as with rsync: KiB, or with a suffix (1.5m, 2MB). "
            "Default: 0, which is no limit.",
        ),
        click.option(
            "--no-share/--share",
            default=None,
            help="Serve what is here to nobody, or to others while it runs (a mirror: always). It is "
            "remembered for the directory, for nodes too. Default: as the last time, and at first to share.",
        ),
        click.option(
            "--require-fresh",
            is_flag=True,
            help="Refuse a snapshot that its publisher no longer vouches for as the newest.",
        ),
        click.option(
            "--checksum",
            "-c",
            is_flag=True,
            help="Read every file here instead of trusting sizes and times.",
        ),
        click.option(
            "--special-bits",
            is_flag=True,
            help="Take setuid, setgid and sticky bits from the archive too, as rsync's -p does. For archives "
            "whose publisher you trust like yourself: a setuid program runs as its owner, perhaps as root.",
        ),
        click.option(
            "--no-check-space",
            is_flag=True,
            help="Begin also what the disk here seems to have no room for: if it compresses, it may.",
        ),
        click.option(
            "--compress",
            type=click.Choice(["auto", "off", "max"]),
            default="auto",
            show_default=True,
            help="Receive only what is new of files of which an older version is here, and all compressed: "
            "where that is faster, never, or wherever it saves bytes.",
        ),
        click.option(
            "--max-total",
            type=SIZE,
            metavar="SIZE",
            help="Fetch nothing if all that is asked for has more bytes than this, with or without what is "
            "here already: a number, or with a suffix as rsync's --max-size (500m, 2TB).",
        ),
        click.option(
            "--max-files",
            type=click.IntRange(min=0),
            metavar="N",
            help="Fetch nothing if all that is asked for has more files, directories and links than this.",
        ),
        click.option(
            "--delete/--no-delete",
            default=None,
            help="Delete everything that the archive does not have, or nothing at all. Default: fetch "
            "deletes nothing; mirror deletes what it got from the archive and nobody has changed.",
        ),
        click.option(
            "--max-delete",
            type=click.IntRange(min=-1),
            metavar="N",
            help="Delete no more than N names in one run, and end with exit code 25 if there are more; -1 "
            "is 0, as with rsync.",
        ),
        click.option(
            "--protect",
            type=RULE,
            multiple=True,
            metavar="PATTERN",
            help="Never delete what matches PATTERN, as with rsync's --filter 'P PATTERN'; may be repeated.",
        ),
        click.option(
            "--accept-shrink",
            cls=Consent,
            is_flag=True,
            help="Follow, this once, a snapshot that has lost more than half of what is here.",
        ),
        click.option(
            "--accept-moved",
            cls=Consent,
            is_flag=True,
            help="Update, this once, a mirror whose directory is gone, or is another one and empty.",
        ),
        click.option(
            "--timeout",
            type=SECONDS,
            metavar="SECONDS",
            help="Give up when nobody has sent anything for so long; 0 is never. Default: 60.",
        ),
        click.option(
            "--contimeout",
            type=SECONDS,
            default="0",
            metavar="SECONDS",
            help="Give up on a connection that has not come about in this time. Default: 0, which stands "
            "for 5.",
        ),
        click.option(
            "--no-check-dest",
            is_flag=True,
            help="Do not look at the files here if they were complete and no newer snapshot has come.",
        ),
        click.option(
            "--json-files",
            is_flag=True,
            help="With --json, print an object for each file that is put in place too.",
        ),
    )

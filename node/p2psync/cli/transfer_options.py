"""The options of ``fetch`` and ``mirror``: how a transfer is done. Whom it asks is among ``options``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from p2psync.cli.options import Network, stack
from p2psync.cli.types import RATE, RULE, SECONDS, Consent

if TYPE_CHECKING:
    from p2psync.fetch.keywords import TransferOptions


class Transfer(NamedTuple):
    """How to fetch. Rates in bytes a second, 0 for no limit; times in seconds, None for the default."""

    bwlimit: int
    no_share: bool
    require_fresh: bool
    checksum: bool
    delete: bool | None
    max_delete: int | None
    protect: tuple[str, ...]
    accept_shrink: bool
    accept_moved: bool
    timeout: int | None
    contimeout: int
    no_check_dest: bool
    json_files: bool

    def as_options(self, network: Network) -> TransferOptions:
        """As the client wants them, with whom to ask."""
        from p2psync.fetch.options import Delete

        made: TransferOptions = {
            "sources": network.sources,
            "bootstrap": network.asking()["bootstrap"],
            "bwlimit": self.bwlimit or None,
            "share": not self.no_share,
            "require_fresh": self.require_fresh,
            "checksum": self.checksum,
            "max_delete": None if self.max_delete is None else max(self.max_delete, 0),
            "protect": self.protect,
            "accept_shrink": self.accept_shrink,
            "accept_moved": self.accept_moved,
            "check_dest": not self.no_check_dest,
            "timeout": None if self.timeout is None else float(self.timeout),
            "contimeout": float(self.contimeout) or None,
        }
        if self.delete is not None:
            made["delete"] = Delete.ALL if self.delete else Delete.NONE
        return made


def transfer_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What fetch and mirror have in common; the command receives ``transfer: Transfer``."""

    @functools.wraps(function)
    def command(*args: Any, **others: Any) -> Any:
        mine = {name: others.pop(name) for name in Transfer._fields}
        return function(*args, transfer=Transfer(**mine), **others)

    return stack(
        command,
        click.option(
            "--bwlimit",
            type=RATE,
            default="0",
            metavar="RATE",
            help="Limit receiving, as rsync: KiB/s, or with a suffix (1.5m, 2MB); 0 is no limit.",
        ),
        click.option("--no-share", is_flag=True, help="Do not serve to others what is here while it runs."),
        click.option("--require-fresh", is_flag=True, help="Refuse an archive whose publisher is overdue."),
        click.option(
            "--checksum", is_flag=True, help="Read every file here instead of trusting size and time."
        ),
        click.option(
            "--delete/--no-delete",
            default=None,
            help="Delete what the archive does not have. Default: a mirror deletes what came from the "
            "archive and is unchanged, a fetch deletes nothing.",
        ),
        click.option(
            "--max-delete",
            type=click.IntRange(min=-1),
            metavar="N",
            help="Delete no more than N names in one run, and end with 25 if more would go (-1 is 0, as in "
            "rsync).",
        ),
        click.option(
            "--protect",
            type=RULE,
            multiple=True,
            metavar="PATTERN",
            help="Never delete what matches, as rsync's --filter 'P PATTERN'; may be repeated.",
        ),
        click.option(
            "--accept-shrink",
            cls=Consent,
            is_flag=True,
            help="Follow, this time, a snapshot that has lost more than half of what is here.",
        ),
        click.option(
            "--accept-moved",
            cls=Consent,
            is_flag=True,
            help="Update, this time, a mirror whose directory is gone, or is another one that is empty.",
        ),
        click.option(
            "--timeout",
            type=SECONDS,
            metavar="SECONDS",
            help="Give up when nobody sends anything for so long; 0 is never. Default: 60.",
        ),
        click.option(
            "--contimeout",
            type=SECONDS,
            default="0",
            metavar="SECONDS",
            help="Give up on one connection after this; 0 is the default time.",
        ),
        click.option(
            "--no-check-dest",
            is_flag=True,
            help="Do not look at what is here if it was complete and the snapshot is still the same.",
        ),
        click.option(
            "--json-files", is_flag=True, help="With --json, one object for each file put in place."
        ),
    )

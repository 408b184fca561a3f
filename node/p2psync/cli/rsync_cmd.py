"""``p2psync rsync ARGS...``: rsync's own command line, by P2P where that is the same, and else by rsync."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import click

from p2psync.cli.command import Command
from p2psync.cli.options import FETCH_LISTEN, Common, Network, common_options, network_options
from p2psync.errors import FileError, InterruptedFetch, LinksNotKept, P2psyncError, PartialError, UsageError
from p2psync.text import count

if TYPE_CHECKING:
    from p2psync.cli.drop_in import Pull
    from p2psync.cli.output import Output
    from p2psync.rsync.wishes import Wishes


class Verbatim(Command):
    """A command whose words are all another program's: options of its own come from settings alone."""

    ignore_unknown_options = True
    allow_interspersed_args = False

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        from p2psync.rsync.program import RSYNC

        if args == ["--help"] and os.path.basename(sys.argv[0]) != RSYNC:
            return super().parse_args(ctx, args)
        return super().parse_args(ctx, ["--", *args])


@click.command("rsync", cls=Verbatim)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--no-share/--share",
    default=None,
    help="Serve what is here to nobody, or to others while it runs. Default: as the last time, and at first "
    "to share.",
)
@click.option(
    "--program",
    metavar="PATH",
    help="The real rsync. Default: the first on PATH that is not p2psync.",
)
@network_options(listen=FETCH_LISTEN)
@common_options
def command(
    common: Common, network: Network, args: tuple[str, ...], no_share: bool | None, program: str | None
) -> int:
    """Take rsync's command line: by P2P where there is an archive, else by rsync.

    ARGS are rsync's, unchanged: put p2psync before the rsync of a script, or make a link named rsync to
    p2psync that comes before rsync on PATH. A pull from an rsync server whose archive is found is fetched by
    P2P. Everything else is done by the real rsync, with the same arguments: pushes, other machines by ssh,
    local copies, several servers, passwords, and options that P2P does not have yet.

    All options below are settings, since the command line is rsync's: they stand in p2psync.toml, or in
    variables P2PSYNC_RSYNC_OPTION. With P2PSYNC_RSYNC_VERBOSE=1 it says why rsync was run.

    The exit codes are rsync's. What is refused for trust ends with 12, which scripts do not try again.
    """
    from p2psync.cli.drop_in import pull_of, refuse_aliases
    from p2psync.rsync.command_line import NotRead
    from p2psync.rsync.program import become_rsync

    try:
        pull = pull_of(args, is_root=os.geteuid() == 0, environ=os.environ)
        refuse_aliases()
    except NotRead as why:
        common.out.detail(f"rsync is run: {why}")
        become_rsync(args, program)
    pull.options["sources"] = network.sources
    pull.options["bootstrap"] = network.asking()["bootstrap"]
    pull.options["listen"] = network.listen
    pull.options["share"] = None if no_share is None else not no_share
    code = _fetch(common, network, pull)
    if code is None:
        become_rsync(args, program)
    return code


def _fetch(common: Common, network: Network, pull: Pull) -> int | None:
    """Fetch by P2P; the exit code, or None where the real rsync is to do it."""
    from p2psync.cli.app import explain, tell_end
    from p2psync.cli.output import Output
    from p2psync.cli.signals import run_async
    from p2psync.rsync.exit_codes import INSTEAD

    out = Output(common.out.json, quiet=True, verbose=common.out.verbose)
    try:
        return run_async(_pull(common, network, pull, out))
    except (P2psyncError, BaseExceptionGroup, OSError) as error:
        tell_end(error, out.json)
        code = explain(error).exit_code
        return INSTEAD.get(code, code)


async def _pull(common: Common, network: Network, pull: Pull, out: Output) -> int | None:
    import asyncio

    from p2psync.cli.negotiated import Settled, fetch_settled, settle
    from p2psync.client import Client
    from p2psync.events import Teller
    from p2psync.fetch.destination import refuse_published
    from p2psync.format.pack import FOLDER
    from p2psync.rsync.exit_codes import INSTEAD
    from p2psync.rsync.program import environment, has_utf8
    from p2psync.ui.as_rsync import AsRsync, Totals

    async with contextlib.AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(Client(common.state_path))
        except FileError as error:
            out.warn(f"no archive can be looked for, and rsync is run: {error}")
            return None
        place = os.path.realpath(os.fsencode(pull.dest))
        try:
            refuse_published(client.state, os.path.join(place, pull.origin.name))
        except UsageError as error:
            out.detail(f"rsync is run: {error}")
            return None
        created = None if os.path.isdir(pull.dest) else pull.dest
        settled = await settle(client, pull.origin, pull.dest, network, out)
        if not isinstance(settled, Settled):
            out.detail(f"rsync is run: {pull.origin} names no archive")
            return None
        log = stack.enter_context(log_of(pull.wishes))
        told = AsRsync(
            pull.wishes,
            sys.stdout.buffer,
            log,
            out.warn,
            prefix=pull.origin.name + b"/" if pull.origin.name else b"",
            utf8=has_utf8(environment()),
            has_root="files_from" not in pull.options,
        )
        told.begin(created)
        if settled.has_folder:
            pull.options["protect"] = [f"/{FOLDER}/"]
        tell = Teller(told.hear, files=bool(pull.wishes.progress), changes=pull.wishes.any_line)
        try:
            summary = await fetch_settled(client, pull.origin, settled, pull.options, tell, say=out.detail)
        except LinksNotKept as error:
            out.detail(f"rsync is run: {error}")
            return None
        except asyncio.CancelledError:
            told.fail(InterruptedFetch.exit_code)
            raise
        except P2psyncError as error:
            told.fail(INSTEAD.get(error.exit_code, error.exit_code))
            raise
        if not summary.complete:
            lacking = len(summary.missing) + len(summary.failed)
            out.warn(f"{count(lacking, 'path')} could not be had or put in place; run it again")
        code = summary.exit_code
        is_listed = "files_from" in pull.options
        if (
            settled.has_folder
            and not (code or pull.wishes.dry_run or is_listed)
            and not _hides(pull, os.fsencode(FOLDER))
        ):
            said = await client.copy_static(pull.origin, settled.url, settled.dest, **pull.options)
            code = PartialError.exit_code if said else 0
        told.end(Totals(summary.sent, summary.received), code)
        return code


def _hides(pull: Pull, name: bytes) -> bool:
    """Whether the filter rules leave out a directory in the root of what is fetched."""
    from p2psync.rules.filter import Filter

    rules = pull.options.get("rules")
    return isinstance(rules, Filter) and rules.hidden(os.path.join(pull.origin.name, name), True)


@contextlib.contextmanager
def log_of(wishes: Wishes) -> Iterator[BinaryIO | None]:
    """The file of --log-file, open for as long as the block lasts; None where there is none. Raises
    FileError.
    """
    if wishes.log_file is None:
        yield None
        return
    with contextlib.ExitStack() as stack:
        try:
            log = stack.enter_context(open(wishes.log_file, "ab"))
        except OSError as error:
            raise FileError(f"the log {wishes.log_file!r} cannot be written: {error.strerror}") from error
        yield log

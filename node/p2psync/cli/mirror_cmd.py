"""``p2psync mirror SRC DIR``: fetch an archive, keep it up to date, serve it and announce it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from p2psync.cli.command import Command
from p2psync.cli.cron_options import cron_options
from p2psync.cli.hooks_options import hooks_options
from p2psync.cli.mirrors_options import mirrors_options
from p2psync.cli.options import (
    NODE_LISTEN,
    Common,
    Network,
    advertise_option,
    common_options,
    metrics_option,
    network_options,
)
from p2psync.cli.tls_options import tls_options
from p2psync.cli.transfer_options import Transfer, transfer_options
from p2psync.cli.types import DEST_DIRECTORY, SECONDS, SRC, Address

if TYPE_CHECKING:
    from p2psync.daemon.options import Tls
    from p2psync.daemon.policy import Policy
    from p2psync.fetch.hooks import Hooks
    from p2psync.fetch.options import FetchSummary
    from p2psync.format.url import ArchiveUrl
    from p2psync.negotiate.origin import Origin

INTERVAL = 3600


@click.command("mirror", cls=Command)
@click.argument("src", type=SRC)
@click.argument("directory", metavar="DIR", type=DEST_DIRECTORY)
@click.option(
    "--once",
    is_flag=True,
    help="Bring DIR up to date and end, for cron. A node may run on the same state directory; its port is "
    "left alone.",
)
@click.option(
    "--interval",
    type=SECONDS,
    default=str(INTERVAL),
    metavar="SECONDS",
    show_default=True,
    help="Look for a new snapshot this often.",
)
@transfer_options
@tls_options
@advertise_option
@metrics_option
@hooks_options
@mirrors_options
@network_options(listen=NODE_LISTEN)
@common_options
@cron_options
def command(
    common: Common,
    network: Network,
    transfer: Transfer,
    src: ArchiveUrl | Origin,
    directory: str,
    once: bool,
    interval: int,
    advertise: Address | None,
    metrics: Address | None,
    tls: Tls | None,
    policy: Policy,
    hooks: Hooks,
) -> int:
    """Fetch an archive, keep it up to date, serve it and announce it.

    SRC is what it is for `p2psync fetch`; where it is an rsync server that has no archive, --once lets rsync
    fetch from it. DIR becomes a mirror of it; where SRC is p2psync://ID/NAME without
    a slash at its end, DIR/NAME does. From now on every `p2psync node` on the same state directory serves
    and announces it and keeps it up to date. Without --once this command is such a node itself, and runs
    until it is stopped.

    What came from the archive and is gone from it is deleted, if nobody has changed it here. Everything else
    in DIR stays; --delete and --no-delete say otherwise.
    """
    from p2psync.errors import UsageError

    if interval == 0:
        raise UsageError("--interval 0 would ask without a pause; give at least one second")
    if transfer.lists_in_archive:
        raise UsageError(
            "a mirror remembers its list, and would not notice that the one in the archive has changed: "
            "fetch with it, or give the list as a file"
        )
    src = transfer.base(src)
    if once:
        return _once(common, network, transfer, src, directory, interval, hooks)
    return _stay(common, network, transfer, src, directory, interval, advertise, metrics, tls, policy, hooks)


def _once(
    common: Common,
    network: Network,
    transfer: Transfer,
    src: ArchiveUrl | Origin,
    directory: str,
    interval: int,
    hooks: Hooks,
) -> int:
    from p2psync.cli.negotiated import Settled, by_rsync, settle
    from p2psync.cli.signals import run_async
    from p2psync.cli.transfers import report
    from p2psync.client import Client

    options = transfer.as_options(network)
    options["listen"] = _listen_once(network.listen)

    async def run() -> FetchSummary | int:
        async with Client(common.state_path) as client:
            settled = await settle(client, src, directory, network, common.out)
            if not isinstance(settled, Settled):
                return await by_rsync(client, settled, directory, options, common.out)
            with common.out.observing(files=transfer.json_files) as tell:
                return await client.mirror(
                    settled.url,
                    settled.dest,
                    interval=interval,
                    hooks=hooks,
                    files=transfer.json_files,
                    on_event=tell,
                    **options,
                )

    done = run_async(run())
    return done if isinstance(done, int) else report(common.out, done)


def _listen_once(listen: Address) -> Address:
    """Where to share while it runs: as the command line says. What else says so means the node, which may be
    there already, so that only the host is taken from it.
    """
    said = click.get_current_context().get_parameter_source("listen")
    return listen if said is ParameterSource.COMMANDLINE else Address(listen.host, 0)


def _stay(
    common: Common,
    network: Network,
    transfer: Transfer,
    src: ArchiveUrl | Origin,
    directory: str,
    interval: int,
    advertise: Address | None,
    metrics: Address | None,
    tls: Tls | None,
    policy: Policy,
    hooks: Hooks,
) -> int:
    """Serve from the start, fetch, and stay: what is here already is useful to others at once."""
    from p2psync.cli.negotiated import Settled, settle
    from p2psync.cli.signals import Stopped, run_async
    from p2psync.cli.transfers import ready, report
    from p2psync.client import Client
    from p2psync.daemon import NodeOptions, run_mirror
    from p2psync.errors import NetworkError
    from p2psync.fetch.keywords import options_for
    from p2psync.format.url import ArchiveUrl

    out = common.out

    async def find() -> Settled | Origin:
        async with Client(common.state_path) as client:
            return await settle(client, src, directory, network, out)

    settled = Settled(src, directory) if isinstance(src, ArchiveUrl) else run_async(find())
    if not isinstance(settled, Settled):
        raise NetworkError(
            f"{src} names no archive, and nothing else can be mirrored for others: p2psync fetch, or mirror "
            "--once, lets rsync fetch it"
        )
    options = options_for(
        settled.url, settled.dest, transfer.as_options(network), mirror=True, interval=float(interval)
    )

    complete = False

    def done(summary: FetchSummary) -> None:
        nonlocal complete
        complete = complete or summary.complete
        tell.idle()
        report(out, summary, logged=True)

    def released() -> None:
        nonlocal complete
        complete = True
        tell.idle()
        out.say(f"{settled.dest} is no longer mirrored; the node goes on with what else is here")

    node = NodeOptions(
        listen=network.listen,
        bootstrap=options.bootstrap,
        bwlimit=options.bwlimit,
        advertise=advertise,
        metrics=metrics,
        tls=tls,
        policy=policy,
        hooks=hooks,
    )
    with common.open_state() as state, out.observing(files=transfer.json_files) as tell:
        try:
            run_async(
                run_mirror(
                    options,
                    node,
                    state,
                    tell,
                    on_ready=ready(out),
                    on_done=done,
                    on_released=released,
                    detail=out.detail,
                )
            )
        except (Stopped, KeyboardInterrupt):
            if not complete:
                raise
            out.say("stopped")
    return 0

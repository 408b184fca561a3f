"""``p2psync mirror SRC DIR``: fetch an archive, keep it up to date, serve it and announce it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from p2psync.cli.options import (
    NODE_LISTEN,
    Common,
    Network,
    Transfer,
    advertise_option,
    common_options,
    metrics_option,
    network_options,
    transfer_options,
)
from p2psync.cli.types import SECONDS, URL, Address

if TYPE_CHECKING:
    from p2psync.fetch.options import FetchOptions, FetchSummary
    from p2psync.format.url import ArchiveUrl

INTERVAL = 3600


@click.command("mirror")
@click.argument("src", type=URL)
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=str))
@click.option("--once", is_flag=True, help="Bring DIR up to date and end; for cron, beside a running node.")
@click.option(
    "--interval",
    type=SECONDS,
    default=str(INTERVAL),
    metavar="SECONDS",
    show_default=True,
    help="How often to look for a new snapshot.",
)
@transfer_options
@advertise_option
@metrics_option
@network_options(listen=NODE_LISTEN)
@common_options
def command(
    common: Common,
    network: Network,
    transfer: Transfer,
    src: ArchiveUrl,
    directory: str,
    once: bool,
    interval: int,
    advertise: Address | None,
    metrics: Address | None,
) -> int:
    """Fetch an archive, keep it up to date, serve it and announce it.

    DIR becomes a mirror of SRC on this state directory: from now on every `p2psync node` on it serves and
    announces DIR and keeps it up to date. Without --once this command is such a node itself and runs until it
    is stopped.
    """
    from p2psync.cli.signals import run_async
    from p2psync.cli.transfers import report
    from p2psync.errors import UsageError
    from p2psync.fetch import run_fetch
    from p2psync.fetch.options import FetchOptions

    if interval == 0:
        raise UsageError("--interval 0 would ask without a pause; give at least one second")
    options = FetchOptions(
        url=src,
        dest=os.fsencode(directory),
        sources=network.sources,
        bootstrap=tuple(map(str, network.bootstrap)),
        mirror=True,
        mirror_interval=float(interval),
        **transfer.as_arguments(),
    )
    if not once:
        return _stay(common, network, options, advertise, metrics)
    with common.open_state() as state, common.out.observing() as tell:
        summary = run_async(run_fetch(options, state, tell))
    return report(common.out, summary)


def _stay(
    common: Common,
    network: Network,
    options: FetchOptions,
    advertise: Address | None,
    metrics: Address | None,
) -> int:
    """Serve from the start, fetch, and stay: what is here already is useful to others at once."""
    from p2psync.cli.signals import Stopped, run_async
    from p2psync.cli.transfers import ready, report
    from p2psync.daemon import NodeOptions, run_mirror

    out = common.out

    complete = False

    def done(summary: FetchSummary) -> None:
        nonlocal complete
        complete = complete or not summary.exit_code
        tell.idle()
        report(out, summary)

    node = NodeOptions(
        listen=network.listen,
        bootstrap=options.bootstrap,
        bwlimit=options.bwlimit,
        advertise=advertise,
        metrics=metrics,
    )
    with common.open_state() as state, out.observing() as tell:
        try:
            run_async(
                run_mirror(options, node, state, tell, on_ready=ready(out), on_done=done, detail=out.detail)
            )
        except (Stopped, KeyboardInterrupt):
            if not complete:
                raise
            out.say("stopped")
    return 0

"""``p2psync node``: the daemon that serves and announces what is in a state directory."""

from __future__ import annotations

import click

from p2psync.cli.command import Command
from p2psync.cli.options import (
    NODE_LISTEN,
    Common,
    Network,
    advertise_option,
    common_options,
    metrics_option,
    network_options,
)
from p2psync.cli.types import RATE, Address

ROLES = ("auto", "server", "bootstrap")


@click.command("node", cls=Command)
@click.option(
    "--role",
    type=click.Choice(ROLES),
    default="auto",
    show_default=True,
    help="bootstrap: the DHT alone, no archives. server: do not test whether others can reach this node.",
)
@click.option(
    "--bwlimit",
    type=RATE,
    default="0",
    metavar="RATE",
    help="Limit what mirrors receive, as rsync: KiB/s, or with a suffix (1.5m, 2MB); 0 is no limit.",
)
@advertise_option
@metrics_option
@network_options(listen=NODE_LISTEN, sources=False)
@common_options
def command(
    common: Common,
    network: Network,
    role: str,
    bwlimit: int,
    advertise: Address | None,
    metrics: Address | None,
) -> None:
    """Run the daemon: serve and announce everything in the state directory.

    Published archives and mirrors are served over HTTP and announced in the DHT, both on the port of
    --listen; mirrors are kept up to date. What is published or mirrored on the same state directory meanwhile
    is noticed within two seconds. With --role bootstrap it is a place to join the network by and nothing
    else. Runs until it is stopped (SIGTERM or Ctrl-C), which is no error.
    """
    from p2psync.cli.signals import Stopped, run_async
    from p2psync.cli.transfers import ready
    from p2psync.daemon import NodeOptions, Role, run_node

    out = common.out

    options = NodeOptions(
        listen=network.listen,
        bootstrap=tuple(map(str, network.bootstrap)),
        bwlimit=bwlimit or None,
        advertise=advertise,
        role=Role(role),
        metrics=metrics,
    )
    with common.open_state() as state, out.observing() as tell:
        try:
            run_async(
                run_node(options, state, on_ready=ready(out), warn=out.warn, detail=out.detail, tell=tell)
            )
        except (Stopped, KeyboardInterrupt):
            out.say("stopped")

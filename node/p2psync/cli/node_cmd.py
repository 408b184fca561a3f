"""``p2psync node``: the daemon that serves and announces what is in a state directory."""

from __future__ import annotations

import click

from p2psync.cli.options import (
    NODE_LISTEN,
    Common,
    Network,
    advertise_option,
    common_options,
    network_options,
)
from p2psync.cli.types import RATE, Address


@click.command("node")
@click.option(
    "--bwlimit",
    type=RATE,
    default="0",
    metavar="RATE",
    help="Limit what mirrors receive, as rsync: KiB/s, or with a suffix (1.5m, 2MB); 0 is no limit.",
)
@advertise_option
@network_options(listen=NODE_LISTEN, sources=False)
@common_options
def command(common: Common, network: Network, bwlimit: int, advertise: Address | None) -> None:
    """Run the daemon: serve and announce everything in the state directory.

    Published archives and mirrors are served over HTTP and announced in the DHT, both on the port of
    --listen; mirrors are kept up to date. What is published or mirrored on the same state directory meanwhile
    is noticed within two seconds. Runs until it is stopped (SIGTERM or Ctrl-C), which is no error.
    """
    from p2psync.cli.signals import Stopped, run_async
    from p2psync.daemon import NodeOptions, run_node

    out = common.out

    def ready(listen: str, node: str) -> None:
        out.event("ready", listen=listen, node=node)
        out.say(f"node {node} serves at {listen}")

    options = NodeOptions(
        listen=network.listen,
        bootstrap=tuple(map(str, network.bootstrap)),
        bwlimit=bwlimit or None,
        advertise=advertise,
    )
    with common.open_state() as state:
        try:
            run_async(run_node(options, state, on_ready=ready, warn=out.warn, detail=out.detail))
        except (Stopped, KeyboardInterrupt):
            out.say("stopped")

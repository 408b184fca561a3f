"""``p2psync node``: the daemon that serves and announces what is in a state directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from p2psync.cli.command import Command
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
from p2psync.cli.types import RATE, RSYNC_LISTEN, Address

if TYPE_CHECKING:
    from p2psync.daemon.options import Tls
    from p2psync.daemon.policy import Policy
    from p2psync.fetch.hooks import Hooks

ROLES = ("auto", "server", "bootstrap")


@click.command("node", cls=Command)
@click.option(
    "--role",
    type=click.Choice(ROLES),
    default="auto",
    show_default=True,
    help="bootstrap: the DHT alone, without archives. server: take for granted that others reach this node. "
    "auto: find out whether they do.",
)
@click.option(
    "--bwlimit",
    type=RATE,
    default="0",
    metavar="RATE",
    help="Receive no more than this a second for mirrors, as with rsync: KiB, or with a suffix (1.5m, 2MB). "
    "Default: 0, which is no limit.",
)
@click.option(
    "--rsync-listen",
    type=RSYNC_LISTEN,
    metavar="HOST:PORT",
    help="Serve rsync clients too, by the rsync that is installed here: each whole directory is a module, "
    "read only, with all that is in it. Default: nowhere; the port of rsync daemons is 873.",
)
@tls_options
@advertise_option
@metrics_option
@hooks_options
@mirrors_options
@network_options(listen=NODE_LISTEN, sources=False)
@common_options
def command(
    common: Common,
    network: Network,
    role: str,
    bwlimit: int,
    advertise: Address | None,
    metrics: Address | None,
    rsync_listen: Address | None,
    tls: Tls | None,
    policy: Policy,
    hooks: Hooks,
) -> None:
    """Run the daemon: serve and announce everything in the state directory.

    Published archives and mirrors are served over HTTP and announced in the DHT, both on the port of
    --listen, and mirrors are kept up to date. What is published or mirrored on the same state directory while
    it runs is noticed within two seconds. Mirrors of what is published here are checked each hour, and those
    that pass are recommended to readers by a list that is signed with the archive's key.

    With --role bootstrap it is a node for others to join the network by, and nothing else. It runs until it
    is stopped by SIGTERM or Ctrl-C, which is no error.
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
        rsync_listen=rsync_listen,
        tls=tls,
        policy=policy,
        hooks=hooks,
    )
    with common.open_state() as state, out.observing() as tell:
        try:
            run_async(
                run_node(options, state, on_ready=ready(out), warn=out.warn, detail=out.detail, tell=tell)
            )
        except (Stopped, KeyboardInterrupt):
            out.say("stopped")

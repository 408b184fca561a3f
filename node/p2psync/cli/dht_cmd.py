"""``p2psync dht ...``: look into the DHT. Nothing here changes it."""

from __future__ import annotations

import click

from p2psync.cli.command import Group
from p2psync.cli.dht import crawl, lookup, ping, status


@click.group("dht", cls=Group, no_args_is_help=False)
def command() -> None:
    """Look into the DHT: ping nodes, follow lookups, measure the network."""


for part in (ping, lookup, status, crawl):
    command.add_command(part.command)

"""``p2psync unpublish DIR|ID``: say, signed, that there is no newer snapshot to come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from p2psync.cli.command import Command
from p2psync.cli.options import Common, Network, common_options, network_options
from p2psync.cli.types import WHICH, url_of
from p2psync.errors import show_path
from p2psync.text import day, name_fields

if TYPE_CHECKING:
    from p2psync.events import Teller
    from p2psync.publish.ending import Unpublished


@click.command("unpublish", cls=Command)
@click.argument("which", metavar="DIR|ID", type=WHICH)
@network_options(sources=False)
@common_options
def command(common: Common, network: Network, which: str | bytes) -> None:
    """End an archive: its newest snapshot is the last one.

    The archive's key signs that it has ended. DIR, or all directories that are published as the archive ID,
    is no longer served or announced from here, and stays as it is. A node that runs on the same state
    directory tells others of the end for 30 days; without one, --bootstrap tells the network once.

    Mirrors keep what they have and go on serving it. Whoever fetches the archive gets the last snapshot from
    them, with a warning that it was ended, and when.

    `p2psync publish DIR` takes it back: the archive goes on with the same address. So first remove cron jobs
    that publish DIR.
    """
    from p2psync.cli.signals import run_async
    from p2psync.client import Client

    out = common.out
    bootstrap = network.asking()["bootstrap"]

    async def end(tell: Teller) -> tuple[Unpublished, bool]:
        async with Client(common.state_path) as client:
            if isinstance(which, bytes):
                done = await client.unpublish(archive=which, bootstrap=bootstrap, on_event=tell)
            else:
                done = await client.unpublish(which, bootstrap=bootstrap, on_event=tell)
            return done, client.state.node_runs()

    with out.observing() as tell:
        done, node_runs = run_async(end(tell))
    url = url_of(done.archive)
    for directory in done.directories:
        out.event("unpublished", **name_fields(directory, "directory"), archive=url)
        out.say(f"{show_path(directory)} is no longer published; its files stay")
    head = done.head
    out.event("ended", archive=url, epoch=head.epoch, seq=head.seq, ended=head.ended, changed=done.changed)
    since = f"had been ended on {day(head.ended or 0)}" if not done.changed else "is ended"
    out.say(f"{url} {since}; its last snapshot is {head.seq}")
    if not (node_runs or bootstrap):
        out.say("nobody knows yet: start 'p2psync node', or run this again with --bootstrap HOST:PORT")

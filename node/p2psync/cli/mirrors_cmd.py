"""``p2psync mirrors SRC``: who holds an archive, how much of it and how fresh."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from p2psync.cli.command import Command
from p2psync.cli.options import Common, Network, common_options, network_options
from p2psync.cli.types import SRC, url_of
from p2psync.text import count

if TYPE_CHECKING:
    from p2psync.format.url import ArchiveUrl
    from p2psync.negotiate.origin import Origin


@click.command("mirrors", cls=Command)
@click.argument("src", type=SRC)
@network_options()
@common_options
def command(common: Common, network: Network, src: ArchiveUrl | Origin) -> None:
    """Show who holds an archive, how much of it and how fresh.

    SRC is p2psync://ID, or a server that is asked for its archive, as for `p2psync fetch`. What is shown is
    what the holders say of themselves, signed by them, and STATE, which says whether each answers now; what
    they send is verified when it is fetched. Who has left and said so is not listed, only counted.

    Where the archive has a list of recommended mirrors it says who is LISTED, when each was VERIFIED last
    by the publisher, and its RATE there. On the machine whose node publishes the archive it is what the
    checks have found: also since when there has been a newer snapshot than a mirror has (LAG), and the
    FAILURES since it passed, with the reason of the last one.
    """
    from p2psync.cli.holder_rows import holder_fields, reasons, table
    from p2psync.cli.negotiated import archive_of
    from p2psync.cli.signals import run_async
    from p2psync.client import Client
    from p2psync.events import Teller, warnings_to
    from p2psync.fetch.holders import Holders
    from p2psync.ui.tables import columns

    out = common.out

    async def ask() -> tuple[ArchiveUrl, Holders]:
        async with Client(common.state_path) as client:
            url = await archive_of(client, src, network, out)
            tell = Teller(warnings_to(out.warn))
            return url, await client.holders(url, on_event=tell, **network.asking())

    url, found = run_async(ask())
    for holder in found.holders:
        out.event("holder", **holder_fields(holder))
    newest = found.head.seq if found.head is not None else None
    ended = found.head.ended if found.head is not None else None
    counts = {"holders": len(found.holders), "withdrawn": len(found.withdrawn)}
    out.event("mirrors", archive=url_of(url.archive), seq=newest, **counts, ended=ended)
    if found.holders:
        for line in columns(table(found.holders, found.head, time.time())):
            out.result(line)
        for line in reasons(found.holders):
            out.result(line)
    else:
        out.say("nobody is known to hold this archive")
    if found.withdrawn:
        out.say(
            f"not counted: {count(len(found.withdrawn), 'holder')} that left within the last day and said so"
        )

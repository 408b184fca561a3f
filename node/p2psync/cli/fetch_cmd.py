"""``p2psync fetch SRC DEST``: make a directory equal to an archive."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from p2psync.cli.command import Command
from p2psync.cli.cron_options import cron_options
from p2psync.cli.options import (
    FETCH_LISTEN,
    Common,
    Network,
    common_options,
    network_options,
)
from p2psync.cli.transfer_options import Transfer, transfer_options
from p2psync.cli.types import DEST, SRC, Consent

if TYPE_CHECKING:
    from p2psync.fetch.options import FetchSummary
    from p2psync.format.url import ArchiveUrl
    from p2psync.negotiate.origin import Origin


@click.command("fetch", cls=Command)
@click.argument("src", type=SRC)
@click.argument("dest", type=DEST)
@click.option(
    "--dry-run",
    "-n",
    cls=Consent,
    is_flag=True,
    help="Change nothing, and list what would be done, as rsync's --itemize-changes has it.",
)
@transfer_options
@network_options(listen=FETCH_LISTEN)
@common_options
@cron_options
def command(
    common: Common, network: Network, transfer: Transfer, src: ArchiveUrl | Origin, dest: str, dry_run: bool
) -> int:
    """Make a directory equal to an archive.

    SRC is p2psync://ID, as publish prints it. p2psync://ID/PATH is a part of the archive, and
    ?peer=HOST:PORT at the end names somebody to begin with; write such an address in quotes, since shells
    give the question mark a meaning of their own.

    As with rsync, a slash at the end of SRC means what is in the directory: ID/DIR/ fills DEST, and ID/DIR
    makes DEST/DIR. ID alone fills DEST.

    SRC may also be a server that p2psync does not know: rsync://HOST/MODULE/PATH, HOST::MODULE/PATH,
    rsyncs:// (TLS), https://HOST/PATH, or a host alone. It is asked which archive it has; that is fetched,
    and the server is held to it from then on. Where an rsync server has none, rsync itself fetches.

    Everything that DEST has already is used, and every byte that comes from elsewhere is verified. A fetch
    that is interrupted leaves old files or new files, never half ones: run it again, and it goes on.

    The exit code is 0 if DEST equals the newest snapshot, and 23 if some of it could not be had.
    """
    from p2psync.cli.negotiated import Settled, by_rsync, fetch_settled, settle
    from p2psync.cli.planned import listing
    from p2psync.cli.signals import run_async
    from p2psync.cli.transfers import report
    from p2psync.client import Client

    options = transfer.as_options(network)
    options["listen"] = network.listen
    options["dry_run"] = dry_run

    async def run() -> FetchSummary | int:
        async with Client(common.state_path) as client:
            settled = await settle(client, transfer.base(src), dest, network, common.out)
            if not isinstance(settled, Settled):
                return await by_rsync(client, settled, dest, options, common.out)
            if transfer.lists_in_archive and transfer.files_from is not None:
                listed = os.fsencode(transfer.files_from[1:].strip("/"))
                options["files_from"] = await client.read_list(
                    settled.url, listed, nul=transfer.from0, sources=network.sources
                )
            if dry_run:
                return await fetch_settled(
                    client, src, settled, options, listing(common.out), say=common.out.warn
                )
            with common.out.observing(files=transfer.json_files) as tell:
                return await fetch_settled(
                    client, src, settled, options, tell, say=tell.warn, files=transfer.json_files
                )

    done = run_async(run())
    if isinstance(done, int):
        return done
    if dry_run:
        common.out.summary("nothing was changed (--dry-run); it would be:")
    return report(common.out, done)

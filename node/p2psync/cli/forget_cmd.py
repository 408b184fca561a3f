"""``p2psync forget ID|DIR``: stop publishing or mirroring a directory, and forget what is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from p2psync.cli.command import Command
from p2psync.cli.options import Common, common_options
from p2psync.cli.types import WHICH, Consent, url_of
from p2psync.errors import show_path
from p2psync.text import name_fields

if TYPE_CHECKING:
    from p2psync.inventory.forget import Forgotten


@click.command("forget", cls=Command)
@click.argument("which", metavar="ID|DIR", type=WHICH)
@click.option(
    "--key",
    cls=Consent,
    is_flag=True,
    help="Remove the archive's keys too: without a copy of them it can never be published again.",
)
@common_options
def command(common: Common, which: str | bytes, key: bool) -> None:
    """Stop publishing or mirroring a directory, and forget it.

    DIR, or every directory that has (a part of) the archive ID, is no longer served, announced or updated: a
    node that runs on the same state directory stops at once, an update that is under way included. What
    is known of the files is forgotten; the files themselves stay as they are.

    Kept are the archive's keys, so that `p2psync publish DIR` goes on with the same address, and the newest
    snapshot's number, so that nobody can offer an older one later. The node takes back what it has told
    others; where none runs, that runs out within a day. A cron job or unit that runs `p2psync mirror` makes
    DIR a mirror again.
    """
    from p2psync.cli.signals import run_async
    from p2psync.client import Client
    from p2psync.events import Teller, warnings_to

    out = common.out

    async def forget() -> Forgotten:
        async with Client(common.state_path) as client:
            hear = Teller(warnings_to(out.warn))
            if isinstance(which, bytes):
                return await client.forget(archive=which, keys=key, on_event=hear)
            return await client.forget(which, keys=key, on_event=hear)

    done = run_async(forget())
    url = None if done.archive is None else url_of(done.archive)
    for directory, role in done.directories:
        out.event("forgotten", **name_fields(directory, "directory"), archive=url, role=role)
        out.say(f"forgot {show_path(directory)}, {_was(role, url)}; its files stay")
    out.event("forgot", archive=url, directories=len(done.directories), keys=done.keys)
    if done.keys == "kept":
        out.say(f"the keys of {url} are kept; 'p2psync forget --key {url}' removes them")


def _was(role: str, url: str | None) -> str:
    if url is None:
        return "into which single files were fetched"
    return f"published as {url}" if role == "publisher" else f"a {role} of {url}"

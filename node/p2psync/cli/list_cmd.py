"""``p2psync list``: what is published, mirrored and fetched on this state directory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from p2psync.cli.command import Command
from p2psync.cli.options import Common, common_options
from p2psync.cli.types import url_of
from p2psync.text import count, day, duration, name_fields, size

if TYPE_CHECKING:
    from p2psync.inventory.holdings import Holding

HEADINGS = ("ROLE", "SNAPSHOT", "AGE", "FILES", "SIZE", "STATE", "SERVED", "DIRECTORY", "ARCHIVE")
RIGHT = frozenset({1, 2, 3, 4})


@click.command("list", cls=Command)
@common_options
def command(common: Common) -> None:
    """Show what is published, mirrored and fetched here.

    One line for each directory: what it is to its archive, the snapshot that it has, when that was
    published, and how large it is; whether all of it is there; and whether a node serves it now. No file is
    read: `p2psync verify` does that.
    """
    from p2psync.cli.signals import run_async
    from p2psync.client import Client
    from p2psync.events import Teller, warnings_to
    from p2psync.inventory.holdings import Holdings
    from p2psync.ui.tables import columns

    out = common.out

    async def ask() -> Holdings:
        async with Client(common.state_path) as client:
            return await client.holdings(on_event=Teller(warnings_to(out.warn)))

    found = run_async(ask())
    for holding in found.holdings:
        out.event("holding", **fields(holding))
    out.event("holdings", holdings=len(found.holdings), node=found.node)
    if not found.holdings:
        out.say("nothing is published, mirrored or fetched on this state directory")
        return
    now = time.time()
    for line in columns([HEADINGS, *(row(holding, now) for holding in found.holdings)], RIGHT):
        out.result(line)
    if found.node is not None:
        out.say(f"the node that runs here listens at {found.node}")
    elif all(holding.served is not None for holding in found.holdings):
        out.say("no node runs on this state directory: p2psync node serves what is published and mirrored")


def fields(holding: Holding) -> dict[str, Any]:
    """A directory as JSON fields."""
    told = holding._asdict()
    archive = told.pop("archive")
    return {
        **name_fields(told.pop("directory"), "directory"),
        "archive": None if archive is None else url_of(archive),
        **name_fields(told.pop("path"), "path"),
        **told,
    }


def row(holding: Holding, now: float) -> tuple[str, ...]:
    """The columns of HEADINGS for one directory."""
    archive = "-" if holding.archive is None else str(url_of(holding.archive))
    path = holding.path.decode("utf-8", "surrogateescape")
    return (
        holding.role,
        str(holding.seq) if holding.seq else "-",
        duration(max(0.0, now - holding.published)) if holding.published is not None else "-",
        "-" if holding.files is None else f"{holding.files:,}",
        "-" if holding.bytes is None else size(holding.bytes),
        ", ".join(words(holding)),
        {True: "yes", False: "no", None: "?"}[holding.served],
        holding.directory.decode("utf-8", "surrogateescape"),
        f"{archive}/{path}" if path else archive,
    )


def words(holding: Holding) -> list[str]:
    """What is to be said of a directory's state."""
    if not holding.present:
        said = ["directory is gone"]
    elif holding.archive is None:
        said = ["single files"]
    else:
        said = ["complete" if holding.complete else "unfinished"]
    if holding.lost:
        said.append(f"{count(holding.lost, 'file')} lost")
    if holding.at_work:
        said.append("at work now")
    if holding.ended is not None:
        said.append(f"ended on {day(holding.ended)}")
    if holding.behind:
        said.append(f"newest is {holding.newest}")
    if holding.unread:
        said.append(f"{count(holding.unread, 'path')} unread by publisher")
    if holding.filtered:
        said.append("filtered")
    return said

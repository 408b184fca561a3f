"""``p2psync ls SRC``: list an archive, or a part of it, without fetching any file."""

from __future__ import annotations

import stat
import time
from typing import TYPE_CHECKING, Any

import click

from p2psync.cli.command import Command
from p2psync.cli.options import Common, Network, common_options, network_options
from p2psync.cli.types import SRC, url_of
from p2psync.errors import show_path
from p2psync.text import name_fields

if TYPE_CHECKING:
    from p2psync.fetch.view import Listed
    from p2psync.format.url import ArchiveUrl
    from p2psync.negotiate.origin import Origin

# p2psync.format.listing.Kind, which --help does without.
DIRECTORY, SYMLINK = 1, 2
TYPES = {0: "file", DIRECTORY: "directory", SYMLINK: "symlink"}


@click.command("ls", cls=Command)
@click.argument("src", type=SRC)
@click.option("-r", "--recursive", is_flag=True, help="List everything below, and not one directory alone.")
@click.option(
    "--require-fresh",
    is_flag=True,
    help="Refuse a snapshot that its publisher no longer vouches for as the newest.",
)
@network_options()
@common_options
def command(
    common: Common, network: Network, src: ArchiveUrl | Origin, recursive: bool, require_fresh: bool
) -> None:
    """List an archive without fetching it.

    SRC is p2psync://ID, or p2psync://ID/PATH for a part of it, or a server that is asked for its archive, as
    for `p2psync fetch`. The lines are those of `rsync --list-only`:
    type and mode, size (of a directory: of all files below it), time, name, and where a symbolic link leads.
    """
    from contextlib import AsyncExitStack

    from p2psync.cli.negotiated import archive_of
    from p2psync.cli.signals import run_async
    from p2psync.client import Client
    from p2psync.events import Teller, warnings_to

    out = common.out

    async def list_all() -> None:
        tell = Teller(warnings_to(out.warn))
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(Client(common.state_path))
            url = await archive_of(client, src, network, out)
            viewing = client.view(url, require_fresh=require_fresh, on_event=tell, **network.asking())
            view = await stack.enter_async_context(viewing)
            count = 0
            async for listed in view.walk(recursive=recursive):
                count += 1
                out.result(long_line(listed))
                out.event("entry", **entry_fields(listed))
            head = view.head
            out.event(
                "listed",
                archive=url_of(url.archive),
                seq=head.seq,
                epoch=head.epoch,
                signed_at=head.signed_at,
                fresh_until=head.fresh_until,
                ended=head.ended,
                entries=count,
            )

    run_async(list_all())


def long_line(listed: Listed) -> str:
    """One line as ``rsync --list-only`` prints it; the time is local."""
    when = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(listed.mtime_ns // 10**9))
    mode = stat.filemode(file_mode(listed))
    line = f"{mode} {listed.size:>14,} {when} {show_path(listed.path)}"
    return f"{line} -> {show_path(listed.target)}" if listed.kind == SYMLINK else line


def file_mode(listed: Listed) -> int:
    """Type and permissions as st_mode has them."""
    types = {DIRECTORY: stat.S_IFDIR, SYMLINK: stat.S_IFLNK}
    return types.get(listed.kind, stat.S_IFREG) | listed.mode


def entry_fields(listed: Listed) -> dict[str, Any]:
    """A name as JSON fields."""
    fields: dict[str, Any] = {
        **name_fields(listed.path, "path"),
        "type": TYPES[listed.kind],
        "mode": f"{listed.mode:04o}",
        "size": listed.size,
        "mtime_ns": listed.mtime_ns,
    }
    if listed.kind == SYMLINK:
        fields |= name_fields(listed.target, "target")
    else:
        fields["id"] = listed.digest.hex()
    return fields

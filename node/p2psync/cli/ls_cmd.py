"""``p2psync ls SRC``: list an archive, or a part of it, without fetching any file."""

from __future__ import annotations

import stat
import time
from typing import TYPE_CHECKING, Any

import click

from p2psync.cli.options import Common, Network, common_options, network_options
from p2psync.cli.output import Output, name_fields
from p2psync.cli.types import URL, url_of
from p2psync.ui.text import printable_name

if TYPE_CHECKING:
    from p2psync.fetch import View
    from p2psync.format.listing import Entry
    from p2psync.format.url import ArchiveUrl

# p2psync.format.listing.Kind, which --help does without.
DIRECTORY, SYMLINK = 1, 2
TYPES = {0: "file", DIRECTORY: "directory", SYMLINK: "symlink"}


@click.command("ls")
@click.argument("src", type=URL)
@click.option("-r", "--recursive", is_flag=True, help="List everything below, not only one directory.")
@click.option("--require-fresh", is_flag=True, help="Refuse an archive whose publisher is overdue.")
@network_options()
@common_options
def command(common: Common, network: Network, src: ArchiveUrl, recursive: bool, require_fresh: bool) -> None:
    """List an archive without fetching it.

    SRC is p2psync://ID[/PATH]. The listing is that of `rsync --list-only`: type and mode, size (of a
    directory: of all files below it), time, name, and the target of a symlink.
    """
    from p2psync.cli.signals import run_async
    from p2psync.fetch import open_view

    out = common.out

    async def list_all() -> None:
        async with open_view(
            src,
            state,
            out.warn,
            sources=network.sources,
            bootstrap=tuple(map(str, network.bootstrap)),
            require_fresh=require_fresh,
        ) as view:
            lister = Lister(out, view, recursive)
            await lister.show(view.entry)
            head = view.head
            out.event(
                "listed",
                archive=url_of(src.archive),
                seq=head.seq,
                epoch=head.epoch,
                signed_at=head.signed_at,
                fresh_until=head.fresh_until,
                entries=lister.count,
            )

    with common.open_state() as state:
        run_async(list_all())


class Lister:
    """Prints a directory and what is in it, in the order of its names."""

    def __init__(self, out: Output, view: View, recursive: bool) -> None:
        self._out = out
        self._view = view
        self._recursive = recursive
        self.count = 0

    async def show(self, entry: Entry) -> None:
        """The thing that the URL names: a file or symlink by its name, a directory as ``.`` with what is in
        it.
        """
        if entry.kind == DIRECTORY:
            self._line(b".", entry)
            await self._below(b"", entry)
        else:
            self._line(entry.name, entry)

    async def _below(self, prefix: bytes, directory: Entry) -> None:
        for entry in await self._view.listing(directory):
            path = prefix + entry.name
            self._line(path, entry)
            if self._recursive and entry.kind == DIRECTORY:
                await self._below(path + b"/", entry)

    def _line(self, path: bytes, entry: Entry) -> None:
        self.count += 1
        self._out.result(long_line(path, entry))
        self._out.event("entry", **entry_fields(path, entry))


def entry_size(entry: Entry) -> int:
    """Bytes: of a file, of all files below a directory, of a symlink's target."""
    return len(entry.target) if entry.kind == SYMLINK else entry.below.bytes


def long_line(path: bytes, entry: Entry) -> str:
    """One line as ``rsync --list-only`` prints it; the time is local."""
    when = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(entry.mtime_ns // 10**9))
    line = f"{stat.filemode(file_mode(entry))} {entry_size(entry):>14,} {when} {printable_name(path)}"
    return f"{line} -> {printable_name(entry.target)}" if entry.kind == SYMLINK else line


def file_mode(entry: Entry) -> int:
    """Type and permissions as st_mode has them. A symlink has no permissions of its own; Linux shows 777."""
    if entry.kind == SYMLINK:
        return stat.S_IFLNK | 0o777
    return (stat.S_IFDIR if entry.kind == DIRECTORY else stat.S_IFREG) | entry.mode


def entry_fields(path: bytes, entry: Entry) -> dict[str, Any]:
    """An entry as JSON fields."""
    fields: dict[str, Any] = {
        **name_fields(path, "path"),
        "type": TYPES[entry.kind],
        "mode": f"{stat.S_IMODE(file_mode(entry)):04o}",
        "size": entry_size(entry),
        "mtime_ns": entry.mtime_ns,
    }
    if entry.kind == SYMLINK:
        fields |= name_fields(entry.target, "target")
    else:
        fields["id"] = entry.digest.hex()
    return fields

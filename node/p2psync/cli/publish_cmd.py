"""``p2psync publish DIR``: index, sign and announce a directory; again, a new snapshot of what changed."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import click

from p2psync.cli.command import Command, Optional
from p2psync.cli.options import Common, Network, common_options, filter_options, network_options
from p2psync.cli.types import ARCHIVE, DIRECTORY, Consent, url_of

if TYPE_CHECKING:
    from p2psync.events import Teller
    from p2psync.publish.publisher import Published


@click.command("publish", cls=Command)
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.option(
    "--archive",
    type=ARCHIVE,
    metavar="ID",
    help="Publish DIR as this archive, whose key must be here. Default: the one that it was, or a new one.",
)
@click.option(
    "--accept-shrink",
    cls=Consent,
    is_flag=True,
    help="Publish DIR, this once, though most of its files are gone or it is on another disk than before.",
)
@click.option(
    "--static",
    cls=Optional,
    is_flag=False,
    flag_value="p2psync",
    metavar="NAME",
    help="Write what readers need beside the files as files too, into the folder p2psync in DIR, or into "
    "another one by its name or path: any HTTP or rsync mirror of DIR is then a source. Remembered.",
)
@click.option("--no-static", cls=Consent, is_flag=True, help="Remove that folder, and write it no more.")
@click.option(
    "--temporary/--no-temporary",
    default=None,
    help="Publish also what looks like a temporary name of rsync's, or leave it out: .NAME.XXXXXX, .~tmp~/, "
    ".rsync-partial/, Archive-Update-*. Remembered; at first it is left out.",
)
@filter_options
@network_options(sources=False)
@common_options
def command(
    common: Common,
    network: Network,
    directory: str,
    archive: bytes | None,
    accept_shrink: bool,
    static: str | None,
    no_static: bool,
    temporary: bool | None,
    rules: list[tuple[str, str]],
) -> int:
    """Publish a directory, or a new snapshot of it, and print its URL.

    DIR is published where it is: nothing is copied, and nothing in it is changed. Run again, publish reads
    only the files that changed. A node that runs on the same state directory serves the new snapshot at once;
    where none runs, start one with `p2psync node`.

    Filter rules leave things out. They are kept: publishing again without any uses the last ones.

    A file that cannot be read stays as it was in the last snapshot, or is marked as missing, so that nobody
    deletes it. The first of them are named, and the exit code is 23. It is 24 if files vanished meanwhile.

    If all files are gone, or more than 100 names and half of them, nothing is published and the exit code is
    25, since a disk that is not mounted looks like that. --accept-shrink says that it is meant.

    With --static, a folder p2psync in DIR has the signed head and the listings as files. Web servers and
    rsync servers that have a copy of DIR, and no p2psync, then serve it to `p2psync fetch --source URL`. It
    is no part of the archive, and is kept up to date by publishing again.

    A directory that was moved, or is named through a link that leads elsewhere now, stays the same archive.
    """
    from p2psync.cli.rules import build_filter
    from p2psync.cli.signals import run_async
    from p2psync.client import Client
    from p2psync.text import count, duration, size

    out = common.out
    started = time.monotonic()

    async def run(tell: Teller) -> tuple[Published, str]:
        async with Client(common.state_path) as client:
            done = await client.publish(
                directory,
                archive=archive,
                rules=build_filter(rules) if rules else None,
                bootstrap=network.asking()["bootstrap"],
                count_first=sys.stderr.isatty() and not out.quiet,  # Nobody else looks at the totals.
                accept_shrink=accept_shrink,
                static=False if no_static else static,
                temporary=temporary,
                on_event=tell,
            )
            return done, client.url_of(done.archive)

    with out.observing() as tell:
        done, url = run_async(run(tell))
    seconds = time.monotonic() - started
    out.event(
        "published",
        archive=url_of(done.archive),
        seq=done.head.seq,
        root=done.root,
        files=done.files,
        bytes=done.bytes,
        read_bytes=done.read_bytes,
        unread=done.unread,
        temporaries=done.temporaries,
        static=None if done.static is None else os.fsdecode(done.static),
        seconds=round(seconds, 3),
    )
    what = "published" if done.changed else "unchanged:"
    unread = f"; {count(done.unread, 'path')} could not be read" if done.unread else ""
    left = f"; left out {count(done.temporaries, 'temporary name')} of rsync's" if done.temporaries else ""
    out.summary(
        f"{what} {count(done.files, 'file')}, {size(done.bytes)} as "
        f"snapshot {done.head.seq}; read {size(done.read_bytes)} in {duration(seconds)}{unread}{left}",
        always=bool(done.exit_code),
    )
    out.address(url)
    return done.exit_code

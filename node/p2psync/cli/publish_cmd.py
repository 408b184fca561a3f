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
from p2psync.errors import UsageError

if TYPE_CHECKING:
    from p2psync.events import Teller
    from p2psync.publish.publisher import Published
    from p2psync.publish.unsigned import Completed, Prepared
    from p2psync.rules.filter import Filter


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
    "--unsigned",
    cls=Consent,
    is_flag=True,
    help="Make the snapshot, and print what `p2psync key sign` is to sign on the machine that has the key.",
)
@click.option(
    "--head",
    cls=Consent,
    metavar="FILE",
    help="Publish the snapshot that --unsigned made, with the head that was signed for it; - reads standard "
    "input.",
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
    unsigned: bool,
    head: str | None,
    static: str | None,
    no_static: bool,
    temporary: bool | None,
    rules: list[tuple[str, str]],
    cvs_exclude: bool,
    from0: bool,
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

    Where the key lives elsewhere, --unsigned makes the snapshot and prints what is to be signed, `p2psync key
    sign` signs it there, and --head publishes it here. Until then the last snapshot stays published.

    A directory that was moved, or is named through a link that leads elsewhere now, stays the same archive.
    """
    from p2psync.cli.rules import rules_given
    from p2psync.cli.signals import run_async
    from p2psync.client import Client
    from p2psync.text import count, duration, size

    out = common.out
    started = time.monotonic()
    if head is not None:
        return _complete(common, directory, head)
    if unsigned:
        chosen = rules_given(rules, cvs_exclude=cvs_exclude, from0=from0)
        folder = False if no_static else static
        return _prepare(common, network, directory, archive, accept_shrink, folder, temporary, chosen)

    async def run(tell: Teller) -> tuple[Published, str]:
        async with Client(common.state_path) as client:
            done = await client.publish(
                directory,
                archive=archive,
                rules=rules_given(rules, cvs_exclude=cvs_exclude, from0=from0),
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


def _prepare(
    common: Common,
    network: Network,
    directory: str,
    archive: bytes | None,
    accept_shrink: bool,
    static: str | bool | None,
    temporary: bool | None,
    rules: Filter | None,
) -> int:
    """Make a snapshot, and print what is to be signed."""
    from p2psync.cli.armor import UNSIGNED, armor
    from p2psync.cli.signals import run_async
    from p2psync.client import Client

    async def run(tell: Teller) -> Prepared:
        async with Client(common.state_path) as client:
            return await client.prepare(
                directory,
                archive=archive,
                rules=rules,
                bootstrap=network.asking()["bootstrap"],
                accept_shrink=accept_shrink,
                static=static,
                temporary=temporary,
                on_event=tell,
            )

    with common.out.observing() as tell:
        done = run_async(run(tell))
    text = armor(done.request.encode(), UNSIGNED).decode()
    common.out.event(
        "unsigned",
        archive=url_of(done.request.archive),
        root=done.root,
        files=done.files,
        bytes=done.bytes,
        read_bytes=done.read_bytes,
        unread=done.unread,
        text=text,
    )
    common.out.result(text.rstrip("\n"))
    return done.exit_code


def _complete(common: Common, directory: str, file: str) -> int:
    """Publish a snapshot with the head that was signed for it."""
    from p2psync.cli.armor import HEAD, unarmor
    from p2psync.cli.key_files import read_key
    from p2psync.cli.signals import run_async
    from p2psync.client import Client
    from p2psync.format.marks import UNREAD

    raw = unarmor(read_key(common.out, file), HEAD)
    if raw is None:
        raise UsageError(f"there is no head in {file!r}: give what 'p2psync key sign' printed")

    async def run(tell: Teller) -> tuple[Completed, str]:
        async with Client(common.state_path) as client:
            done = await client.complete(directory, raw, on_event=tell)
            return done, client.url_of(done.head.archive)

    with common.out.observing() as tell:
        done, url = run_async(run(tell))
    totals = done.snapshot.root.totals
    common.out.event(
        "published",
        archive=url_of(done.head.archive),
        seq=done.head.seq,
        root=done.snapshot.root.digest.hex(),
        files=totals.files,
        bytes=totals.bytes,
        read_bytes=0,
        unread=int(done.snapshot.extra.get(UNREAD, 0)),
        temporaries=0,
        static=None if done.static is None else os.fsdecode(done.static),
        seconds=0.0,
    )
    common.out.address(url)
    return 0

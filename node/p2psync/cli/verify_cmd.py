"""``p2psync verify DIR``: check a directory against the manifest it was published, mirrored or fetched
from.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from p2psync.cli.options import Common, common_options
from p2psync.cli.output import Output
from p2psync.cli.types import ARCHIVE, DIRECTORY, url_of
from p2psync.errors import PartialError, show_path
from p2psync.text import count, duration, name_fields, size

if TYPE_CHECKING:
    from p2psync.client import Verified
    from p2psync.events import Teller
    from p2psync.fetch.verify import Finding


@click.command("verify")
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.option(
    "--archive",
    type=ARCHIVE,
    metavar="ID",
    help="Hold DIR against the newest known snapshot of this archive.",
)
@click.option(
    "--quick", is_flag=True, help="Do not read files: compare names, types, sizes, modes and times."
)
@common_options
def command(common: Common, directory: str, archive: bytes | None, quick: bool) -> int:
    """Check a directory against its manifest.

    Reads every file and compares content, type, mode, time and symlink target with the snapshot that DIR was
    published as or fetched from. What differs is listed one a line; the exit code is 23 if anything does.
    """
    from p2psync.cli.signals import run_async
    from p2psync.client import Client

    out = common.out
    started = time.monotonic()

    async def run(tell: Teller) -> Verified:
        async with Client(common.state_path) as client:
            return await client.verify(
                directory,
                archive=archive,
                quick=quick,
                on_difference=lambda found: _tell(out, found),
                on_event=tell,
            )

    with out.observing() as tell:
        done = run_async(run(tell))
    seconds = time.monotonic() - started
    differences = len(done.differences)
    out.event(
        "verified",
        archive=url_of(done.archive),
        seq=done.seq,
        files=done.files,
        bytes=done.bytes,
        differences=differences,
        seconds=round(seconds, 3),
    )
    what = count(differences, "difference") if differences else "equal"
    out.say(
        f"{what}: {count(done.files, 'file')}, {size(done.bytes)} of snapshot {done.seq}, "
        f"in {duration(seconds)}"
    )
    return PartialError.exit_code if differences else 0


def _tell(out: Output, found: Finding) -> None:
    what = str(found.difference)
    out.event("difference", **name_fields(found.path, "path"), what=what, detail=found.detail)
    detail = f" ({show_path(found.detail)})" if found.detail else ""
    out.result(f"{what:<10} {show_path(found.path or b'.')}{detail}")

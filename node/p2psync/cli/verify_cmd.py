"""``p2psync verify DIR``: check a directory against the manifest it was published, mirrored or fetched
from.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import click

from p2psync.cli.options import Common, common_options
from p2psync.cli.output import Output, name_fields
from p2psync.cli.types import ARCHIVE, url_of
from p2psync.errors import PartialError, UsageError
from p2psync.ui.text import count, duration, printable_name, size

if TYPE_CHECKING:
    from p2psync.fetch.verify import Finding


@click.command("verify")
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=str))
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
    from p2psync.fetch.verify import verify
    from p2psync.format.snapshot import Snapshot

    out = common.out
    started = time.monotonic()
    differences = 0
    with common.open_state() as state:
        tree = state.trees.get(os.fsencode(os.path.realpath(directory)))
        head = state.heads.newest(archive) if archive is not None else None
        if archive is not None and head is None:
            raise UsageError(f"nothing is known here of {url_of(archive)}; fetch or list it first")
        with out.observing() as tell:
            for found in verify(state, directory, head=head, full=not quick, tell=tell):
                differences += 1
                _tell(out, found)
        checked = head or tree
        assert checked is not None and checked.snapshot is not None  # noqa: S101 - else verify had refused
        which = checked.archive or b""
        totals = Snapshot.decode(state.meta.get(checked.snapshot.digest) or b"").root.below
    seconds = time.monotonic() - started
    out.event(
        "verified",
        archive=url_of(which),
        seq=checked.seq,
        files=totals.files,
        bytes=totals.bytes,
        differences=differences,
        seconds=round(seconds, 3),
    )
    what = count(differences, "difference") if differences else "equal"
    out.say(
        f"{what}: {count(totals.files, 'file')}, {size(totals.bytes)} of snapshot {checked.seq}, "
        f"in {duration(seconds)}"
    )
    return PartialError.exit_code if differences else 0


def _tell(out: Output, found: Finding) -> None:
    what = str(found.difference)
    out.event("difference", **name_fields(found.path, "path"), what=what, detail=found.detail)
    detail = f" ({printable_name(found.detail)})" if found.detail else ""
    out.result(f"{what:<10} {printable_name(found.path or b'.')}{detail}")

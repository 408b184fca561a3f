"""``p2psync publish DIR``: index, sign and announce a directory; again, a new snapshot of what changed."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import click

from p2psync.cli.options import Command, Common, Network, common_options, filter_options, network_options
from p2psync.cli.types import ARCHIVE, url_of

if TYPE_CHECKING:
    from p2psync.cli.output import Output
    from p2psync.format.head import ArchiveHead
    from p2psync.state import State


@click.command("publish", cls=Command)
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=str))
@click.option(
    "--archive",
    type=ARCHIVE,
    metavar="ID",
    help="Publish under this archive's key. Default: the one DIR had, or a new one.",
)
@filter_options
@network_options(sources=False)
@common_options
def command(
    common: Common, network: Network, directory: str, archive: bytes | None, rules: list[tuple[str, str]]
) -> int:
    """Publish a directory, or a new snapshot of it, and print its URL.

    DIR is published in place: nothing is copied and nothing in it is changed. Run again, publish reads only
    what changed. A node that runs on the same state directory serves the new snapshot at once; without one,
    start `p2psync node`.

    Filter rules are kept: publishing again without any uses the last ones.

    Files that vanish or change while they are read are left out with a warning, and the exit code is 24;
    files that cannot be read are left out too, and it is 23.
    """
    from p2psync.cli.rules import build_filter
    from p2psync.format.url import ArchiveUrl
    from p2psync.publish import publish
    from p2psync.ui.text import count, duration, size

    out = common.out
    started = time.monotonic()
    with common.open_state() as state:
        with out.observing() as tell:
            known = _known_heads(state, network, directory, archive)
            done = publish(
                state,
                os.fsencode(directory),
                archive=archive,
                rules=build_filter(rules) if rules else None,
                tell=tell,
                known_heads=known,
                count_first=sys.stderr.isatty() and not out.quiet,  # Nobody else looks at the totals.
            )
        seconds = time.monotonic() - started
        url = url_of(done.archive)
        if network.bootstrap:
            _announce(out, state, network, done.archive)
        out.event(
            "published",
            archive=url,
            seq=done.head.seq,
            root=done.root,
            files=done.files,
            bytes=done.bytes,
            read_bytes=done.read_bytes,
            seconds=round(seconds, 3),
        )
        what = "published" if done.changed else "unchanged:"
        out.say(
            f"{what} {count(done.files, 'file')}, {size(done.bytes)} as "
            f"snapshot {done.head.seq}; read {size(done.read_bytes)} in {duration(seconds)}"
        )
        if done.changed:
            state.tidy()
        serving = state.node_address()
        out.result(str(ArchiveUrl(done.archive, peers=(serving,) if serving else ())))
    return done.exit_code


def _known_heads(state: State, network: Network, directory: str, archive: bytes | None) -> list[ArchiveHead]:
    """Heads that others have signed since, for example on another machine with a delegated key."""
    tree = state.trees.get(os.fsencode(os.path.realpath(directory)))
    which = archive or (tree.archive if tree is not None else None)
    if which is None or not network.bootstrap:
        return []
    from p2psync.cli.signals import run_async
    from p2psync.daemon import known_heads

    return run_async(known_heads(state, which, tuple(map(str, network.bootstrap))))


def _announce(out: Output, state: State, network: Network, archive: bytes) -> None:
    """Put the head into the DHT now, for a state directory on which no node runs."""
    from p2psync.cli.signals import run_async
    from p2psync.daemon import announce_published

    copies = run_async(announce_published(state, archive, tuple(map(str, network.bootstrap))))
    if copies:
        out.detail(f"announced to {copies} nodes")
    else:
        out.warn("nobody could be reached to announce the new snapshot to; a running node will announce it")

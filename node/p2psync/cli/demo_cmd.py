"""``p2psync demo``: run a whole network on this machine and lose its origin."""

from __future__ import annotations

from pathlib import Path

import click

from p2psync.cli.command import Command
from p2psync.cli.options import Common, common_options


@click.command("demo", cls=Command)
@click.option(
    "--tree",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Publish this directory. Default: the Python standard library.",
)
@click.option(
    "--mirrors", type=click.IntRange(1, 16), default=3, show_default=True, metavar="N", help="Run N mirrors."
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Work in DIR and leave everything there. Default: a temporary directory, removed at the end.",
)
@common_options
def command(common: Common, tree: Path | None, mirrors: int, keep: Path | None) -> int:
    """Run a whole network on this machine and lose its origin.

    It is made of real processes: a bootstrap node, an origin that publishes a tree, and mirrors. Then the
    origin and the bootstrap node are killed, and a client fetches everything from the mirrors. The copy is
    compared file by file with the original; the exit code is 23 if anything differs.

    Nothing outside the directory that it works in is touched, and nothing can be reached from other machines.
    """
    from p2psync.demo.play import Demo, table
    from p2psync.errors import PartialError, show_path
    from p2psync.text import count

    out = common.out
    demo = Demo(tree, mirrors, keep, quiet=out.quiet)

    def tell(line: str) -> None:
        out.event("step", message=line)
        out.say(f"- {line}")

    outcome = demo.run(tell)
    for line in table(outcome):
        out.say(line)
    sources = {where: sent for _, where, sent in outcome.senders}
    files = outcome.done["files"]
    out.event("demo", files=files, sources=sources, differences=outcome.differences)
    if outcome.differences:
        for line in outcome.differences:
            out.result(f"DIFFERS {show_path(line)}")
        raise PartialError(
            f"the copy differs from the original in {count(len(outcome.differences), 'place')}"
        )
    out.say(f"Equal: all {count(files, 'file')}. The archive outlived its origin.")
    return 0

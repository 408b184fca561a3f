"""The options of ``fetch`` and ``mirror`` that are rsync's: what takes part, and what is deleted. As in
rsync, those that say when something is deleted mean --delete; p2psync deletes at the end in any case.
"""

from __future__ import annotations

import click

from p2psync.cli.options import F, filter_options, stack
from p2psync.cli.types import SIZE


def selecting_options(function: F) -> F:
    """The command receives each of them under its own name, and the filter rules as ``rules``."""
    return stack(
        function,
        filter_options,
        click.option(
            "--files-from",
            metavar="FILE",
            help="Fetch what is listed in FILE alone, one path a line, seen from SRC: - is the standard "
            "input, :PATH a file of the archive. Directories come without their content, unless a slash is "
            "behind them or --recursive is given.",
        ),
        click.option(
            "--recursive",
            "-r",
            is_flag=True,
            help="With --files-from, fetch all below the directories that it lists. Else everything is.",
        ),
        click.option(
            "--prune-empty-dirs",
            "-m",
            is_flag=True,
            help="Leave out directories in which no file or link takes part.",
        ),
        click.option(
            "--max-size",
            type=SIZE,
            metavar="SIZE",
            help="Leave files with more bytes than this as they are here: a number, or with a suffix (500m).",
        ),
        click.option(
            "--min-size", type=SIZE, metavar="SIZE", help="Leave files with fewer bytes as they are here."
        ),
        click.option("--safe-links", is_flag=True, help="Leave out links that lead out of the tree."),
        click.option("--update", "-u", is_flag=True, help="Leave files that are younger here."),
        click.option(
            "--existing",
            "--ignore-non-existing",
            is_flag=True,
            help="Update what is here, and make nothing that is not.",
        ),
        click.option(
            "--ignore-existing", is_flag=True, help="Make what is not here, and change nothing that is."
        ),
        click.option(
            "--size-only",
            is_flag=True,
            help="Take a file of the right size for the right one, whatever its time.",
        ),
        click.option(
            "--ignore-times",
            "-I",
            is_flag=True,
            help="The same as --checksum: no file is trusted, and every one is read here.",
        ),
        click.option(
            "--modify-window",
            "-@",
            type=click.IntRange(min=0),
            default=0,
            metavar="SECONDS",
            help="Take times that differ by no more than this for the same.",
        ),
        click.option("--omit-dir-times", "-O", is_flag=True, help="Leave the times of directories."),
        click.option(
            "--delay-updates",
            is_flag=True,
            help="Put files and links in place together, when all have come; until then DEST is as it was.",
        ),
        click.option(
            "--force",
            is_flag=True,
            help="Remove a directory that is in the way of a file with all in it, also without --delete.",
        ),
        click.option("--ignore-errors", is_flag=True, help="Delete also where something could not be had."),
        click.option(
            "--delete-excluded",
            is_flag=True,
            help="Delete also what filter rules leave out, unless a rule protects it ('P PATTERN').",
        ),
        *(
            click.option(
                f"--delete-{when}",
                *also,
                is_flag=True,
                help="The same as --delete: what goes, goes when everything else is in place.",
            )
            for when, *also in (("before",), ("during", "--del"), ("delay",), ("after",))
        ),
        click.option(
            "--one-file-system",
            "-x",
            count=True,
            help="Accepted for rsync's sake: a published archive has no file systems in it.",
        ),
    )

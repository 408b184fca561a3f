"""The options of ``fetch`` and ``mirror`` that are rsync's: what takes part, and what is deleted. As in
rsync, those that say when something is deleted mean --delete; p2psync deletes at the end in any case.
"""

from __future__ import annotations

import click

from p2psync.cli.options import F, filter_options, stack


def selecting_options(function: F) -> F:
    """The command receives each of them under its own name, and the filter rules as ``rules``."""
    return stack(
        function,
        filter_options,
        click.option(
            "--prune-empty-dirs",
            "-m",
            is_flag=True,
            help="Leave out directories in which no file or link takes part.",
        ),
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

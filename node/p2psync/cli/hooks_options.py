"""Commands that are run before and after updates of mirrors: options of commands that update them, and the
table ``[hooks]`` of the configuration.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import click

from p2psync.cli.options import stack
from p2psync.cli.types import SECONDS, WORDS

TIMEOUT: Final = "60"


def hooks_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--hooks-before --hooks-after --hooks-failed --hooks-timeout``; the command receives ``hooks:
    Hooks``.
    """

    @functools.wraps(function)
    def command(*args: Any, **others: Any) -> Any:
        from p2psync.fetch.hooks import Hooks

        hooks = Hooks(
            before=others.pop("hooks_before") or (),
            after=others.pop("hooks_after") or (),
            failed=others.pop("hooks_failed") or (),
            timeout=float(others.pop("hooks_timeout")),
        )
        return function(*args, hooks=hooks, **others)

    return stack(
        command,
        click.option(
            "--hooks-before",
            type=WORDS,
            metavar="COMMAND",
            help="Run this before a mirror is looked at and updated; where it fails, nothing is done. Words "
            "are told apart as a shell does, but no shell is asked. What it should know is in its "
            "environment: P2PSYNC_ARCHIVE, P2PSYNC_DIR, P2PSYNC_SEQ.",
        ),
        click.option(
            "--hooks-after",
            type=WORDS,
            metavar="COMMAND",
            help="Run this when a mirror has all of the newest snapshot. P2PSYNC_RESULT says whether it is "
            "changed or unchanged.",
        ),
        click.option(
            "--hooks-failed",
            type=WORDS,
            metavar="COMMAND",
            help="Run this when an update has failed. P2PSYNC_RESULT is partial, refused or failed, "
            "P2PSYNC_ERROR the sentence, P2PSYNC_EXIT the exit code.",
        ),
        click.option(
            "--hooks-timeout",
            type=SECONDS,
            default=TIMEOUT,
            metavar="SECONDS",
            help=f"End one of these that takes longer; 0 waits as long as it takes. Default: {TIMEOUT}.",
        ),
    )

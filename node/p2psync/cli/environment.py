"""Environment variables that look like settings and are none: a misspelt one must not be ignored in silence.

Only what begins with ``P2PSYNC_`` is looked at, and a command is imported only where a variable may be its
own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Final

import click

from p2psync.cli.types import is_setting
from p2psync.errors import UsageError

PREFIX: Final = "P2PSYNC_"
NOT_OURS: Final = re.compile(
    # What Kubernetes and container links set for every service that is called p2psync or p2psync-something.
    r"P2PSYNC(_\w+)?_SERVICE_(HOST|PORT(_\w+)?)"
    r"|P2PSYNC(_\w+)?_PORT(_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)?"
    r"|P2PSYNC(_\w+)?_(NAME|ENV_\w+)"
    # What units, init scripts and images use for themselves (`ExecStart=p2psync node $P2PSYNC_OPTS`).
    # What a command hears that is run before or after an update (``fetch.hooks``), and may run this program.
    r"|P2PSYNC_(HOOK|ARCHIVE|DIR|SEQ|RESULT|EXIT|CHANGED|DELETED|RECEIVED|ERROR)"
    r"|P2PSYNC_(OPTS|OPTIONS|ARGS|EXTRA_ARGS|FLAGS|VERSION|HOME|USER|GROUP|UID|GID)"
)
"""Variables of others, which mean nothing here."""
SHARED: Final = frozenset({"P2PSYNC_DNS"})
"""Variables that several commands have under one name."""


def check_environment(ctx: click.Context, environ: Mapping[str, str] = os.environ) -> None:
    """Refuse a variable that is nobody's; ``ctx`` is that of the command that runs. Raises UsageError."""
    named = [name for name in environ if name.startswith(PREFIX) and not NOT_OURS.fullmatch(name)]
    root = ctx.find_root()
    for name in named:
        if name not in SHARED and name not in _known(root, beginning=name):
            remedy = _remedy(name, ctx, {*SHARED, *_known(root)})
            raise UsageError(f"the environment variable {name} is no setting: {remedy}")


def _remedy(name: str, ctx: click.Context, known: set[str]) -> str:
    import difflib

    here = [part.upper().replace("-", "_") for part in ctx.command_path.split()]
    without_command = "_".join([*here, name.removeprefix(PREFIX)])
    near = [without_command] if without_command in known else []
    near = near or difflib.get_close_matches(name, sorted(known), n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"{meant}settings are {PREFIX}<COMMAND>_<OPTION>; unset it, or call it something else"


def _known(root: click.Context, beginning: str | None = None) -> Iterator[str]:
    """The variables of all commands, or of those only whose variables begin as ``beginning`` does."""
    group = root.command
    assert isinstance(group, click.Group)  # noqa: S101 - the program
    yield from _of_group(group, root, PREFIX.rstrip("_"), beginning)


def _of_group(group: click.Group, ctx: click.Context, prefix: str, beginning: str | None) -> Iterator[str]:
    for name in group.list_commands(ctx):
        own = f"{prefix}_{name.upper().replace('-', '_')}"
        if beginning is not None and not beginning.startswith(f"{own}_"):
            continue
        command = group.get_command(ctx, name)
        if isinstance(command, click.Group):
            yield from _of_group(command, ctx, own, beginning)
        elif command is not None:
            yield from _of_command(command, own)


def _of_command(command: click.Command, prefix: str) -> Iterator[str]:
    for param in command.params:
        if is_setting(param) and param.name is not None:
            yield f"{prefix}_{param.name.upper()}"

"""``p2psync help [COMMAND]``: the page of the manual on a command."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import click

from p2psync.cli.command import Command

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

WIDTH = 80
"""Columns where nobody looks at it, and the most that are filled: longer lines are harder to read."""


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The commands that may follow those that are there."""
    from click.shell_completion import CompletionItem

    from p2psync.cli.manual.build import context_of

    try:
        group = context_of(ctx.find_root(), ctx.params.get("words") or ()).command
    except click.UsageError:
        return []
    names = group.list_commands(ctx) if isinstance(group, click.Group) else []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command("help", cls=Command)
@click.argument("words", metavar="[COMMAND]...", nargs=-1, shell_complete=_complete)
@click.pass_context
def command(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the manual page of a command.

    Without COMMAND it is the page of p2psync itself. On a terminal a pager shows it. The same pages are
    installed for man(1), as p2psync(1), p2psync-fetch(1) and so on.
    """
    from p2psync.cli.manual.build import context_of, page_of
    from p2psync.cli.manual.text import to_text

    page = page_of(context_of(ctx.find_root(), words))
    if sys.stdout.isatty():
        width = min(shutil.get_terminal_size().columns, WIDTH)
        click.echo_via_pager(to_text(page, width, styled=True))
    else:
        click.echo(to_text(page, WIDTH, styled=False), nl=False)

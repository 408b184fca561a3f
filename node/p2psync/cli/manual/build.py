"""Makes the pages of all commands, from their help and their entries. Pure.

The sections and their order are those of man-pages(7).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import click

from p2psync.cli.command import OWN, option_groups
from p2psync.cli.manual.entries import entry_of
from p2psync.cli.manual.entry import Entry
from p2psync.cli.manual.exit_codes import EXIT_CODES
from p2psync.cli.manual.page import (
    Block,
    Heading,
    Item,
    Lines,
    Page,
    Paragraph,
    item,
    literal,
    paragraph,
    spans_of,
    term_of,
)
from p2psync.cli.types import is_setting

PROGRAM: Final = "p2psync"
_SETTINGS: Final = (
    ("/etc/p2psync.toml", "settings for everybody on this machine, see p2psync(1)"),
    (
        "~/.config/p2psync/p2psync.toml",
        "settings of one user, which are stronger; `$XDG_CONFIG_HOME` replaces ~/.config",
    ),
)
_STATE: Final = (
    "~/.local/state/p2psync/",
    "the state directory, unless --state, `$STATE_DIRECTORY` or `$XDG_STATE_HOME` names another: keys, the "
    "index of files, and what is known of the network. It holds private keys",
)
_STATE_VARIABLES: Final = (
    ("STATE_DIRECTORY", "the state directory, where --state names none; systemd sets it for a service"),
    ("XDG_STATE_HOME", "where neither is given, the state directory is p2psync in this one"),
)


def root_context(program: click.Group) -> click.Context:
    """The context of the whole program, as it is when help is shown."""
    return click.Context(program, info_name=PROGRAM, **program.context_settings)


def context_of(ctx: click.Context, path: Iterable[str]) -> click.Context:
    """The context of a command below. Raises click.UsageError: there is no such command."""
    for word in path:
        group = ctx.command
        found = group.get_command(ctx, word) if isinstance(group, click.Group) else None
        if found is None:
            raise click.UsageError(f"there is no command '{ctx.command_path} {word}'", ctx)
        ctx = click.Context(found, info_name=word, parent=ctx)
    return ctx


def contexts(ctx: click.Context) -> Iterator[click.Context]:
    """A command's own context, then those of all commands below it."""
    yield ctx
    if isinstance(ctx.command, click.Group):
        for name in ctx.command.list_commands(ctx):
            yield from contexts(context_of(ctx, [name]))


def path_of(ctx: click.Context) -> tuple[str, ...]:
    """The words of a command after ``p2psync``."""
    return tuple(ctx.command_path.split()[1:])


def page_name(path: Iterable[str]) -> str:
    """What ``man`` finds the page of a command by."""
    return "-".join((PROGRAM, *path))


def page_of(ctx: click.Context) -> Page:
    """The page of a command. Raises LookupError: nothing is written about it in ``manual.entries``."""
    path = path_of(ctx)
    entry = entry_of(path)
    if entry is None:
        raise LookupError(
            f"'{ctx.command_path}' has no examples and exit codes in p2psync.cli.manual.entries"
        )
    blocks: dict[str, tuple[Block, ...]] = {
        "SYNOPSIS": _synopsis(ctx),
        "DESCRIPTION": _description(ctx.command),
        "COMMANDS": _commands(ctx),
        "OPTIONS": _options(ctx),
        **{title: tuple(map(paragraph, texts)) for title, texts in entry.sections},
        "EXAMPLES": _examples(entry),
        "EXIT STATUS": _exits(entry),
        "ENVIRONMENT": _environment(ctx, entry),
        "FILES": _files(ctx, entry),
        "SEE ALSO": _see(ctx, entry),
    }
    about = first_line(ctx.command)
    sections = tuple((title, found) for title, found in blocks.items() if found)
    return Page(page_name(path), about[:1].lower() + about[1:].rstrip("."), sections)


def first_line(command: click.Command) -> str:
    """The first sentence of a command's help."""
    return (command.help or "").partition("\n")[0]


def _synopsis(ctx: click.Context) -> tuple[Block, ...]:
    pieces = " ".join(ctx.command.collect_usage_pieces(ctx))
    return (Paragraph((*literal(ctx.command_path), (" ", ""), *term_of(pieces))),)


def _description(command: click.Command) -> tuple[Block, ...]:
    return tuple(paragraph(text) for text in (command.help or "").split("\n\n") if text.strip())


def _commands(ctx: click.Context) -> tuple[Block, ...]:
    own = len(path_of(ctx))
    return tuple(
        Item(literal(" ".join(path_of(found)[own:])), spans_of(first_line(found.command)))
        for found in contexts(ctx)
        if found is not ctx
    )


def _options(ctx: click.Context) -> tuple[Block, ...]:
    groups = option_groups(ctx.command, ctx)
    made: list[Block] = []
    for title, rows in groups.items():
        made += [Heading(title)] if title != OWN and len(groups) > 1 else []
        made += [Item(term_of(names), spans_of(" ".join(text.split()))) for names, text in rows]
    return tuple(made)


def _examples(entry: Entry) -> tuple[Block, ...]:
    return tuple(
        block for example in entry.examples for block in (paragraph(example.purpose), Lines(example.lines))
    )


def _exits(entry: Entry) -> tuple[Block, ...]:
    return tuple(
        item(str(code), text or EXIT_CODES[code].means) for code, text in sorted(entry.exits.items())
    )


_WAY_OUT: Final = (
    (
        "http_proxy, https_proxy, all_proxy, RSYNC_PROXY, no_proxy",
        "proxies, and hosts that are reached without one, as curl(1) reads them; upper case too. Where one "
        "is set, nothing that is dialled goes past it, and the DHT is not asked",
    ),
    ("SSL_CERT_FILE, SSL_CERT_DIR", "certificates to trust, in place of those of the system"),
)


def _environment(ctx: click.Context, entry: Entry) -> tuple[Block, ...]:
    settings = [param for param in ctx.command.params if is_setting(param) and param.name != "config"]
    names = {param.name for param in settings}
    rows: list[tuple[str, str]] = []
    if settings and ctx.parent is not None:
        command = "_".join(path_of(ctx)).upper().replace("-", "_")
        shown = next((p for p in settings if not p.is_flag and not p.multiple), settings[0])
        value = "1" if shown.is_flag else str(shown.metavar or "VALUE")
        option = max(shown.opts, key=len) + ("" if shown.is_flag else f" {value}")
        rows.append(
            (
                f"P2PSYNC_{command}_OPTION",
                f"the value of an option, for example `P2PSYNC_{command}_{str(shown.name).upper()}={value}` "
                f"for `{option}`. Stronger than p2psync.toml, weaker than the command line. Several values "
                "are separated by spaces, filter rules by line breaks",
            )
        )
    if "dns" in names:
        rows.append(("P2PSYNC_DNS", "the DNS server of --dns, for every command that has the option"))
    if "proxy" in names:
        rows += _WAY_OUT
    if "state" in names:
        rows += _STATE_VARIABLES
    return tuple(item(name, text) for name, text in (*rows, *entry.environment))


def _files(ctx: click.Context, entry: Entry) -> tuple[Block, ...]:
    has_state = any(param.name == "state" for param in ctx.command.params)
    common = (_STATE, *_SETTINGS) if has_state or ctx.parent is None else ()
    return tuple(item(name, text) for name, text in (*entry.files, *common))


def _see(ctx: click.Context, entry: Entry) -> tuple[Block, ...]:
    above = [path_of(ctx)[:length] for length in range(len(path_of(ctx)))]
    below = [path_of(found) for found in contexts(ctx) if found is not ctx]
    names = [f"{page_name(path)}(1)" for path in (*above, *below)]
    spans = [span for name in dict.fromkeys((*names, *entry.see)) for span in ((", ", ""), *_page_span(name))]
    return (Paragraph(tuple(spans[1:])),)


def _page_span(name: str) -> tuple[tuple[str, str], ...]:
    title, _, section = name.partition("(")
    return ((title, "bold"), (f"({section}", ""))

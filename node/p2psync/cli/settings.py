"""What a configuration file may say, and what it says, as defaults of a command's options.

``config`` reads the file; which commands and options exist is known here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import click

from p2psync.cli.types import WORDS, is_setting

if TYPE_CHECKING:
    from pathlib import Path

    from p2psync.config import Schema, Setting


TABLES: Final = ("mirrors", "hooks")
"""Tables of the configuration in which the options ``--mirrors-...`` and ``--hooks-...`` of all commands
stand, by what is behind that, beside those of the command of this name, if there is one.
"""


def settings_of(command: click.Command) -> dict[str, Setting]:
    """The configuration keys of a command: its options by long name, without the dashes."""
    from p2psync.config import Setting

    settings = {}
    for param in command.params:
        if is_setting(param) and param.name not in ("config", "help"):
            key = max(param.opts, key=len).lstrip("-")
            settings[key] = Setting(key, param.multiple, param.is_flag, param.type is WORDS)
    return settings


def schema_of(root: click.Group, ctx: click.Context) -> Schema:
    """Every command's settings. Imports every command, so only a configuration file that exists asks for
    it.
    """
    schema: dict[str, dict[str, Setting]] = {}
    for name in root.list_commands(ctx):
        command = root.get_command(ctx, name)
        if isinstance(command, click.Group):
            for sub in command.list_commands(ctx):
                found = command.get_command(ctx, sub)
                if found is not None:
                    schema[f"{name}.{sub}"] = settings_of(found)
        elif command is not None:
            schema[name] = settings_of(command)
    for table in TABLES:
        prefix = f"{table}-"
        shared = {
            key.removeprefix(prefix): settings.pop(key)
            for settings in schema.values()
            for key in [*settings]
            if key.startswith(prefix)
        }
        apart = {key: setting._replace(key=key, apart=True) for key, setting in shared.items()}
        schema[table] = schema.get(table, {}) | apart
    return schema


def configure(ctx: click.Context, _param: click.Parameter, file: Path | None) -> None:
    """Let the configuration supply defaults for this command."""
    from p2psync.config import default_files, load, place_of
    from p2psync.errors import UsageError

    if ctx.resilient_parsing:
        return
    if file is not None and not file.exists():
        raise UsageError(f"there is no configuration file {os.fspath(file)!r}")
    files = [file] if file is not None else [f for f in default_files() if os.access(f, os.F_OK)]
    if not files:
        return
    path = ctx.command_path.split()[1:]
    root = ctx.find_root().command
    if isinstance(root, click.Group) and path:
        loaded = load(files, schema_of(root, ctx.find_root()))
        by_key = {max(p.opts, key=len).lstrip("-"): p for p in ctx.command.params}
        named = ".".join(path)
        values = {key: value for key, value in loaded[named].items() if key in by_key}
        shared = {f"{table}-{key}": (table, key) for table in TABLES for key in loaded[table]}
        values |= {name: loaded[table][key] for name, (table, key) in shared.items() if name in by_key}
        for key, value in values.items():
            try:
                by_key[key].type_cast_value(ctx, value)
            except click.BadParameter as error:
                place = place_of(files, *shared.get(key, (named, key)))
                raise UsageError(f"{place or 'the configuration'}: {key!r}: {error.message}") from None
        ctx.default_map = {name: value for key, value in values.items() if (name := by_key[key].name)}

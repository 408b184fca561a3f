"""Reads ``p2psync.toml``: what stands there are defaults for the command line, below environment variables.

    state = "/srv/p2psync"              # at the top: for every command that has the option
    bootstrap = ["dht.example.org:8730"]
    [mirror]                            # for one command
    bwlimit = "20m"
    [key.delegate]                      # for a subcommand
    days = 90

A key is an option's long name. An unknown key, table or type is an error that names file, line and remedy: a
misspelt setting must not be ignored in silence. Which commands and options exist is the command line's
knowledge and is passed in.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from p2psync.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

EVERYWHERE: Final = "::"
"""Where a node listens unless told otherwise: all addresses of both families (`p2psync_dht.sockets`)."""
DEFAULT_PORT: Final = 8730
"""Of a node, UDP and TCP, where none is said."""
SYSTEM_FILE: Final = "/etc/p2psync.toml"
FILE_MAX = 1 << 20  # A configuration is written by hand; a larger file is something else given by mistake.


class Setting(NamedTuple):
    """What the configuration needs to know of one option: its key, whether it may repeat, whether it is a
    switch.
    """

    key: str
    multiple: bool = False
    switch: bool = False
    words: bool = False
    """Whether it is a command, whose words may stand in a list."""
    apart: bool = False
    """Whether it stands in its own table alone, and what is said for all commands is not for it."""


Schema = Mapping[str, Mapping[str, Setting]]
"""Command path ("fetch", "key.delegate") -> option key -> Setting."""


def default_files(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Where configuration is looked for, the weaker first. XDG Base Directory Specification."""
    from pathlib import Path  # noqa: PLC0415 - --help loads this file for the port alone

    home = home_directory(environ)
    base = environ.get("XDG_CONFIG_HOME") or (home and os.path.join(home, ".config"))
    return [Path(SYSTEM_FILE), *([Path(base) / "p2psync" / "p2psync.toml"] if base else [])]


def home_directory(environ: Mapping[str, str] = os.environ) -> str | None:
    """``$HOME``, else what the system's list of users says; None where neither names a directory, as for a
    user id that has no entry.
    """
    home = environ.get("HOME", "")
    if not home:
        import pwd  # noqa: PLC0415 - seldom needed

        with contextlib.suppress(KeyError):
            home = pwd.getpwuid(os.getuid()).pw_dir
    return home if home.startswith("/") else None


def load(files: Iterable[Path], schema: Schema) -> dict[str, dict[str, Any]]:
    """Defaults for each command path, keyed by option key; later files win.

    Files that do not exist are passed over. Raises UsageError for one that cannot be read or is wrong.
    """
    settings: dict[str, dict[str, Any]] = {command: {} for command in schema}
    for file in files:
        text = _read(file)
        if text is not None:
            for command, values in _parse(file, text, schema).items():
                settings[command].update(values)
    return settings


def _read(file: Path) -> str | None:
    try:
        with file.open("rb") as stream:
            raw = stream.read(FILE_MAX + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"cannot read the configuration {file}: {error.strerror}") from None
    if len(raw) > FILE_MAX:
        raise UsageError(f"the configuration {file} is larger than {FILE_MAX} bytes; is it another file?")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise UsageError(f"the configuration {file} is not UTF-8 text") from None


def _parse(file: Path, text: str, schema: Schema) -> dict[str, dict[str, Any]]:
    import tomllib  # noqa: PLC0415 - where there is a configuration

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file}: {error}") from None
    common: dict[str, Any] = {}
    specific: dict[str, dict[str, Any]] = {command: {} for command in schema}
    everywhere = {
        key: setting for options in schema.values() for key, setting in options.items() if not setting.apart
    }
    tables = {command.split(".")[0] for command in schema}
    for key, value in document.items():
        if isinstance(value, dict):
            if key not in tables:
                raise _unknown(file, text, "", key, "command", tables)
            _parse_table(file, text, (key,), value, schema, specific)
        elif key in everywhere:
            common[key] = _checked(file, text, "", everywhere[key], value)
        else:
            raise _unknown(file, text, "", key, "key", everywhere)
    return {
        command: {key: value for key, value in common.items() if key in options and not options[key].apart}
        | specific[command]
        for command, options in schema.items()
    }


def _parse_table(
    file: Path,
    text: str,
    path: tuple[str, ...],
    table: Mapping[str, Any],
    schema: Schema,
    into: dict[str, dict[str, Any]],
) -> None:
    name = ".".join(path)
    options = schema.get(name, {})
    below = {command.split(".")[len(path)] for command in schema if command.startswith(f"{name}.")}
    for key, value in table.items():
        if isinstance(value, dict) and key in below:
            _parse_table(file, text, (*path, key), value, schema, into)
        elif key in options:
            into[name][key] = _checked(file, text, name, options[key], value)
        else:
            raise _unknown(file, text, name, key, "key", {*options, *below})


def _checked(file: Path, text: str, table: str, setting: Setting, value: Any) -> Any:
    """The value as the command line would have it, or UsageError."""
    if setting.switch:
        fits, wanted = isinstance(value, bool), "true or false"
    elif setting.multiple:
        value = [value] if isinstance(value, str) else value
        fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
        wanted = "a text or a list of texts"
    elif setting.words:
        import shlex  # noqa: PLC0415 - few have such commands

        listed = isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)
        fits = listed or isinstance(value, str)
        wanted = "a list of texts: a program, and its arguments"
        value = shlex.join(value) if listed else value
    else:
        fits = isinstance(value, str | int | float) and not isinstance(value, bool)
        wanted = "a text or a number"
        value = str(value)
    if not fits:
        raise UsageError(f"{_place(file, text, table, setting.key)}: {setting.key!r} should be {wanted}")
    return value


def _unknown(file: Path, text: str, table: str, key: str, what: str, known: Iterable[str]) -> UsageError:
    import difflib  # noqa: PLC0415 - a few milliseconds, for the mistaken

    near = difflib.get_close_matches(key, list(known), n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(sorted(known))}"
    where = f" in [{table}]" if table else ""
    return UsageError(f"{_place(file, text, table, key)}: unknown {what} {key!r}{where}; {remedy}")


def _place(file: Path, text: str, table: str, key: str) -> str:
    number = line_of(text, table, key)
    return f"{file}, line {number}" if number else str(file)


def place_of(files: Iterable[Path], table: str, key: str) -> str:
    """File and line that decided the value of ``key`` for the command ``table``; "" when it cannot be
    told."""
    for file in reversed(list(files)):
        text = _read(file)
        for where in (table, "") if text is not None else ():
            if text is not None and (number := line_of(text, where, key)):
                return f"{file}, line {number}"
    return ""


def line_of(text: str, table: str, key: str) -> int:
    """The line, from 1, that sets ``key`` in ``table`` (or opens the table ``key``); 0 when it cannot be
    told.

    tomllib keeps no positions, and only messages need them: a scan that knows headers and keys is enough.
    """
    wanted = f"{table}.{key}" if table else key
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+\s*([^\]#]+?)\s*\]", line)
        if header:
            current = _bare(header[1])
            name = current
        else:
            assigned = re.match(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'|\s*\.\s*)+?)\s*=""", line)
            if not assigned:
                continue
            name = f"{current}.{_bare(assigned[1])}" if current else _bare(assigned[1])
        if name == wanted or name.startswith(f"{wanted}."):
            return number
    return 0


def _bare(dotted: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in dotted.split("."))

"""Finds what the manual says of a command beyond its help. Each kind of command has a file of its own."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Final

from p2psync.cli.manual.entry import Entry

_FILES: Final = {
    "": "program",
    "help": "program",
    "list": "looking",
    "ls": "looking",
    "mirrors": "looking",
    "doctor": "looking",
    "verify": "looking",
    "demo": "program",
    "rsync": "drop_in",
    "key": "keys",
    "dht": "dht",
    "seeds": "seeds",
}
"""The first word of a command -> the module with its ``ENTRIES``."""
_OTHERS: Final = "archives"
"""The module of all others."""


def entry_of(path: tuple[str, ...]) -> Entry | None:
    """The entry of a command, by its words after ``p2psync``; None where there is none. Imports one file."""
    name = _FILES.get(path[0] if path else "", _OTHERS)
    entries: Mapping[tuple[str, ...], Entry] = importlib.import_module(f"p2psync.cli.manual.{name}").ENTRIES
    return entries.get(path)

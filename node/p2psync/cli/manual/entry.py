"""What a command's page has beyond the command's own help: the values that the entries are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Example(NamedTuple):
    """A purpose, in one sentence, and the lines that serve it, as they are typed or as they stand in a "
    "file."""

    purpose: str
    lines: tuple[str, ...]


class Entry(NamedTuple):
    """What is added to the help of one command. In prose, `backticks` mark what is typed as it stands."""

    examples: tuple[Example, ...]
    exits: Mapping[int, str]
    """Exit code -> its meaning for this command; empty: what it means everywhere."""
    files: tuple[tuple[str, str], ...] = ()
    """Files of this command alone, and what they are for."""
    environment: tuple[tuple[str, str], ...] = ()
    """Environment variables of this command alone."""
    sections: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Further sections: a title in capitals, and paragraphs."""
    see: tuple[str, ...] = ()
    """Further pages to see, such as ``rsync(1)``. The program, the group and subcommands are there anyway."""


def example(purpose: str, *lines: str) -> Example:
    """An example of one or more lines."""
    return Example(purpose, lines)

"""Reads rsync's command line as rsync does, with the rules of popt(3). Pure.

    -prltvHSB8192   -B 8192   -B=8192   --block-size=8192   --block-size 8192   --no-perms   --   -

Names are not abbreviated. What popt or rsync would not take is not read either: the real rsync has the words
for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from p2psync.rsync.options import LETTERS, LONG, PARTS, Word


class NotRead(Exception):
    """Why a command line is left to the real rsync; the text completes "rsync is run: "."""


@dataclass(slots=True)
class CommandLine:
    """What a command line says. Options are called by their longest names."""

    on: set[str] = field(default_factory=set)
    """Options that are switched on in the end; those that stand for others are these."""
    off: set[str] = field(default_factory=set)
    """Options that are switched off in the end."""
    values: dict[str, str] = field(default_factory=dict)
    """The last value of each option that has one."""
    said: list[tuple[str, str]] = field(default_factory=list)
    """All options in their order, with their values: filter rules count in theirs."""
    counts: dict[str, int] = field(default_factory=dict)
    """How often each was given; -v and -h say more each time."""
    places: list[str] = field(default_factory=list)
    """SRC ... DEST."""


def read(words: Sequence[str]) -> CommandLine:
    """Raises NotRead."""
    line = CommandLine()
    rest = iter(words)
    for word in rest:
        if word == "--":
            line.places.extend(rest)
        elif word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            found = LONG.get(name)
            if found is None:
                raise NotRead(f"--{name} is not known here")
            if found.on and found.option.value:
                _note(line, found, value if equals else _next(rest, word))
            elif equals:
                raise NotRead(f"--{name} takes no value")
            else:
                _note(line, found, "")
        elif word.startswith("-") and len(word) > 1:
            _cluster(line, word, rest)
        else:
            line.places.append(word)
    return line


def _cluster(line: CommandLine, word: str, rest: Iterator[str]) -> None:
    """One-letter options behind one dash; the first with a value takes what is left of the word."""
    for place, letter in enumerate(word[1:], 2):
        found = LETTERS.get(letter)
        if found is None:
            raise NotRead(f"-{letter} is not known here")
        if found.option.value:
            value = word[place:]
            _note(line, found, value.removeprefix("=") if value else _next(rest, f"-{letter}"))
            return
        _note(line, found, "")


def _next(rest: Iterator[str], name: str) -> str:
    value = next(rest, None)
    if value is None:
        raise NotRead(f"{name} lacks its value")
    return value


def _note(line: CommandLine, word: Word, value: str) -> None:
    option = word.option
    for name in PARTS.get(option.name, (option.name,)):
        (line.on if word.on else line.off).add(name)
        (line.off if word.on else line.on).discard(name)
        line.counts[name] = line.counts.get(name, 0) + 1 if word.on else 0
    if option.value and word.on:
        line.values[option.name] = value
    elif option.value:
        line.values.pop(option.name, None)
    if word.on:
        line.said.append((option.name, value))

"""What came of the way into the network, for the messages of those who need it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from p2psync.text import count

NAMED_MAX: Final = 4
"""Addresses that are named in one sentence; the rest is counted."""


class Way(NamedTuple):
    """Who was asked for the way in."""

    contacts: int = 0
    """Nodes of the network that answered."""
    silent: tuple[str, ...] = ()
    """Of the addresses that were given to join by: those that were asked in vain, and that in a sentence."""
    wrong: tuple[str, ...] = ()
    """Those that could not even be asked, as names that cannot be resolved."""
    remembered: int = 0
    """Nodes that were met in earlier runs."""
    closed: str = ""
    """Why nobody may be asked at all, as a clause."""

    @property
    def tried(self) -> bool:
        """Whether there was anybody to ask."""
        return bool(self.contacts or self.silent or self.wrong or self.remembered)

    def __str__(self) -> str:
        if self.closed:
            return self.closed
        if self.contacts:
            return ", ".join([f"{count(self.contacts, 'node')} of the network answered", *named(self.wrong)])
        said = named([*self.wrong, *self.silent])
        if self.remembered:
            said.append(f"none of the {count(self.remembered, 'node')} that were met before answers")
        return ", ".join(said) or "no node of the network is known here"


def named(said: Iterable[str]) -> list[str]:
    """The first few of many things to say, and the number of the others."""
    every = list(said)
    shown = every[:NAMED_MAX]
    return shown if len(every) <= NAMED_MAX else [*shown, f"and {len(every) - NAMED_MAX} more"]

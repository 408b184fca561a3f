"""One node in a lookup's shortlist: where it is said to be, who says so, and what became of asking it.

Anybody can say that a node is somewhere else. So an address that keeps silent, or where somebody else
answers, does not speak against the node: the other addresses told of it are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from enum import IntEnum
from typing import Final

from p2psync_dht.contact import Contact

# Addresses of one id that wait to be tried: where 40 % lie, so many come before an honest one once in a
# hundred times.
MAX_ADDRESSES: Final = 5

# Contacts of our own table that must have answered: what liars tell leads to liars, and of 40 % colluding
# nodes eight are all in collusion once in 1,500 lookups (five: once in 100).
MIN_OWN: Final = 8
MAX_TRIED: Final = 11  # of them at most: where most are silent, nobody waits for the living


class State(IntEnum):
    """What became of asking."""

    NEW = 0
    ASKED = 1
    SLOW = 2  # silent for the soft time-out: does not hold a slot, but may be waited for
    OVERDUE = 3  # silent for twice that: not waited for
    ANSWERED = 4
    FAILED = 5  # kept in the list of a read, see `Lookup._counts`


class Entry:
    """A node, by its id. `teller` is the id of who told of `contact`'s address, None if we knew it."""

    __slots__ = ("_others", "contact", "distance", "state", "teller")

    def __init__(self, contact: Contact, distance: int, teller: bytes | None) -> None:
        self.contact = contact
        self.distance = distance
        self.state = State.NEW
        self.teller = teller
        self._others: list[tuple[Contact, bytes | None]] = []

    def hear(self, contact: Contact, teller: bytes | None) -> bool:
        """Note another address of the node; whether that was new and is worth a try."""
        if self.state == State.ANSWERED or len(self._others) >= MAX_ADDRESSES:
            return False
        known = (self.contact.address, *(other.address for other, _ in self._others))
        if contact.address in known:
            return False
        self._others.append((contact, teller))
        return True

    def next_address(self, admit: Callable[[Contact], bool]) -> bool:
        """Turn to the next address told of that `admit` takes; False if there is none."""
        while self._others:
            contact, teller = self._others.pop(0)
            if admit(contact):
                self.contact, self.teller, self.state = contact, teller, State.NEW
                return True
        return False


def own_wanted(
    entries: Iterable[Entry], preferred: Container[bytes], wanted: int, tried: int = 0
) -> Entry | None:
    """The next contact of our own to ask, until `wanted` of them have answered or may be about to, or
    `MAX_TRIED` have been tried, `tried` of them before. Those whose ids are `preferred` go first, then the
    first of `entries`.
    """
    own = [entry for entry in entries if entry.teller is None]
    new = [entry for entry in own if entry.state == State.NEW]
    heard = sum(entry.state in (State.ASKED, State.ANSWERED) for entry in own)
    if heard >= wanted or tried + len(own) - len(new) >= MAX_TRIED:
        return None
    return min(new, key=lambda entry: entry.contact.id not in preferred, default=None)


def least_wanted(entries: Sequence[Entry], room: int) -> Entry | None:
    """Of entries in order of distance, the one to drop if more than `room` wait to be asked: the farthest
    of whoever told of most. Were it simply the farthest, contacts invented near a key would push out
    everybody else, and our own contacts first.
    """
    if len(entries) <= room:
        return None
    told: dict[bytes | None, list[Entry]] = {}
    for entry in entries:
        if entry.state == State.NEW:
            told.setdefault(entry.teller, []).append(entry)
    if sum(map(len, told.values())) <= room:
        return None
    return max(told.values(), key=len)[-1]

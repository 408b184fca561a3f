"""What a node remembers of others by address: proofs, write tokens, silences, and what they say ours is.

All of it is bounded, the oldest goes first, and all of it is from the network: it saves datagrams, and is
trusted for no more than that.
"""

from __future__ import annotations

import heapq
import socket
from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import Final, Generic, TypeVar

from p2psync_dht.contact import Address, Contact
from p2psync_dht.tokens import TOKEN_LIFETIME

MAX_REMEMBERED: Final = 2048  # addresses, of each kind of memory
PROOF_LIFETIME: Final = 3600.0  # seconds for which a proof of identity from an address is believed
DEAD_FOR: Final = 60.0  # seconds during which a silent address is asked only as a last resort
VERIFY_AGAIN: Final = 30.0  # seconds until the same stranger is pinged again
OBSERVATIONS: Final = 32  # latest answers that vote on what our own address is

_V = TypeVar("_V")


class Memory(OrderedDict[Address, _V], Generic[_V]):
    """A dictionary by address that forgets its oldest entry."""

    def remember(self, address: Address, value: _V) -> None:
        self.pop(address, None)
        self[address] = value
        if len(self) > MAX_REMEMBERED:
            self.popitem(last=False)


def _host(address: Address) -> Address:
    """Many NATs open a path to all ports of a host; on the loopback interface each port is a host."""
    return address if address[0].startswith("127.") or address[0] == "::1" else (address[0], 0)


class Acquaintances:
    """The memory of one node. `now` is always the event loop's clock, in seconds."""

    def __init__(self) -> None:
        self._tokens: Memory[tuple[bytes, float]] = Memory()
        self._proofs: Memory[tuple[bytes, float]] = Memory()
        self._silences: Memory[float] = Memory()
        self._pinged: Memory[float] = Memory()
        self._written: Memory[float] = Memory()
        self._observed: dict[socket.AddressFamily, list[Address]] = {}
        self._earlier: Memory[Contact] = Memory()

    def note_proof(self, contact: Contact, now: float) -> None:
        self._proofs.remember(contact.address, (contact.id, now))

    def forget_proof(self, contact: Contact) -> None:
        self._proofs.pop(contact.address, None)

    def is_proved(self, contact: Contact, now: float) -> bool:
        """Whether that id was proved from that address lately."""
        known = self._proofs.get(contact.address)
        return known is not None and known[0] == contact.id and now - known[1] < PROOF_LIFETIME

    def note_token(self, address: Address, token: bytes, now: float) -> None:
        self._tokens.remember(address, (token, now + TOKEN_LIFETIME))

    def token_for(self, address: Address, now: float) -> bytes | None:
        """The write token that a node gave us, while it surely is valid."""
        known = self._tokens.get(address)
        return known[0] if known is not None and now < known[1] else None

    def note_silence(self, address: Address, now: float) -> None:
        self._silences.remember(address, now)
        self._earlier.pop(address, None)

    def note_answer(self, address: Address) -> None:
        self._silences.pop(address, None)

    def is_dead(self, contact: Contact, now: float) -> bool:
        """Whether that address was silent lately."""
        since = self._silences.get(contact.address)
        return since is not None and now - since < DEAD_FOR

    def note_earlier(self, contacts: Iterable[Contact]) -> None:
        """Contacts of earlier runs: nobody who lies today had a say in them."""
        for contact in contacts:
            self._earlier.remember(contact.address, contact)

    def earlier(self, family: socket.AddressFamily, target: int, count: int) -> list[Contact]:
        """The nearest contacts of earlier runs that have not been silent since."""
        known = (contact for contact in self._earlier.values() if contact.family == family)
        return heapq.nsmallest(count, known, key=lambda contact: contact.long_id ^ target)

    def note_written(self, address: Address, now: float) -> None:
        self._written.remember(_host(address), now)

    def has_written(self, address: Address, now: float, within: float) -> bool:
        """Whether anything was sent to that host lately; on this machine, to that port."""
        since = self._written.get(_host(address))
        return since is not None and now - since < within

    def may_ping(self, address: Address, now: float) -> bool:
        """Whether a stranger has not been pinged lately; from now on it has."""
        tried = self._pinged.get(address)
        if tried is not None and now - tried < VERIFY_AGAIN:
            return False
        self._pinged.remember(address, now)
        return True

    def note_observed(self, family: socket.AddressFamily, address: Address) -> None:
        """Somebody says that this is our address. What near and far nodes see differs; the majority wins."""
        votes = self._observed.setdefault(family, [])
        votes.append(address)
        del votes[:-OBSERVATIONS]

    def observed(self, family: socket.AddressFamily) -> Address | None:
        """Our own address as most of the latest answers name it."""
        votes = Counter(self._observed.get(family, ())).most_common(1)
        return votes[0][0] if votes else None

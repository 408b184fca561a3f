"""Who may connect: connections are bounded in total and for each address.

Those that wait for a request go first when there is no room; those that are being answered never do. All in
the event loop's thread.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

CONNECTIONS_MAX: Final = 1024
"""Connections at once: each may hold a descriptor of a file besides its own."""
CONNECTIONS_PER_ADDRESS: Final = 64
"""Of one address: a site behind one NAT may fetch with several clients; one client uses about four."""
IDLE_GRACE: Final = 5.0
"""Seconds for which a connection may wait for its (next) request before it can be made to go: a client that
is just about to ask is not cut off."""


class Ticket:
    """The place of one connection. ``cut`` ends the connection; whoever holds it at the moment sets it."""

    def __init__(self, admission: Admission, address: str) -> None:
        self._admission = admission
        self.address = address
        self.cut: Callable[[], None] = _nothing

    def waits(self) -> None:
        """The connection waits for a request from now on."""
        self._admission.idle.setdefault(self, time.monotonic())

    def busy(self) -> None:
        """A request has come."""
        self._admission.idle.pop(self, None)

    def release(self) -> None:
        """The connection has ended. Doing so again changes nothing."""
        self.cut = _nothing
        self._admission.forget(self)


class Admission:
    """Counts connections. Addresses are IP addresses in one spelling."""

    def __init__(self, connections: int, per_address: int, idle_grace: float = IDLE_GRACE) -> None:
        self._connections_max = connections
        self._per_address = per_address
        self._idle_grace = idle_grace
        self._held: set[Ticket] = set()
        self._by_address: Counter[str] = Counter()
        self.idle: dict[Ticket, float] = {}
        """Those that wait for a request, and since when; longest first."""
        self.refused = 0

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._held)

    @property
    def addresses(self) -> int:
        """From how many addresses they are."""
        return len(self._by_address)

    def admit(self, address: str) -> Ticket | None:
        """A place for a new connection; None if there is none, and none can be made."""
        if self._by_address[address] >= self._per_address:
            room = self._make_room(address)
        else:
            room = len(self._held) < self._connections_max or self._make_room(None)
        if not room:
            self.refused += 1
            return None
        ticket = Ticket(self, address)
        self._held.add(ticket)
        self._by_address[address] += 1
        ticket.waits()
        return ticket

    def forget(self, ticket: Ticket) -> None:
        """Its connection has ended."""
        self.idle.pop(ticket, None)
        if ticket in self._held:
            self._held.remove(ticket)
            self._by_address[ticket.address] -= 1
            if not self._by_address[ticket.address]:
                del self._by_address[ticket.address]

    def close(self) -> None:
        """Cut all connections that are left."""
        for ticket in list(self._held):
            ticket.cut()

    def _make_room(self, address: str | None) -> bool:
        """End the connection that has waited longest: of this address, or of all."""
        latest = time.monotonic() - self._idle_grace
        for ticket, since in self.idle.items():
            if since > latest:
                break
            if address is None or ticket.address == address:
                cut = ticket.cut
                ticket.release()
                cut()
                return True
        return False


def _nothing() -> None:
    """What cutting a connection does that has ended."""

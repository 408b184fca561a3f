"""Who may connect: connections are bounded in total and for each address, and whoever holds most makes room.

Those that wait for a request go first when there is no room, then the slowest of the network that has most
connections. One that keeps us waiting for very long altogether goes by itself. All in the event loop's
thread, but for what is told of bytes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from p2psync.network.here import network_of

CONNECTIONS_MAX: Final = 1024
"""Connections at once: each may hold a descriptor of a file besides its own."""
CONNECTIONS_PER_ADDRESS: Final = 64
"""Of one address: a site behind one NAT may fetch with several clients; one client uses about four."""
IDLE_GRACE: Final = 5.0
"""Seconds for which a connection may wait for its (next) request before it can be made to go: a client that
is just about to ask is not cut off."""
RATE_MIN: Final = 4_000
"""Bytes a second, on average, that a client must take or send while we wait for it: a modem manages 5,000."""
SLOW_MAX: Final = 180.0
"""Seconds by which a client may be behind that, over all its requests: a line may be dead for a minute or
two.
"""
WINDOW: Final = 60.0
"""Seconds over which it is measured who is slowest."""


class Ticket:
    """The place of one connection. ``cut`` ends the connection; whoever holds it at the moment sets it."""

    def __init__(self, admission: Admission, address: str) -> None:
        self._admission = admission
        self.address = address
        self.network = network_of(address)
        self.cut: Callable[[], None] = _nothing
        self._began = time.monotonic()
        self._moved = 0
        self._before = 0.0
        """The rate in the window before this one."""
        self._waiting: float | None = None
        self._behind = 0.0

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

    def moved(self, count: int) -> None:
        """The client took, or sent, so many bytes. By who has the connection, in any thread."""
        self._moved += count
        self._behind = max(0.0, self._behind - count / RATE_MIN)

    def rate(self, now: float) -> float:
        """Bytes a second that the client has taken lately."""
        seconds = now - self._began
        lately = self._moved / max(seconds, 1.0)
        if seconds > WINDOW:
            self._began, self._moved, self._before = now, 0, lately
        return max(lately, self._before)

    def begin_waiting(self) -> None:
        """From now on we wait for the client, in the middle of a request or an answer."""
        self._waiting = time.monotonic()

    def end_waiting(self) -> None:
        """The client has gone on."""
        if self._waiting is not None:
            self._behind += time.monotonic() - self._waiting
            self._waiting = None

    @property
    def too_slow(self) -> bool:
        """Whether the client has kept us waiting for too long altogether."""
        return self._behind > SLOW_MAX


class Admission:
    """Counts connections. Addresses are clients, as ``network.here.client_of`` has them."""

    def __init__(self, connections: int, per_address: int, idle_grace: float = IDLE_GRACE) -> None:
        self._connections_max = connections
        self._per_address = per_address
        self._idle_grace = idle_grace
        self._held: dict[str, set[Ticket]] = {}
        """By network."""
        self._count = 0
        self._by_address: Counter[str] = Counter()
        self.idle: dict[Ticket, float] = {}
        """Those that wait for a request, and since when; longest first."""
        self.refused = 0

    @property
    def connections(self) -> int:
        """How many there are."""
        return self._count

    @property
    def addresses(self) -> int:
        """From how many addresses they are."""
        return len(self._by_address)

    def admit(self, address: str) -> Ticket | None:
        """A place for a new connection; None if there is none, and none can be made."""
        if self._by_address[address] >= self._per_address:
            room = self._end_idle(address)
        else:
            room = self._count < self._connections_max or self._end_idle(None) or self._end_slowest(address)
        if not room:
            self.refused += 1
            return None
        ticket = Ticket(self, address)
        self._held.setdefault(ticket.network, set()).add(ticket)
        self._count += 1
        self._by_address[address] += 1
        ticket.waits()
        return ticket

    def forget(self, ticket: Ticket) -> None:
        """Its connection has ended."""
        self.idle.pop(ticket, None)
        neighbours = self._held.get(ticket.network, set())
        if ticket in neighbours:
            neighbours.remove(ticket)
            self._count -= 1
            if not neighbours:
                del self._held[ticket.network]
            self._by_address[ticket.address] -= 1
            if not self._by_address[ticket.address]:
                del self._by_address[ticket.address]

    def close(self) -> None:
        """Cut all connections that are left."""
        for ticket in [ticket for tickets in self._held.values() for ticket in tickets]:
            ticket.cut()

    def _end_idle(self, address: str | None) -> bool:
        """End the connection that has waited longest: of this address, or of all."""
        latest = time.monotonic() - self._idle_grace
        for ticket, since in self.idle.items():
            if since > latest:
                break
            if address is None or ticket.address == address:
                _end(ticket)
                return True
        return False

    def _end_slowest(self, newcomer: str) -> bool:
        """End the slowest connection of the network that has most, or else of the address that has most:
        not for a newcomer who would have as many.
        """
        network = max(self._held, key=lambda each: len(self._held[each]))
        if len(self._held.get(network_of(newcomer), ())) + 1 < len(self._held[network]):
            tickets = self._held[network]
        else:
            address, most = self._by_address.most_common(1)[0]
            if self._by_address[newcomer] + 1 >= most:
                return False
            tickets = {ticket for ticket in self._held[network_of(address)] if ticket.address == address}
        now = time.monotonic()
        _end(min(tickets, key=lambda ticket: ticket.rate(now)))
        return True


def _end(ticket: Ticket) -> None:
    cut = ticket.cut
    ticket.release()
    cut()


def _nothing() -> None:
    """What cutting a connection does that has ended."""


ticket_now: Final[ContextVar[Ticket | None]] = ContextVar("ticket_now", default=None)
"""The place of the connection for which a task works."""


@contextmanager
def waiting_for_client() -> Iterator[None]:
    """The task waits for its client for as long as the block takes."""
    ticket = ticket_now.get()
    if ticket is not None:
        ticket.begin_waiting()
    try:
        yield
    finally:
        if ticket is not None:
            ticket.end_waiting()

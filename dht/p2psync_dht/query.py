"""One query under way: its time-outs, its single retransmission, its callbacks.

Sent at 0; silent for the soft time-out, it is sent once more and `slow` is called (the lookup asks somebody
else); after twice that `slow` is called again (nobody should wait for this one any longer); after three
times it has failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from p2psync_dht.contact import Address, Contact
from p2psync_dht.rtt import GIVE_UP, RttBook
from p2psync_dht.wire import Kind

# Seconds that a timer may fire late before our own event loop is to blame, not the other node.
LATE: Final = 0.05
STAGES: Final = int(GIVE_UP)


@dataclass(frozen=True, slots=True)
class Reply:
    """A checked answer: who gave it (its id was proved, or belongs to a query that knew it), body, write
    token.
    """

    contact: Contact
    body: list[Any]
    token: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What one node said: its contact, its write token, and the records under the key (None if it has
    none).
    """

    contact: Contact
    distance: int
    token: bytes
    value: list[Any] | None


class Sender(Protocol):
    """What a query needs of the node that sends it."""

    @property
    def rtts(self) -> RttBook: ...
    def now(self) -> float: ...
    def send(self, datagram: bytes, address: Address) -> None: ...
    def retransmit(self, query: Query) -> None: ...
    def give_up(self, query: Query) -> None: ...


class Query:
    """`done` is called exactly once, with a `Reply` or None. `known_id` False: ask whoever is at that
    address.
    """

    __slots__ = (
        "_due",
        "_soft",
        "_stage",
        "_timer",
        "body",
        "contact",
        "datagram",
        "done",
        "kind",
        "known_id",
        "nonce",
        "pad",
        "protocol",
        "sent_at",
        "sent_times",
        "slow",
        "transaction",
    )

    def __init__(
        self,
        kind: Kind,
        contact: Contact,
        body: list[Any],
        done: Callable[[Reply | None], None],
        *,
        slow: Callable[[], None] | None = None,
        nonce: bytes | None = None,
        pad: int = 0,
        known_id: bool = True,
    ) -> None:
        self.kind = kind
        self.contact = contact
        self.body = body
        self.done = done
        self.slow = slow
        self.nonce = nonce
        self.pad = pad
        self.known_id = known_id
        self.transaction = b""
        self.datagram = b""
        self.sent_at = 0.0
        self.sent_times = 0
        self._timer: asyncio.TimerHandle | None = None
        self._soft = 0.0
        self._due = 0.0
        self._stage = 0

    def start(self, protocol: Sender) -> None:
        """Send, and start the clock."""
        self.protocol = protocol
        self._soft = protocol.rtts.soft(self.contact.address)
        self.sent_at = protocol.now()
        self.sent_times = 1
        self._arm(self._soft)
        protocol.send(self.datagram, self.contact.address)

    def _arm(self, delay: float) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + delay
        self._timer = loop.call_later(delay, self._expired)

    def _expired(self) -> None:
        late = self.protocol.now() - self._due
        if late > LATE:
            # We were busy or asleep; answers may lie unread in the socket's buffer.
            self._arm(min(late, self._soft))
            return
        self._stage += 1
        if self._stage >= STAGES:
            self.protocol.give_up(self)
            return
        self._arm(self._soft)
        if self._stage == 1:
            self.sent_times += 1
            self.protocol.retransmit(self)
        if self.slow is not None:
            self.slow()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def fail(self) -> None:
        self.done(None)

    def succeed(self, reply: Reply) -> None:
        self.done(reply)

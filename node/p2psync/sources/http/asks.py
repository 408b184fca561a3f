"""The orders of one source that are not answered: those that wait, and those that were sent ahead.

Shared by the event loop, which asks and cancels, and the thread that sends and answers.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from p2psync.sources.http.dialect import Dialect
from p2psync.sources.orders import Answer, Order

UNDER_WAY: Final = 3
"""Requests sent ahead on the connection: one being answered, one that the server begins with at once, and one
to hide the delay between the two.
"""


class Ask:
    """One order on its way."""

    __slots__ = ("attempts", "cancelled", "dialect", "order", "request", "sent_at", "tell")

    def __init__(
        self, order: Order, request: bytes, tell: Callable[[Answer], None], dialect: Dialect
    ) -> None:
        self.order = order
        self.dialect = dialect
        """What the request is written in, and the answer read by."""
        self.request = request
        self.tell = tell
        self.attempts = 0
        """How often it was sent and not answered."""
        self.sent_at = 0.0
        self.cancelled = False


class Asks:
    """Orders in the order in which they are to be answered. Whoever does two things with it that belong
    together holds ``news``, on which the thread waits for the next one.
    """

    def __init__(self, ahead: int = UNDER_WAY) -> None:
        self.news = threading.Condition()
        self.ahead = ahead
        """How many may be under way."""
        self._waiting: deque[Ask] = deque()
        self._sent: deque[Ask] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting or self._sent)

    @property
    def front(self) -> Ask | None:
        """The one that is answered next, if any was sent."""
        return self._sent[0] if self._sent else None

    @property
    def under_way(self) -> int:
        """How many were sent."""
        return len(self._sent)

    def add(self, ask: Ask) -> None:
        with self.news:
            self._waiting.append(ask)
            self.news.notify()

    def withdraw(self, token: int) -> Ask | None:
        """Take out the order ``token`` if it waits."""
        with self.news:
            for ask in self._waiting:
                if ask.order.token == token:
                    self._waiting.remove(ask)
                    return ask
            return None

    def mark_cancelled(self, token: int) -> bool:
        """Note that nobody wants the order ``token``, which was sent. True: it is the one in front."""
        with self.news:
            for ask in self._sent:
                if ask.order.token == token:
                    ask.cancelled = True
                    return ask is self._sent[0]
            return False

    def to_send(self) -> Ask | None:
        """The next one to be sent, which counts as sent from now on; None if there is none, or no room for
        one more under way.
        """
        with self.news:
            if not self._waiting or len(self._sent) >= self.ahead:
                return None
            ask = self._waiting.popleft()
            self._sent.append(ask)
            return ask

    def answered(self) -> Ask:
        """The one in front is done with; it cannot be cancelled any more."""
        with self.news:
            return self._sent.popleft()

    def connection_lost(self) -> list[Ask]:
        """What was sent waits again, in front; except those that nobody wants, which are returned."""
        with self.news:
            sent = list(self._sent)
            self._sent.clear()
            if sent:  # The others had only their place behind it.
                sent[0].attempts += 1
            self._waiting.extendleft(reversed([ask for ask in sent if not ask.cancelled]))
            return [ask for ask in sent if ask.cancelled]

    def take_all(self) -> list[Ask]:
        """All that there are; none are left."""
        with self.news:
            every = [*self._sent, *self._waiting]
            self._sent.clear()
            self._waiting.clear()
            return every

"""Whose turn it is: who owes least comes first (`debts`), and among equals addresses take turns, so that
who has many connections gets no more than who has one. Of those that owe something only so many are served
at a time: the others would share the interpreter with them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import Final, Generic, NamedTuple, TypeVar

from p2psync.content.debts import Debts

T = TypeVar("T")

REST: Final = 2.0
"""Seconds of rest for each that a client which owes something was served, while others are served: with a
part of the interpreter's time for each thread, half of it would be hers otherwise.
"""
REST_MAX: Final = 0.25


class Turn(NamedTuple, Generic[T]):
    """Somebody's turn: of which client, and whether that owes something."""

    client: str
    item: T
    owing: bool


class Turns(Generic[T]):
    """A queue, for any number of threads."""

    def __init__(self, debts: Debts, owing_max: int = 1) -> None:
        """``owing_max``: turns that those who owe something may have at the same time."""
        self._debts = debts
        self._owing_max = owing_max
        self._owing = 0
        self._lock = threading.Lock()
        self._queues: OrderedDict[str, deque[T]] = OrderedDict()

    def put(self, client: str, item: T) -> None:
        """Queue up."""
        with self._lock:
            self._queues.setdefault(client, deque()).append(item)

    def take(self) -> Turn[T] | None:
        """The next turn, which ends with `done`. None: nobody queues who may have one now; ask again when
        another has ended.
        """
        with self._lock:
            if not self._queues:
                return None
            client = min(self._queues, key=self._debts.of)
            owing = self._debts.owes(client)
            if owing and self._owing >= self._owing_max:
                return None
            self._owing += owing
            if not owing:
                self._debts.note_other()
            queue = self._queues.pop(client)
            item = queue.popleft()
            if queue:
                self._queues[client] = queue  # behind its equals
            return Turn(client, item, owing)

    def rest_of(self, turn: Turn[T], seconds: float) -> float:
        """For how long a turn that took so much time is to go on without doing anything."""
        return min(REST * seconds, REST_MAX) if turn.owing and self._debts.serves_others else 0.0

    def done(self, turn: Turn[T]) -> None:
        """A turn has ended."""
        with self._lock:
            self._owing -= turn.owing

    def wanted(self, client: str) -> bool:
        """Whether anybody queues who comes before a client, or is its equal."""
        if not self._queues:
            return False
        owing = self._debts.owes(client)
        with self._lock:
            return owing or any(not self._debts.owes(other) for other in self._queues)

    def clear(self) -> list[T]:
        """Take all who queue."""
        with self._lock:
            left = [item for queue in self._queues.values() for item in queue]
            self._queues.clear()
        return left

    def __bool__(self) -> bool:
        """Whether anybody queues."""
        return bool(self._queues)

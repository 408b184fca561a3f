"""Whose turn it is: addresses take turns, and the connections of an address come in the order in which they
queued. So who has many connections gets no more threads than who has one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """A queue, for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: OrderedDict[str, deque[T]] = OrderedDict()

    def put(self, address: str, item: T) -> None:
        """Queue up."""
        with self._lock:
            self._queues.setdefault(address, deque()).append(item)

    def take(self) -> T:
        """The next one, of as many as were put. Raises KeyError if there is none."""
        with self._lock:
            address, queue = self._queues.popitem(last=False)
            item = queue.popleft()
            if queue:
                self._queues[address] = queue
            return item

    def __bool__(self) -> bool:
        """Whether anybody queues."""
        return bool(self._queues)

"""What was read of directories, kept in memory for a while: what was used last, up to a bound."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Values by the number of a directory and the version that it had. Used by any number of threads."""

    def __init__(self, size_max: int) -> None:
        """``size_max``: of all values together, as they are measured by who puts them here."""
        self._size_max = size_max
        self._lock = threading.Lock()
        self._values: OrderedDict[int, tuple[int, T, int]] = OrderedDict()
        self._size = 0

    def get(self, number: int, version: int) -> T | None:
        """What is kept of this version of the directory."""
        with self._lock:
            known = self._values.get(number)
            if known is None or known[0] != version:
                return None
            self._values.move_to_end(number)
            return known[1]

    def put(self, number: int, version: int, value: T, size: int) -> None:
        """Keep it in place of what is kept of other versions, unless it is larger than all may be."""
        if size > self._size_max:
            return
        with self._lock:
            if number in self._values:
                self._size -= self._values.pop(number)[2]
            self._values[number] = version, value, size
            self._size += size
            while self._size > self._size_max:
                self._size -= self._values.popitem(last=False)[1][2]

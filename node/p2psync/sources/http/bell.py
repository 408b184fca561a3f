"""Wakes a thread that waits for a socket: a pipe that it waits for as well."""

from __future__ import annotations

import contextlib
import os


class Bell:
    """``ring`` from any thread makes ``fd`` readable until ``hush``. Ringing twice is like ringing once."""

    def __init__(self) -> None:
        self.fd, self._rope = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._rope, False)

    def ring(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: it is ringing
            os.write(self._rope, b"!")

    def hush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 1 << 16)

    def close(self) -> None:
        """Nobody may be ringing or waiting any more."""
        os.close(self.fd)
        os.close(self._rope)

"""A connection within TLS as a plain socket, for what TLS is to be put over once more: a proxy that is itself
spoken with in TLS, and a server behind it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from typing import Final

PIECE: Final = 256 << 10
"""Bytes that are carried at once, and held in each direction at most."""
_LATER: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def spliced(tls: ssl.SSLSocket) -> socket.socket:
    """The plain end of a pair of sockets, between the other end of which and ``tls`` a thread carries
    bytes. It ends, and closes both, as soon as either side does.
    """
    ours, theirs = socket.socketpair()
    threading.Thread(target=_carry, args=(tls, theirs), name="splice", daemon=True).start()
    return ours


class _Way:
    """One direction."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self._source = source
        self._sink = sink
        self.held = b""
        self.ended = False

    def go_on(self) -> bool:
        """Carry what can be carried without waiting; whether that was anything."""
        with contextlib.suppress(*_LATER):
            if not self.held:
                self.held = self._source.recv(PIECE)
                self.ended = not self.held
            if self.held:
                self.held = self.held[self._sink.send(self.held) :]
                return True
        return False


def _carry(tls: ssl.SSLSocket, plain: socket.socket) -> None:
    with tls, plain, contextlib.suppress(OSError):
        for each in (tls, plain):
            each.setblocking(False)
        out, back = _Way(plain, tls), _Way(tls, plain)
        while not (out.ended or back.ended):
            moved = [way.go_on() for way in (out, back)]
            if not any(moved) and not (out.ended or back.ended):
                waiting = select.poll()
                waiting.register(
                    tls, (0 if back.held else select.POLLIN) | (select.POLLOUT if out.held else 0)
                )
                waiting.register(
                    plain, (0 if out.held else select.POLLIN) | (select.POLLOUT if back.held else 0)
                )
                waiting.poll()

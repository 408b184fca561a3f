"""The process that writes files: takes orders from a socket, carries them out, and sends facts back.

It loads only those parts of p2psync that this needs, so it is ready after some 30 ms. It ends when its orders
do: the socket half closed means that no more come, SIGUSR1 that those that have not begun are to be dropped,
and the socket gone that whoever gave orders is gone. Signals that end p2psync are for the one who gives
orders, who then tells this process.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import signal
import socket
import time
from typing import Any, Final

import msgpack

from p2psync.tree.maker import LOCK_SECONDS, TreeWriter
from p2psync.tree.orders import Broken, Order
from p2psync.tree.packing import RECEIVE_BYTES, Unpacker, pack

TELL_SECONDS: Final = 0.005
"""How long facts are collected while there is more to do: each message wakes the other process."""
HANDLED: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1})
"""Signals that are blocked when the process starts, until it deals with them."""


def main(channel: int) -> None:
    """Work for the one at the other end of the socket ``channel``. Its first message says where:
    [DEST, spared paths, the arena's descriptor (-1: none), its size].
    """
    drop = _Drop()
    os.umask(0)
    with socket.socket(fileno=channel) as sock:
        head = msgpack.Unpacker(use_list=False)
        while True:
            data = sock.recv(1)
            if not data:
                return
            head.feed(data)
            for root, spared, arena, size in head:
                memory = mmap.mmap(arena, size) if arena >= 0 else None
                view = None if memory is None else memoryview(memory)
                writer = TreeWriter(root, frozenset(spared), view, wait=LOCK_SECONDS)
                try:
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        Serving(sock, writer, drop).run()
                finally:
                    writer.close()
                return


class _Drop:
    """Whether orders that have not begun are to be dropped; set by SIGUSR1."""

    def __init__(self) -> None:
        self.wanted = False
        signal.signal(signal.SIGUSR1, self._want)
        for number in HANDLED - {signal.SIGUSR1}:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)

    def _want(self, *_: Any) -> None:
        self.wanted = True


class Serving:
    """Orders from one socket, to their end."""

    def __init__(self, sock: socket.socket, writer: TreeWriter, drop: _Drop) -> None:
        self._sock = sock
        self._writer = writer
        self._drop = drop
        self._facts = bytearray()
        self._told = time.monotonic()
        self._gone = select.poll()
        self._gone.register(sock, 0)  # Only POLLHUP: both directions are closed, the other end is gone.

    def run(self) -> None:
        """Returns when there is no more to do. Raises BrokenPipeError if the other end is gone."""
        orders = Unpacker()
        while data := self._sock.recv(RECEIVE_BYTES):
            orders.feed(data)
            for order in orders:
                if self._drop.wanted or self._gone.poll(0):
                    return self._tell()
                if not self._carry_out(order):
                    return self._tell()
            self._tell()
        return None

    def _carry_out(self, order: Order) -> bool:
        fact = self._writer.carry_out(order)
        if fact is not None:
            self._facts += pack(fact)
            if time.monotonic() - self._told > TELL_SECONDS:
                self._tell()
        return not isinstance(fact, Broken)

    def _tell(self) -> None:
        if self._facts:
            self._sock.sendall(self._facts)
            self._facts.clear()
        self._told = time.monotonic()

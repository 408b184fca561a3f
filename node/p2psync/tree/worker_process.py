"""A writer in a process of its own, at the other end of a pair of sockets."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
from functools import partial
from typing import Final

import msgpack

from p2psync.arena import Arena
from p2psync.state.off_loop import off_loop
from p2psync.tree import writer_main
from p2psync.tree.orders import Order
from p2psync.tree.packing import RECEIVE_BYTES, Unpacker, pack
from p2psync.tree.process import start_process
from p2psync.tree.worker import Writer

ORDERS_AT_ONCE: Final = 256
"""Orders in one call to send them: below IOV_MAX of every system."""


class ProcessWriter(Writer):
    """Sends orders to a process."""

    def __init__(self, sock: socket.socket, process: subprocess.Popen[bytes]) -> None:
        super().__init__()
        self._sock = sock
        self._process = process
        self._out: list[bytes] = []
        self._facts = Unpacker()
        self._stopping = False
        self._ended = self._loop.create_future()
        self._loop.add_reader(sock, self._on_readable)

    @classmethod
    async def start(cls, root: bytes, spared: frozenset[bytes], arena: Arena | None) -> ProcessWriter:
        """Start the process; it is not waited for. Raises OSError if it cannot be started."""
        inherited = [] if arena is None else [arena.fd]
        process, ours = await off_loop(
            partial(start_process, writer_main.__name__, inherited=inherited, blocked=writer_main.HANDLED),
            lost=_end_at_once,
        )
        ours.setblocking(False)
        made = cls(ours, process)
        where = (
            (root, sorted(spared), -1, 0) if arena is None else (root, sorted(spared), arena.fd, arena.size)
        )
        made._write(msgpack.packb(where))
        return made

    @property
    def pid(self) -> int:
        return self._process.pid

    def _send(self, order: Order) -> None:
        self._write(pack(order))

    def _write(self, data: bytes) -> None:
        # Sent with what else this turn of the loop brings: a call, and waking the process, costs more than
        # most orders.
        if not self._out:
            self._loop.call_soon(self._begin_to_send)
        self._out.append(data)

    def _begin_to_send(self) -> None:
        if self._out and self._sock.fileno() >= 0:
            self._loop.add_writer(self._sock, self._on_writable)
            self._on_writable()

    def _on_writable(self) -> None:
        try:
            sent = self._sock.sendmsg(self._out[:ORDERS_AT_ONCE])
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            sent, self._out = 0, []  # It is gone, which the other direction tells.
        done = 0
        while sent and sent >= len(self._out[done]):
            sent -= len(self._out[done])
            done += 1
        del self._out[:done]
        if sent:
            self._out[0] = self._out[0][sent:]
        if not self._out:
            self._loop.remove_writer(self._sock)
            if self._closing:
                self._half_close()

    def _half_close(self) -> None:
        with contextlib.suppress(OSError):  # It may be gone.
            self._sock.shutdown(socket.SHUT_WR)

    def _on_readable(self) -> None:
        try:
            data = self._sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self._over()
            return
        self._facts.feed(data)
        for fact in self._facts:
            self._deliver(fact)

    def _over(self) -> None:
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        reaping = self._loop.run_in_executor(None, self._process.wait)
        reaping.add_done_callback(lambda _: self._ended.set_result(None))
        if not self._closing or (self._sent and not self._stopping):
            self._died()

    async def _end(self) -> None:
        if not self._out:
            self._half_close()
        await asyncio.shield(self._ended)

    async def _stop(self) -> None:
        self._stopping = True
        if not self._ended.done() and self._sock.fileno() >= 0:
            self._out.clear()
            self._loop.remove_writer(self._sock)
            self._process.send_signal(signal.SIGUSR1)
            self._half_close()
        await asyncio.shield(self._ended)


def _end_at_once(started: tuple[subprocess.Popen[bytes], socket.socket]) -> None:
    """Nobody has an order for it, and it has not touched anything."""
    process, ours = started
    ours.close()
    process.kill()
    process.wait()

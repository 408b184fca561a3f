"""The attackers: a process with many connections, each of which sends the next request when it has its
answer.

    python -m bench.attacks.flood HOST PORT CONNECTIONS SLOW NETWORK < REQUESTS

REQUESTS are msgpack: an array of byte strings, which the connections send in turn. They come from addresses
of 127.0.NETWORK.0/24, sixteen connections from each. SLOW: bytes a second that a connection takes of its
answers; 0: all at once. Runs until it is ended, and connects again where the node ends a connection.
"""

from __future__ import annotations

import heapq
import itertools
import selectors
import socket
import sys
import time
from typing import Final

import msgpack

PER_ADDRESS: Final = 16
FIRST_ADDRESS: Final = 2
"""127.0.1.2 and so on: with NETWORK from 1 on, not the network of an honest client of this machine."""
RECEIVED_AT_ONCE: Final = 64 << 10
SMALL_BUFFER: Final = 4096
"""Bytes that the kernel receives ahead for a slow reader."""
AGAIN: Final = 0.25
"""Seconds until a connection that was refused is tried again."""
HEAD_END: Final = b"\r\n\r\n"


class Attacker:
    """One connection."""

    def __init__(
        self, number: int, place: tuple[str, int], requests: list[bytes], slow: int, network: int
    ) -> None:
        self._source = f"127.0.{network}.{FIRST_ADDRESS + number // PER_ADDRESS}"
        self._place = place
        self._requests = itertools.cycle(
            requests[number % len(requests) :] + requests[: number % len(requests)]
        )
        self.slow = slow
        self.sock: socket.socket | None = None
        self._head = bytearray()
        self._left: int | None = None
        """Bytes of the body that are to come; None: the head is not here; -1: chunks, to the last."""
        self._method = b""
        self._unsent = b""
        self.answered = 0

    def connect(self) -> bool:
        """Whether it could be begun."""
        self.close()
        made = socket.socket()
        try:
            made.bind((self._source, 0))
            if self.slow:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            made.settimeout(5)
            made.connect(self._place)
        except OSError:
            made.close()
            return False
        made.setblocking(False)
        self.sock = made
        self.ask()
        return True

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def ask(self) -> None:
        request = next(self._requests)
        self._method = request.partition(b" ")[0]
        self._head.clear()
        self._left = None
        self._unsent = request
        self.send()

    def send(self) -> None:
        if self.sock is not None and self._unsent:
            try:
                self._unsent = self._unsent[self.sock.send(self._unsent) :]
            except BlockingIOError:
                return

    @property
    def wants_to_send(self) -> bool:
        return bool(self._unsent)

    def receive(self) -> int:
        """Take some of the answer; how much. Raises OSError where the connection has ended."""
        if self.sock is None:
            raise ConnectionResetError
        data = self.sock.recv(max(1, self.slow // 4) if self.slow else RECEIVED_AT_ONCE)
        if not data:
            raise ConnectionResetError
        self._took(data)
        return len(data)

    def _took(self, data: bytes) -> None:
        if self._left is None:
            self._head += data
            end = self._head.find(HEAD_END)
            if end < 0:
                return
            head, data = bytes(self._head[:end]).lower(), bytes(self._head[end + len(HEAD_END) :])
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            self._left = 0 if self._method == b"HEAD" else int(length) if length else -1
        if self._left == -1:
            if data.endswith(b"0\r\n\r\n"):
                self._done()
        elif self._left <= len(data):
            self._done()
        else:
            self._left -= len(data)

    def _done(self) -> None:
        self.answered += 1
        self.ask()


def main() -> None:
    host, port, connections, slow, network = sys.argv[1], *map(int, sys.argv[2:6])
    requests = msgpack.unpackb(sys.stdin.buffer.read())
    attackers = [Attacker(number, (host, port), requests, slow, network) for number in range(connections)]
    selector = selectors.DefaultSelector()
    due = [(0.0, number) for number in range(connections)]
    """When which connection is to be opened, or goes on to read."""
    while True:
        now = time.monotonic()
        while due and due[0][0] <= now:
            _, number = heapq.heappop(due)
            attacker = attackers[number]
            if attacker.sock is None and not attacker.connect():
                heapq.heappush(due, (now + AGAIN, number))
            elif attacker.sock is not None:
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if attacker.wants_to_send else 0)
                selector.register(attacker.sock, events, number)
        for key, events in selector.select(max(0.0, due[0][0] - now) if due else None):
            attacker = attackers[key.data]
            pause = 0.0
            try:
                if events & selectors.EVENT_WRITE:
                    attacker.send()
                if events & selectors.EVENT_READ:
                    pause = attacker.receive() / slow if slow else 0.0
            except OSError:
                selector.unregister(key.fileobj)
                attacker.close()
                heapq.heappush(due, (now + AGAIN, key.data))
                continue
            if pause:
                selector.unregister(key.fileobj)
                heapq.heappush(due, (now + pause, key.data))
            else:
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if attacker.wants_to_send else 0)
                if wanted != key.events:
                    selector.modify(key.fileobj, wanted, key.data)


if __name__ == "__main__":
    main()

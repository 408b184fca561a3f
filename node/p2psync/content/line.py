"""One connection that asks for bulk bytes, as a thread goes on with it: requests are read, answers sent.

The socket does not block. What is to be done where it cannot go on is ``bulk``'s.
"""

from __future__ import annotations

import enum
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from p2psync.content import api, send
from p2psync.content.admission import Ticket
from p2psync.content.answers import Answer, TextAnswer, object_answer
from p2psync.content.counters import Counters
from p2psync.content.interface import Library
from p2psync.content.request import END, HEAD_BYTES_MAX, NOT_PLAIN, Request, parse_request
from p2psync.content.rows import ROOM, posted_answer
from p2psync.content.visitors import Visitors

TURN: Final = ROOM
"""Bytes that a connection is sent before others get their turn: a whole batch, or as much of a file."""
PATIENCE: Final = 20
"""Milliseconds that a thread waits for a client while nobody needs it: going to the event loop and back costs
as much as a small answer."""
SHORT_PATIENCE: Final = 2
"""Milliseconds that it waits for one to take the rest of an answer while others do need it: a client nearby
takes a megabyte in that time, and what is parked is read again."""
RECEIVE: Final = 64 << 10
"""Bytes received at once: several requests for ranges, or a quarter of the longest batch."""


class After(enum.Enum):
    """What is to be done with a connection that a thread let go."""

    WAIT = enum.auto()
    """Until the client takes more of the answer, or, without one, sends more."""
    QUEUE = enum.auto()
    """Others are to have their turn."""
    OTHER = enum.auto()
    """Something else is asked for."""
    END = enum.auto()


@dataclass(frozen=True)
class Desk:
    """What a thread works with. ``wanted``: whether others need a thread that a client has. ``closing``:
    whether no further requests are answered. ``room``: the buffer of this thread.
    """

    library: Library
    counters: Counters
    wanted: Callable[[str], bool]
    closing: Callable[[], bool]
    room: Callable[[], memoryview]
    visitors: Visitors


class Line:
    """The connection: what came, and the answer that is under way. With one thread at a time. Times are those
    of time.monotonic.
    """

    def __init__(self, sock: socket.socket, received: bytes, ticket: Ticket, head_due: float) -> None:
        self.sock = sock
        self.ticket = ticket
        self.received = bytearray(received)
        self.answer: Answer | None = None
        self.head_due = head_due
        """When the head of the next request must have come."""
        self.body_due: float | None = None
        """When the body of a request whose head has come must have; None: no head has."""
        self.slice_due = 0.0
        """When the next slice of the answer must have been taken."""
        self.sent = 0
        """Bytes of answers that went out."""
        self._slice_left = 0
        self._keep_alive = True

    def go_on(self, desk: Desk, keepalive: float) -> After:
        """Read requests and answer them as long as there are any, and the client takes the answers.

        ``keepalive``: seconds from an answer to the next head. Raises OSError: the client is gone, or what it
        is being sent has changed; either way the connection has to end.
        """
        while True:
            if self.answer is None:
                request = self._next()
                if request is NOT_PLAIN or (request is not None and not request.is_bulk()):
                    return After.OTHER
                if request is None or not self._begin(desk, request):
                    if not self._receive(desk):
                        return After.WAIT
                    continue
            if not self._send(desk):
                return After.WAIT
            if self.answer is None:
                self.head_due = time.monotonic() + keepalive
                if not self._keep_alive or desk.closing():
                    return After.END
            if desk.wanted(self.ticket.address):
                return After.QUEUE

    def refuse(self, answer: Answer) -> None:
        """Answer what has not come completely; no other request is answered after that."""
        self._keep_alive = False
        self._answer(answer)

    def park(self) -> None:
        """The thread's buffer is another's from here on."""
        if self.answer is not None:
            self.answer.park()

    def close(self) -> None:
        """End the connection."""
        if self.answer is not None:
            self.answer.close()
            self.answer = None
        self.sock.close()

    def _next(self) -> Request | None:
        """The next request, if its head is here."""
        end = self.received.find(END)
        if end >= 0:
            return parse_request(bytes(self.received[:end]))
        return None if len(self.received) <= HEAD_BYTES_MAX else NOT_PLAIN

    def _begin(self, desk: Desk, request: Request) -> bool:
        """Begin to answer. False: the body is not here yet."""
        body = self.received.find(END) + len(END)
        end = body + (request.length or 0)
        if len(self.received) < end:
            if self.body_due is None:
                self.body_due = time.monotonic() + api.BODY_TIMEOUT
            return False
        raw = bytes(self.received[body:end])
        del self.received[:end]
        self._keep_alive = request.keep_alive
        digest = request.object_digest()
        refused = desk.visitors.refusal(self.ticket.address, request.method, request.headers)
        if refused is not None:
            self._answer(TextAnswer(*refused))
        elif digest is not None:
            self._answer(object_answer(desk.library, digest, request.headers, desk.counters))
        else:
            self._answer(posted_answer(desk.library, request.target, raw, desk.counters))
        return True

    def _answer(self, answer: Answer) -> None:
        self.answer = answer
        self.body_due = None
        self._next_slice()

    def _next_slice(self) -> None:
        self._slice_left = send.SLICE
        self.slice_due = time.monotonic() + send.SEND_TIMEOUT

    def _send(self, desk: Desk) -> bool:
        """Send as much of the answer as one turn allows. False: the client takes no more now."""
        answer = self.answer
        left = TURN
        while answer is not None and left > 0:
            try:
                count = answer.send(self.sock, desk.room())
            except BlockingIOError:
                if _ready(
                    self.sock,
                    select.POLLOUT,
                    SHORT_PATIENCE if desk.wanted(self.ticket.address) else PATIENCE,
                ):
                    continue
                return False
            left -= count
            self.sent += count
            self.ticket.moved(count)
            self._slice_left -= count
            if answer.done:
                desk.counters.note(requests=1)
                answer.close()
                answer = self.answer = None
            elif self._slice_left <= 0:
                self._next_slice()
        return True

    def _receive(self, desk: Desk) -> bool:
        """Receive something. False: nothing has come. Raises OSError where nothing more will."""
        while True:
            try:
                data = self.sock.recv(RECEIVE)
            except BlockingIOError:
                patient = not desk.wanted(self.ticket.address) and not desk.closing()
                if patient and _ready(self.sock, select.POLLIN, PATIENCE):
                    continue
                return False
            if not data:
                raise ConnectionResetError
            self.received += data
            self.ticket.moved(len(data))
            return True


def _ready(sock: socket.socket, event: int, milliseconds: int) -> bool:
    """Wait for a moment until a socket is ready."""
    poll = select.poll()
    poll.register(sock, event)
    return bool(poll.poll(milliseconds))

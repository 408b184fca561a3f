"""Where connections come in: each request goes to the threads for bulk bytes, or to the HTTP library.

The library is handed one plain request at a time, so that a connection can go to a thread between two of
them. What is not plain it gets together with all the rest of the connection.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from aiohttp.abc import AbstractAccessLogger
from aiohttp.web import BaseRequest, StreamResponse

from p2psync.content.admission import Admission, Ticket
from p2psync.content.bulk import Bulk
from p2psync.content.request import END, HEAD_BYTES_MAX, NOT_PLAIN, parse_request
from p2psync.content.send import SEND_TIMEOUT
from p2psync.network.here import client_of

HELD_MAX: Final = 64 << 10
"""Bytes of requests behind the one that is being answered, after which no more are read."""
LOOK_AGAIN: Final = 0.02
"""Seconds after which it is looked again whether the client has taken the last answer."""


@dataclass(frozen=True)
class House:
    """What is behind the door. ``protocol`` makes the HTTP library's protocol of one connection. Timeouts in
    seconds: from the connection, and from an answer, to the end of the next request's head."""

    admission: Admission
    bulk: Bulk
    protocol: Callable[[], asyncio.Protocol]
    first_request_timeout: float
    keepalive_timeout: float


class Door(asyncio.Protocol):
    """One connection, while it is with the event loop."""

    def __init__(
        self, house: House, held: bytes = b"", ticket: Ticket | None = None, *, tls: bool = False
    ) -> None:
        """``held`` and ``ticket`` of a connection that comes back from a thread, or was admitted before.
        ``tls``: it stays with the event loop.
        """
        self._house = house
        self._tls = tls
        self._held = bytearray(held)
        self._ticket = ticket
        self._first = ticket is None
        self._transport: asyncio.Transport | None = None
        self._http: asyncio.Protocol | None = None
        self._through = False
        """All that comes is the library's, to the end of the connection."""
        self._answering = False
        self._body = 0
        """Bytes of the body of the request that is being answered that are still to come."""
        self._timer: asyncio.TimerHandle | None = None
        self._taken_due = 0.0
        """When the client must have taken the last answer, of a connection that is to go to a thread."""

    @property
    def ticket(self) -> Ticket | None:
        """The place of the connection, while it is here."""
        return self._ticket

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = cast(asyncio.Transport, transport)
        self._transport = made
        if self._ticket is None:
            peer = made.get_extra_info("peername")
            self._ticket = self._house.admission.admit(client_of(peer[0]) if peer else "")
            if self._ticket is None:
                made.abort()
                return
        self._ticket.cut = made.abort
        self._wait()
        self._look()

    def data_received(self, data: bytes) -> None:
        if self._through:
            self._library().data_received(data)
            return
        if self._body:
            part = data[: self._body]
            self._body -= len(part)
            data = data[len(part) :]
            self._library().data_received(part)
        self._held += data
        if not self._answering and not self._body:
            self._look()
        elif len(self._held) > HELD_MAX and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> bool | None:
        return None if self._http is None else self._http.eof_received()

    def pause_writing(self) -> None:
        if self._http is not None:
            self._http.pause_writing()

    def resume_writing(self) -> None:
        if self._http is not None:
            self._http.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._transport = None
        if self._http is not None:
            self._http.connection_lost(exc)
        if self._ticket is not None:
            self._ticket.release()

    # What the library tells.

    def answered(self, keep_alive: bool) -> None:
        """The request has its answer. Where no other may follow, the library ends the connection."""
        if self._through or self._transport is None or self._transport.is_closing():
            return
        self._answering = False
        if not keep_alive:
            self._through = True
            return
        self._transport.resume_reading()
        if not self._body:
            self._wait()
            self._look()

    # Where a request goes.

    def _look(self) -> None:
        """Send the next request where it belongs, if its head is here."""
        end = self._held.find(END)
        if end < 0:
            line = self._held.find(b"\n")
            if len(self._held) > HEAD_BYTES_MAX or (line >= 0 and self._held[line - 1 : line] != b"\r"):
                self._pass_through()
            return
        request = parse_request(bytes(self._held[:end]))
        if request is NOT_PLAIN:
            self._pass_through()
        elif request.is_bulk() and not self._tls:
            self._hand_over()
        else:
            self._busy()
            self._answering = True
            whole = end + len(END) + (request.length or 0)
            data = bytes(self._held[:whole])
            del self._held[:whole]
            self._body = whole - len(data)
            self._library().data_received(data)

    def _hand_over(self) -> None:
        """The connection goes to a thread, by another descriptor of its socket: nothing is shut down."""
        transport, ticket = self._transport, self._ticket
        if transport is None or transport.is_closing() or ticket is None:
            return
        self._busy()
        if transport.get_write_buffer_size():
            transport.pause_reading()
            loop = asyncio.get_running_loop()
            self._taken_due = self._taken_due or loop.time() + SEND_TIMEOUT
            self._timer = loop.call_later(LOOK_AGAIN, self._taken)
            return
        try:
            sock = transport.get_extra_info("socket").dup()
        except OSError:  # no descriptor is left
            transport.abort()
            return
        sock.setblocking(False)
        self._ticket = None
        transport.abort()
        self._house.bulk.take(sock, bytes(self._held), ticket)

    def _taken(self) -> None:
        """Look again, as the client may have taken the last answer."""
        self._timer = None
        if self._transport is None:
            return
        if asyncio.get_running_loop().time() > self._taken_due:
            self._transport.abort()
            return
        self._transport.resume_reading()
        self._look()

    def _pass_through(self) -> None:
        self._busy()
        self._through = True
        data = bytes(self._held)
        self._held.clear()
        self._library().data_received(data)

    def _library(self) -> asyncio.Protocol:
        if self._http is None:
            self._http = self._house.protocol()
            if self._transport is not None:
                self._http.connection_made(self._transport)
        return self._http

    # Waiting for a request.

    def _wait(self) -> None:
        house = self._house
        seconds = house.first_request_timeout if self._first else house.keepalive_timeout
        self._first = False
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._late)
        if self._ticket is not None:
            self._ticket.waits()

    def _busy(self) -> None:
        self._stop_timer()
        if self._ticket is not None:
            self._ticket.busy()

    def _late(self) -> None:
        self._timer = None
        if self._transport is not None:
            self._transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Answered(AbstractAccessLogger):
    """Tells the door when the library has answered a request: the one place where it says so."""

    def __init__(self, logger: logging.Logger, log_format: str) -> None:
        super().__init__(logger, log_format)

    def log(self, request: BaseRequest, response: StreamResponse, time: float) -> None:
        transport = request.transport
        door = None if transport is None else transport.get_protocol()
        if isinstance(door, Door):
            # Not before the library is through with this request.
            asyncio.get_running_loop().call_soon(door.answered, bool(response.keep_alive))


async def come_back(house: House, sock: socket.socket, held: bytes, ticket: Ticket) -> None:
    """A connection from a thread, with what was read of its next request."""
    loop = asyncio.get_running_loop()
    try:
        await loop.connect_accepted_socket(lambda: Door(house, held, ticket), sock)
    except OSError:
        sock.close()
        ticket.release()

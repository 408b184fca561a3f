"""One HTTP/1.1 connection for bulk bytes: requests pipelined, bodies received straight into the caller's
memory.

An ``asyncio.BufferedProtocol``: long bodies go from the socket into the view that a sink offers, without a
copy; heads, chunk framing and short bodies go through one small buffer that is used again and again.
Whatever a server does wrong ends this connection with an error that names the host; it never reaches
another request as data. Opening connections, sharing requests among them and trying again is ``pool``'s;
what the bytes mean is the sinks' and the sources'.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum, auto
from typing import Final, cast

from p2psync.errors import FormatError, NetworkError, TransferTimeout
from p2psync.sources.http.forward import Forward
from p2psync.sources.http.head import (
    CHUNK_LINE_MAX,
    HEAD_BYTES_MAX,
    INFORMATIONAL_MAX,
    TRAILER_BYTES_MAX,
    ResponseHead,
    parse_chunk_line,
    parse_response_head,
)
from p2psync.sources.http.rate import RateLimiter
from p2psync.sources.http.sinks import UNWANTED, Sink

SCRATCH_SIZE: Final = 64 << 10
"""Bytes of the buffer for all that has no place of its own; must hold a whole head. Small enough to stay in
a core's cache."""
DIRECT_MIN: Final = 16 << 10
"""From this many expected bytes on, a read goes straight into their place; below, one read of many small
things costs less."""
DRAIN_MAX: Final = 64 << 10
"""Bytes of an unwanted body (an error page) that are read to keep the connection; a longer one closes it
instead."""
BODY_RATE_MIN: Final = 256
"""Bytes a second that a body must reach once the idle time is over: slower than any link in use, faster
than a trickle that is meant to hold a connection forever."""


NO_HEAD: Final = ResponseHead(0, {}, 0, False)
"""Stands where no response has come yet."""


class Dropped(NetworkError):
    """The connection ended before this response began, through no fault of this request: it may be sent
    again."""


class _State(Enum):
    HEAD = auto()
    BODY = auto()
    CHUNK_LINE = auto()
    CHUNK_DATA = auto()
    CHUNK_END = auto()
    TRAILER = auto()


class _Exchange:
    """One request that waits for its response."""

    __slots__ = ("bodiless", "future", "sink", "wanted")

    def __init__(self, sink: Sink, bodiless: bool, future: asyncio.Future[ResponseHead]) -> None:
        self.sink = sink
        self.bodiless = bodiless
        self.future = future
        self.wanted = False


class Connection(asyncio.BufferedProtocol):
    """One connection to the host that errors call ``name``. Made by ``pool``.

    ``idle_timeout`` (seconds) bounds silence while a response is due, and the time that a head may take
    once it has begun. ``forward``: a proxy is at the other end, which hands requests on.
    """

    def __init__(
        self,
        name: str,
        *,
        idle_timeout: float,
        limiter: RateLimiter | None = None,
        forward: Forward | None = None,
    ) -> None:
        self.name = name
        self.forward = forward
        self._idle_timeout = idle_timeout
        self._limiter = limiter
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._queue: deque[_Exchange] = deque()
        self._error: NetworkError | FormatError | None = None
        self._lost = self._loop.create_future()
        # The reading side.
        self._scratch = bytearray(SCRATCH_SIZE)
        self._view = memoryview(self._scratch)
        self._begin = self._end = 0
        self._direct = False
        self._state = _State.HEAD
        self._head: ResponseHead = NO_HEAD
        self._left = 0  # bytes of the body, or of its current chunk, that have not come
        self._small = 0  # bytes of trailers or of an unwanted body, 1xx heads: what is bounded by count
        # The clock of the current response.
        self._heard_at = 0.0
        self._began_at: float | None = None
        self._body_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._resume: asyncio.TimerHandle | None = None

    @property
    def closed(self) -> bool:
        """True once no further request can be sent."""
        return self._error is not None or self._transport is None

    @property
    def pending(self) -> int:
        """Requests whose responses are not complete."""
        return len(self._queue)

    async def request(self, head: bytes, body: bytes, sink: Sink, *, bodiless: bool = False) -> ResponseHead:
        """Send ``head`` and ``body`` at once, behind what is already under way; the response when ``sink``
        has all of it.

        A status other than the sink wants is no error here: its body is dropped and the head returned. If
        the caller is cancelled meanwhile, no byte reaches the sink afterwards; the connection is closed at
        the latest where a long body would begin.

        Raises:
            Dropped: the connection ended before the response began.
            TransferTimeout: the server was silent, or slower than ``BODY_RATE_MIN``.
            NetworkError: the connection ended within the response.
            FormatError: the response breaks the protocol, or the sink refused it.
        """
        if self._transport is None or self._error is not None:
            raise Dropped(f"{self.name}: the connection was closed")
        exchange = _Exchange(sink, bodiless, self._loop.create_future())
        if not self._queue:
            self._heard_at = self._loop.time()
        self._queue.append(exchange)
        raw = head + body
        self._transport.write(raw if self.forward is None else self.forward.request(raw))
        if self._timer is None:
            self._timer = self._loop.call_later(self._idle_timeout, self._watch)
        try:
            return await exchange.future
        except asyncio.CancelledError:
            exchange.sink = UNWANTED  # further back in the queue, the answers in front need not suffer
            if self._queue and exchange is self._queue[0]:
                self._fail(
                    Dropped(f"{self.name}: the connection was closed, as a request on it was given up")
                )
            raise

    async def close(self) -> None:
        """Close now; requests under way fail."""
        self._fail(Dropped(f"{self.name}: the connection was closed"))
        if self._transport is not None:
            await asyncio.wait([self._lost])

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._error is None:
            reason = f": {exc}" if exc is not None else ""
            if self._began_at is None:
                self._fail(Dropped(f"{self.name}: closed the connection before it answered{reason}"))
            else:
                self._fail(
                    NetworkError(f"{self.name}: closed the connection in the middle of an answer{reason}")
                )
        if not self._lost.done():
            self._lost.set_result(None)

    def get_buffer(self, sizehint: int) -> memoryview:
        self._direct = False
        if (
            self._begin == self._end
            and self._left >= DIRECT_MIN
            and self._state in (_State.BODY, _State.CHUNK_DATA)
            and self._queue[0].wanted
            and (place := self._queue[0].sink.buffer()) is not None
            and len(place) >= DIRECT_MIN
        ):
            self._direct = True
            return place[: self._read_size(min(self._left, len(place)))]
        if self._begin == self._end:
            self._begin = self._end = 0
        elif self._end == SCRATCH_SIZE:
            count = self._end - self._begin
            self._scratch[:count] = self._scratch[self._begin : self._end]
            self._begin, self._end = 0, count
        return self._view[self._end : self._end + self._read_size(SCRATCH_SIZE)]

    def _read_size(self, most: int) -> int:
        return most if self._limiter is None else min(most, self._limiter.read_size)

    def buffer_updated(self, nbytes: int) -> None:
        if self._error is not None:
            return
        self._heard_at = self._loop.time()
        try:
            if self._direct:
                self._queue[0].sink.advance(nbytes)
                self._count_body(nbytes)
            else:
                self._end += nbytes
            self._parse()
        except FormatError as error:
            self._fail(FormatError(f"{self.name}: {error}"))
            return
        except NetworkError as error:
            self._fail(NetworkError(f"{self.name}: {error}"))
            return
        if self._limiter is not None and not self.closed and (wait := self._limiter.take(nbytes)) > 0:
            self._pause(wait)

    def eof_received(self) -> bool:
        return False  # the transport closes itself; connection_lost says what is missing

    # Reading.

    def _parse(self) -> None:
        while self._error is None:
            state = self._state
            if state is _State.HEAD:
                going_on = self._parse_head()
            elif state in (_State.BODY, _State.CHUNK_DATA):
                going_on = self._parse_data()
            else:
                going_on = self._parse_framing()
            if not going_on:
                return

    def _line_end(self, mark: bytes, limit: int) -> int:
        """Where ``mark`` begins in what was read, -1 if it has not come yet; FormatError if it takes more
        than ``limit`` bytes."""
        found = self._scratch.find(mark, self._begin, self._end)
        if (self._end if found < 0 else found) - self._begin > limit:
            raise FormatError(f"sent more than {limit} bytes where a line or head should have ended")
        return found

    def _parse_head(self) -> bool:
        if self._begin == self._end:
            return False
        if not self._queue:
            raise FormatError("sent an answer to no question")
        if self._began_at is None:
            self._began_at = self._heard_at
        found = self._line_end(b"\r\n\r\n", HEAD_BYTES_MAX)
        if found < 0:
            return False
        exchange = self._queue[0]
        head = parse_response_head(bytes(self._view[self._begin : found]), bodiless=exchange.bodiless)
        self._begin = found + 4
        if head.status < 200:
            self._small += 1
            if head.status == 101 or self._small > INFORMATIONAL_MAX:
                raise FormatError("sent informational answers in place of an answer")
            return True
        if self.forward is not None:
            self.forward.check(head)
        self._head, self._small, self._body_bytes = head, 0, 0
        exchange.wanted = exchange.sink.begin(head)
        if not exchange.wanted and head.length is not None and head.length > DRAIN_MAX:
            self._finish(reusable=False)
        elif head.length is None:
            self._state = _State.CHUNK_LINE
        elif head.length == 0:
            self._finish(reusable=True)
        else:
            self._state, self._left = _State.BODY, head.length
        return True

    def _parse_data(self) -> bool:
        count = min(self._left, self._end - self._begin)
        if count:
            exchange = self._queue[0]
            if exchange.wanted:
                exchange.sink.feed(self._view[self._begin : self._begin + count])
            self._begin += count
            self._count_body(count)
        if self._left:
            return False
        if self._state is _State.BODY:
            self._finish(reusable=True)
        else:
            self._state = _State.CHUNK_END
        return True

    def _count_body(self, count: int) -> None:
        self._left -= count
        self._body_bytes += count
        if not self._queue[0].wanted:
            self._small += count
            if self._small > DRAIN_MAX:
                self._finish(reusable=False)

    def _parse_framing(self) -> bool:
        found = self._line_end(
            b"\r\n", TRAILER_BYTES_MAX if self._state is _State.TRAILER else CHUNK_LINE_MAX
        )
        if found < 0:
            return False
        line = bytes(self._view[self._begin : found])
        self._begin = found + 2
        if self._state is _State.CHUNK_LINE:
            self._left = parse_chunk_line(line)
            self._small = self._small if self._left else 0
            self._state = _State.CHUNK_DATA if self._left else _State.TRAILER
        elif self._state is _State.CHUNK_END:
            if line:
                raise FormatError("sent a chunk that is longer than it said")
            self._state = _State.CHUNK_LINE
        elif line:
            self._small += len(line) + 2
            if self._small > TRAILER_BYTES_MAX:
                raise FormatError(f"sent more than {TRAILER_BYTES_MAX} bytes of trailers")
        else:
            self._finish(reusable=True)
        return True

    def _finish(self, *, reusable: bool) -> None:
        """The response at the front is complete, or (not ``reusable``) its rest is not worth reading."""
        exchange = self._queue[0]
        if exchange.wanted:
            exchange.sink.end()
        self._queue.popleft()
        self._began_at, self._small, self._left = None, 0, 0
        self._state = _State.HEAD
        if not exchange.future.done():
            exchange.future.set_result(self._head)
        if not (reusable and self._head.keep_alive):
            self._fail(Dropped(f"{self.name}: the connection ended with the answer before"))

    # Time.

    def _watch(self) -> None:
        """Notice silence and trickles. Runs now and then while a response is due, not once for each read."""
        self._timer = None
        if not self._queue or self._error is not None:
            return
        now = self._loop.time()
        if self._resume is not None:
            self._heard_at = now
        silent = now - self._heard_at
        if silent >= self._idle_timeout:
            self._fail(TransferTimeout(f"{self.name}: silent for {silent:.0f} s while an answer was due"))
            return
        if self._began_at is not None:
            late = now - self._began_at - self._idle_timeout
            if late > self._body_bytes / BODY_RATE_MIN:
                self._fail(TransferTimeout(f"{self.name}: its answer trickles in too slowly to wait for"))
                return
        self._timer = self._loop.call_later(self._idle_timeout - silent + 0.01, self._watch)

    def _pause(self, seconds: float) -> None:
        if self._transport is None:
            return
        if self._began_at is not None:
            self._began_at += seconds  # time that the limit takes is not the server's
        if self._resume is None:
            self._transport.pause_reading()
        else:
            self._resume.cancel()
        self._resume = self._loop.call_later(seconds, self._unpause)

    def _unpause(self) -> None:
        self._resume = None
        self._heard_at = self._loop.time()
        if self._transport is not None and self._error is None:
            self._transport.resume_reading()

    # The end.

    def _fail(self, error: NetworkError | FormatError) -> None:
        """End the connection: the response at the front gets ``error``, those behind it are ``Dropped``."""
        if self._error is not None:
            return
        self._error = error
        for handle in (self._timer, self._resume):
            if handle is not None:
                handle.cancel()
        self._timer = self._resume = None
        if self._transport is not None:
            self._transport.abort()
        while self._queue:
            exchange = self._queue.popleft()
            if not exchange.future.done():
                exchange.future.set_exception(error)
            if not isinstance(error, Dropped):
                error = Dropped(f"{self.name}: the connection ended with the answer before")

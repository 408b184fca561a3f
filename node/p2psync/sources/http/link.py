"""One blocking HTTP/1.1 connection, read by one thread: long bodies go from the socket straight into the
caller's memory, and all else through one small buffer.

What is asked, in which order and what becomes of it when the connection fails is ``bulk``'s. Errors are
raised without the host's name, which the thread adds.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Final

from p2psync.errors import FormatError, NetworkError, TransferTimeout
from p2psync.network.dial import TICK, Handle
from p2psync.sources.http.bell import Bell
from p2psync.sources.http.connection import BODY_RATE_MIN, Dropped
from p2psync.sources.http.forward import Forward
from p2psync.sources.http.head import (
    HEAD_BYTES_MAX,
    INFORMATIONAL_MAX,
    ResponseHead,
    parse_response_head,
)
from p2psync.sources.http.rate import RateLimiter

SCRATCH_SIZE: Final = 2 * HEAD_BYTES_MAX
"""Bytes of the buffer for heads and chunk lines, and what comes along with them."""
SCRATCH_READ: Final = 4 << 10
"""Bytes asked for where a head or a chunk line is due: a usual head, and little of the body, which would have
to be copied.
"""
PIECE: Final = 4 << 20
"""Bytes that one call receives at most: a whole range. Measured for 1 GiB: 0.73 s of CPU, and 0.85 in pieces
of 1 MiB, 1.05 in pieces of 64 KiB. A call ends with the tick at the latest, so new requests are sent
meanwhile.
"""
TCP_INFO_SIZE: Final = 136
"""Bytes of struct tcp_info (linux/tcp.h) up to and with tcpi_bytes_received, which Linux 4.1 has."""
_BYTES_RECEIVED: Final = struct.Struct("=Q")
_TIMEVAL: Final = struct.Struct("@ll")


class Link:
    """A connected socket, which ``handle`` holds.

    ``idle_timeout`` (seconds) bounds silence while an answer is due, and the time that a head may take.
    ``between`` is called between two pieces of a long body, and while an answer is waited for when ``bell``
    rings. ``count`` is told what was read, ``pause`` waits
    for as long as the bandwidth limit wants.
    """

    def __init__(
        self,
        connected: socket.socket,
        handle: Handle,
        *,
        idle_timeout: float,
        limiter: RateLimiter | None,
        bell: Bell,
        count: Callable[[int], None],
        between: Callable[[], None],
        pause: Callable[[float], None],
        forward: Forward | None = None,
    ) -> None:
        self._socket = connected
        self._forward = forward
        self._handle = handle
        self._idle_timeout = idle_timeout
        self._limiter = limiter
        self._count = count
        self._between = between
        self._pause = pause
        self._scratch = bytearray(SCRATCH_SIZE)
        self._view = memoryview(self._scratch)
        self._begin = self._end = 0
        self._unsent = memoryview(b"")
        self._broken = False
        self._counted = 0
        self._heard_at = time.monotonic()
        self._began_at: float | None = None
        self._answer_bytes = 0
        tick = min(TICK, idle_timeout / 2)
        self._tls = isinstance(connected, ssl.SSLSocket)
        self._tick = tick
        self._bell = bell
        self._waiting = select.poll()
        for descriptor in (connected, bell.fd):
            self._waiting.register(descriptor, select.POLLIN)
        if self._tls:
            connected.settimeout(tick)
        else:
            # The kernel's own time-outs: one system call for each read, where settimeout() takes two.
            connected.settimeout(None)
            interval = _TIMEVAL.pack(int(tick), int(tick % 1 * 1e6))
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                connected.setsockopt(socket.SOL_SOCKET, option, interval)

    def close(self) -> None:
        """Close the connection. What TLS added to the bytes is counted now."""
        if self._tls:
            self._count(max(_bytes_received(self._socket) - self._counted, 0))
        self._handle.close()

    @property
    def begun(self) -> bool:
        """Whether the answer that was read last has come in part."""
        return self._began_at is not None

    # Sending.

    @property
    def sending(self) -> bool:
        """Whether the last request is not sent in full."""
        return bool(self._unsent)

    def send(self, request: bytes) -> None:
        """Take the next request; ``push`` sends it."""
        self._unsent = memoryview(request if self._forward is None else self._forward.request(request))

    def push(self, *, wait: bool) -> None:
        """Send what the socket takes; all, where nothing else is to be done meanwhile (``wait``).

        A connection that fails here may still hold an answer: whoever reads next will see.
        """
        idle_since = time.monotonic()
        while self._unsent and not self._broken:
            try:
                sent = self._send(wait=wait)
            except (BlockingIOError, TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if not wait:
                    return
                if time.monotonic() - idle_since >= self._idle_timeout:
                    raise TransferTimeout(f"took no request for {self._idle_timeout:.0f} s") from None
                continue
            except OSError:
                self._broken = True
                break
            self._unsent = self._unsent[sent:]
            idle_since = time.monotonic()
        if self._broken:
            self._unsent = memoryview(b"")

    def _send(self, *, wait: bool) -> int:
        if wait:
            return self._socket.send(self._unsent)
        if not self._tls:
            return self._socket.send(self._unsent, socket.MSG_DONTWAIT)
        self._socket.settimeout(0.0)
        try:
            return self._socket.send(self._unsent)
        finally:
            self._socket.settimeout(self._tick)

    def fresh(self) -> bool:
        """Whether an idle connection can be used: not closed by the server, and nothing unasked for came."""
        if self._broken or self._begin != self._end:
            return False
        try:
            if not self._tls:
                self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
                return False
            self._socket.settimeout(0.0)
            self._socket.recv(1)  # TLS may have sent tickets, which this takes in; data would be unasked for.
        except (BlockingIOError, ssl.SSLWantReadError):
            if self._tls:
                self._socket.settimeout(self._tick)
            return True
        except OSError:
            return False
        return False

    # Receiving.

    def head(self) -> ResponseHead:
        """The head of the next answer.

        Raises:
            Dropped: the connection ended before it began. Others as ``fill``.
        """
        self._heard_at = time.monotonic()
        self._began_at = self._heard_at if self._begin != self._end else None
        self._answer_bytes = 0
        self._await_answer()
        for _ in range(INFORMATIONAL_MAX + 1):
            head = parse_response_head(self.until(b"\r\n\r\n", HEAD_BYTES_MAX), bodiless=False)
            if head.status >= 200:
                if self._forward is not None:
                    self._forward.check(head)
                return head
            if head.status == 101:
                break
        raise FormatError("sent informational answers in place of an answer")

    def _await_answer(self) -> None:
        """Until the answer begins; meanwhile other requests may come, to be sent behind it."""
        while self._begin == self._end and not self._pending():
            ready = [descriptor for descriptor, _ in self._waiting.poll(1000 * self._tick)]
            if self._bell.fd in ready:
                self._bell.hush()
            if not ready:
                self._check_time()
            elif ready != [self._bell.fd]:
                return
            self._between()

    def _pending(self) -> bool:
        """Whether TLS holds data that the socket does not tell of."""
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    def until(self, mark: bytes, limit: int) -> bytes:
        """What comes before ``mark``, at most ``limit`` bytes of it; the mark is read as well."""
        while True:
            found = self._scratch.find(mark, self._begin, self._end)
            if (self._end if found < 0 else found) - self._begin > limit:
                raise FormatError(f"sent more than {limit} bytes where a line or head should have ended")
            if found >= 0:
                raw = bytes(self._view[self._begin : found])
                self._begin = found + len(mark)
                return raw
            if self._begin == self._end:
                self._begin = self._end = 0
            elif SCRATCH_SIZE - self._end < SCRATCH_READ:
                count = self._end - self._begin
                self._scratch[:count] = self._scratch[self._begin : self._end]
                self._begin, self._end = 0, count
            self._end += self._receive(self._view[self._end : self._end + SCRATCH_READ], 0)

    def fill(self, view: memoryview) -> None:
        """Read as many bytes as ``view`` has room for.

        Raises:
            TransferTimeout: the server was silent, or slower than ``BODY_RATE_MIN``.
            NetworkError: the connection ended. FormatError: what came breaks the protocol.
        """
        at = min(self._end - self._begin, len(view))
        if at:
            view[:at] = self._view[self._begin : self._begin + at]
            self._begin += at
        wait = 0 if self._tls else socket.MSG_WAITALL
        while at < len(view):
            at += self._receive(view[at : at + PIECE], wait)
            self._between()

    def _receive(self, view: memoryview, flags: int) -> int:
        """At least one byte, as they come."""
        if self._limiter is not None:
            view = view[: self._limiter.read_size]
        while True:
            try:
                count = self._socket.recv_into(view, 0, flags)
            except (BlockingIOError, TimeoutError):
                self._check_time()
                continue
            except OSError as error:
                raise self._ended(f": {error.strerror or error}") from None
            if count == 0:
                raise self._ended("")
            self._count(count)
            self._counted += count
            now = self._heard_at = time.monotonic()
            if self._began_at is None:
                self._began_at = now
            self._answer_bytes += count
            self._check_rate(now)
            if self._limiter is not None and (seconds := self._limiter.take(count)) > 0:
                self._pause(seconds)
                self._heard_at = time.monotonic()
                self._began_at += seconds  # time that the limit takes is not the server's
            return count

    def _check_time(self) -> None:
        if self._handle.interrupted:
            raise self._ended("")
        now = time.monotonic()
        if now - self._heard_at >= self._idle_timeout:
            raise TransferTimeout(f"silent for {now - self._heard_at:.0f} s while an answer was due")
        self._check_rate(now)

    def _check_rate(self, now: float) -> None:
        if self._began_at is not None:
            late = now - self._began_at - self._idle_timeout
            if late > self._answer_bytes / BODY_RATE_MIN:
                raise TransferTimeout("its answer trickles in too slowly to wait for")

    def _ended(self, reason: str) -> NetworkError:
        if self._began_at is None:
            return Dropped(f"closed the connection before it answered{reason}")
        return NetworkError(f"closed the connection in the middle of an answer{reason}")


def _bytes_received(connected: socket.socket) -> int:
    """Payload that the kernel has received on a TCP connection; 0 where the system does not tell."""
    option = getattr(socket, "TCP_INFO", None)
    if option is None:
        return 0
    try:
        info = connected.getsockopt(socket.IPPROTO_TCP, option, TCP_INFO_SIZE)
    except OSError:
        return 0
    return int(_BYTES_RECEIVED.unpack_from(info, TCP_INFO_SIZE - 8)[0]) if len(info) == TCP_INFO_SIZE else 0

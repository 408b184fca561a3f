"""The body of an answer, read whole into the caller's memory whichever way it is framed (RFC 9112, sections 6
and 7).
"""

from __future__ import annotations

from typing import Final

from p2psync.errors import FormatError, NetworkError
from p2psync.sources.http.connection import DRAIN_MAX
from p2psync.sources.http.head import CHUNK_LINE_MAX, TRAILER_BYTES_MAX, ResponseHead, parse_chunk_line
from p2psync.sources.http.link import Link

CHUNKS_MAX: Final = 1 << 16
"""Chunks of one body: a body of 8 MiB in pieces of 128 bytes. More would only cost time."""


class TooLong(FormatError):
    """A body is longer than there is room for."""


class Body:
    """The body of the answer whose head was read last."""

    def __init__(self, link: Link, head: ResponseHead) -> None:
        self._link = link
        self._length = head.length
        self._keep_alive = head.keep_alive
        self._complete = head.length == 0
        self._begun = False

    def into(self, view: memoryview) -> int:
        """All of it, to the beginning of ``view``; how long it was. Raises TooLong."""
        self._begun = True
        if self._length is not None:
            if self._length > len(view):
                raise TooLong("sent more bytes than were asked for")
            self._link.fill(view[: self._length])
            self._complete = True
            return self._length
        at = 0
        for _ in range(CHUNKS_MAX):
            size = parse_chunk_line(self._link.until(b"\r\n", CHUNK_LINE_MAX))
            if size == 0:
                self._skip_trailers()
                self._complete = True
                return at
            if size > len(view) - at:
                raise TooLong("sent more bytes than were asked for")
            self._link.fill(view[at : at + size])
            at += size
            if self._link.until(b"\r\n", CHUNK_LINE_MAX):
                raise FormatError("sent a chunk that is longer than it said")
        raise FormatError(f"sent its answer in more than {CHUNKS_MAX} chunks")

    def part(self, offset: int, view: memoryview) -> None:
        """What lies behind the first ``offset`` bytes of it, as much as ``view`` takes; the rest is not read.
        Raises FormatError: it is shorter, or does not say how long it is.
        """
        self._begun = True
        if self._length is None or offset + len(view) > self._length:
            raise FormatError("sent fewer bytes than it has")
        while offset:
            count = min(offset, len(view))
            self._link.fill(view[:count])
            offset -= count
        self._link.fill(view)

    def _skip_trailers(self) -> None:
        left = TRAILER_BYTES_MAX
        while line := self._link.until(b"\r\n", left):
            left -= len(line) + 2
            if left < 0:
                raise FormatError(f"sent more than {TRAILER_BYTES_MAX} bytes of trailers")

    def reusable(self) -> bool:
        """Whether another answer may follow: drops what was not wanted, if that is short."""
        if not self._keep_alive:
            return False
        if self._complete:
            return True
        if self._begun or (self._length is not None and self._length > DRAIN_MAX):
            return False
        try:
            self.into(memoryview(bytearray(DRAIN_MAX)))
        except (NetworkError, FormatError):
            return False
        return True

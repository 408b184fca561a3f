"""Where the body of a response goes: straight into a caller's buffer, into memory with a limit, or row by
row of a batch.

A sink is used for one response. The connection asks it for a view to receive into (``buffer``, then
``advance``), or hands it bytes that came along with others (``feed``); both may happen in one body. Errors
are ``FormatError`` without the host, which the connection adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from p2psync.errors import FormatError
from p2psync.sources.http.head import ResponseHead
from p2psync.sources.wire import NOT_HERE, ROW_LENGTH


class Sink(Protocol):
    """Takes the body of one response."""

    def begin(self, head: ResponseHead) -> bool:
        """Look at the head. False: the body is not wanted and is dropped."""

    def buffer(self) -> memoryview | None:
        """Where the next bytes of the body belong, if there is such a place; None: ``feed`` them."""

    def advance(self, count: int) -> None:
        """``count`` bytes were received into the view that ``buffer`` gave."""

    def feed(self, data: memoryview) -> None:
        """The next bytes of the body; ``data`` is valid only during the call."""

    def end(self) -> None:
        """The body is complete. Raises FormatError if it should not be."""


class _Unwanted:
    """Takes nothing: the sink of a request that was given up."""

    def begin(self, head: ResponseHead) -> bool:
        return False

    def buffer(self) -> memoryview | None:
        return None

    def advance(self, count: int) -> None:
        raise AssertionError("this sink offers no buffer")

    def feed(self, data: memoryview) -> None:
        raise AssertionError("this sink wants no bytes")

    def end(self) -> None:
        pass


UNWANTED: Final[Sink] = _Unwanted()


class IntoSink:
    """Fills a view exactly: the bytes ``offset ...`` of something, as many as the view is long.

    ``offset`` None asks for the whole thing, which must have exactly the view's length.
    """

    def __init__(self, view: memoryview, offset: int | None = None) -> None:
        self._view = view.cast("B")
        self._offset = offset
        self._filled = 0
        self.matched = False
        """True once a head announced exactly the bytes that were asked for."""

    def begin(self, head: ResponseHead) -> bool:
        self._filled = 0
        wanted = len(self._view)
        if head.status in (200, 206):
            head.check_plain()
        if head.status == 206:
            told = head.content_range()
            if told is None:
                raise FormatError("answered a range request without saying which range it sends")
            first, length, _ = told
            if head.length is not None and head.length != length:
                raise FormatError("sent a range whose length contradicts itself")
            self.matched = first == (self._offset or 0) and length == wanted
        elif head.status == 200:
            # A server may ignore Range (RFC 9110, 14.2): good enough where the range is the whole.
            self.matched = not self._offset and head.length in (None, wanted)
        return self.matched

    def buffer(self) -> memoryview | None:
        return self._view[self._filled :]

    def advance(self, count: int) -> None:
        self._filled += count

    def feed(self, data: memoryview) -> None:
        end = self._filled + len(data)
        if end > len(self._view):
            raise FormatError("sent more bytes than were asked for")
        self._view[self._filled : end] = data
        self._filled = end

    def end(self) -> None:
        if self._filled != len(self._view):
            raise FormatError(f"sent {self._filled} bytes where {len(self._view)} were asked for")


class CollectSink:
    """Keeps the body of a 200 response in memory, up to ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.body = bytearray()

    def begin(self, head: ResponseHead) -> bool:
        self.body.clear()
        if head.status != 200:
            return False
        head.check_plain()
        if head.length is not None and head.length > self._limit:
            raise FormatError(f"wants to send {head.length} bytes where at most {self._limit} make sense")
        return True

    def buffer(self) -> memoryview | None:
        return None

    def advance(self, count: int) -> None:
        raise AssertionError("this sink offers no buffer")

    def feed(self, data: memoryview) -> None:
        if len(self.body) + len(data) > self._limit:
            raise FormatError(f"sent more than the {self._limit} bytes that make sense")
        self.body += data

    def end(self) -> None:
        pass


class PartSink:
    """Keeps ``length`` bytes of a file from ``offset`` on in memory, or fewer where it ends; of a server
    that ignores Range the whole file, up to ``whole_max`` bytes.

    ``body`` is None unless that came; ``whole`` says that it is all of the file.
    """

    def __init__(self, offset: int, length: int, whole_max: int) -> None:
        self._offset = offset
        self._length = length
        self._whole_max = whole_max
        self._limit = 0
        self.body: bytearray | None = None
        self.whole = False

    def begin(self, head: ResponseHead) -> bool:
        self.body, self.whole = None, head.status == 200
        if head.is_coded:
            return False
        if head.status == 206:
            told = head.content_range()
            self._limit = self._length
            if told is None or told[0] != self._offset or told[1] > self._length:
                return False
            if head.length is not None and head.length != told[1]:
                return False
        elif head.status == 200:
            self._limit = self._whole_max
            if head.length is not None and head.length > self._limit:
                return False
        else:
            return False
        self.body = bytearray()
        return True

    def buffer(self) -> memoryview | None:
        return None

    def advance(self, count: int) -> None:
        raise AssertionError("this sink offers no buffer")

    def feed(self, data: memoryview) -> None:
        assert self.body is not None  # noqa: S101 - begun
        if len(self.body) + len(data) > self._limit:
            raise FormatError(f"sent more than the {self._limit} bytes that make sense")
        self.body += data

    def end(self) -> None:
        pass


class BatchSink:
    """Takes a batch response apart: for each row a big-endian length and the bytes, or ``NOT_HERE``.

    ``views`` are the places of the rows, each as long as the row that was asked for. ``here`` says
    afterwards which rows came.
    """

    def __init__(self, views: Sequence[memoryview]) -> None:
        self._views = views
        self.here = [False] * len(views)
        self._row = -1
        self._filled = 0
        self._left = 0
        self._length = bytearray()

    def begin(self, head: ResponseHead) -> bool:
        self.here = [False] * len(self._views)
        self._row, self._filled, self._left = -1, 0, 0
        self._length.clear()
        if head.status == 200:
            head.check_plain()
        return head.status == 200

    def buffer(self) -> memoryview | None:
        return self._views[self._row][self._filled :] if self._left else None

    def advance(self, count: int) -> None:
        self._filled += count
        self._left -= count

    def feed(self, data: memoryview) -> None:
        position, end = 0, len(data)
        while position < end:
            if self._left:
                count = min(self._left, end - position)
                self._views[self._row][self._filled : self._filled + count] = data[
                    position : position + count
                ]
                self.advance(count)
                position += count
            elif not self._length and end - position >= 4:
                self._start_row(ROW_LENGTH.unpack_from(data, position)[0])
                position += 4
            else:
                self._length += data[position : position + 1]
                position += 1
                if len(self._length) == 4:
                    length = ROW_LENGTH.unpack(self._length)[0]
                    self._length.clear()
                    self._start_row(length)

    def _start_row(self, length: int) -> None:
        self._row += 1
        if self._row >= len(self._views):
            raise FormatError("sent more rows than were asked for")
        if length == NOT_HERE:
            return
        if length != len(self._views[self._row]):
            raise FormatError(f"sent {length} bytes where {len(self._views[self._row])} were asked for")
        self.here[self._row] = True
        self._filled, self._left = 0, length

    def end(self) -> None:
        if self._left or self._length or self._row + 1 != len(self._views):
            raise FormatError("sent fewer rows than were asked for")

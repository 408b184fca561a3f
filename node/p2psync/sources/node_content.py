"""Bulk bytes of a p2psync node: a long stretch of one object by range, everything else as a batch
(docs/spec/wire.md).
"""

from __future__ import annotations

from typing import Final

from p2psync.errors import FormatError, NetworkError, P2psyncError
from p2psync.network.server import Server
from p2psync.sources import wire
from p2psync.sources.http.asks import UNDER_WAY
from p2psync.sources.http.body import Body
from p2psync.sources.http.head import ResponseHead, render_request_head
from p2psync.sources.orders import ROW_HEAD, Order
from p2psync.sources.packing import packed_max, unpack
from p2psync.sources.posts import Posts
from p2psync.sources.source import runs

RANGE_MIN: Final = 256 << 10
"""From this many bytes of one object on, a range (the server's sendfile) beats a row of a batch."""
GONE: Final = frozenset({404, 410, 416})
"""Statuses that mean: the node is well, and this is not here."""
_REASONS: Final = {
    403: "refuses: it does not reach us at the address that we gave, or that address is not ours",
    404: "does not have this archive",
    429: "has too many requests from this address already; it will take them later",
    503: "is busy; it will take requests later",
}


def refusal(name: str, status: int) -> NetworkError:
    """What a status means that is none of those that a request can have."""
    return NetworkError(f"{name}: {_REASONS.get(status, f'answered with HTTP status {status}')}")


class NodeDialect:
    """Orders as requests to the node ``server``. See ``p2psync.sources.http.bulk.Dialect``."""

    ahead = UNDER_WAY
    by_path = False

    def __init__(self, server: Server, posts: Posts | None = None) -> None:
        self._server = server
        self._posts = posts or Posts()
        self._by_get: set[int] = set()
        """Tokens of orders that would be batches, and are ranges."""
        self.packed = PackedDialect(server, self._posts)

    @property
    def spans_max(self) -> int:
        return wire.BATCH_ROWS_MAX if self._posts.allowed else 1

    def request(self, order: Order) -> bytes:
        spans = order.spans
        if not self._posts.allowed and _is_stretch(order):
            self._by_get.add(order.token)
        if _is_range(order) or order.token in self._by_get:
            begin = spans[0].offset
            last = begin + _size(order) - 1
            target = wire.object_path(spans[0].digest)
            headers = [("Range", f"bytes={begin}-{last}")]
            return render_request_head("GET", target, self._server.authority, headers, 0)
        if len(spans) > wire.BATCH_ROWS_MAX or max([span.length for span in spans]) > wire.BATCH_ROW_MAX:
            raise ValueError("an order is neither one stretch nor one batch")
        body = wire.encode_batch([span[:3] for span in spans])
        return render_request_head("POST", wire.BATCH_PATH, self._server.authority, [], len(body)) + body

    def receive(
        self, order: Order, head: ResponseHead, body: Body, room: memoryview
    ) -> list[int] | P2psyncError:
        if _is_range(order) or order.token in self._by_get:
            self._by_get.discard(order.token)
            return self._range(order, head, body, room)
        if self._posts.are_refused(head.status):
            return NetworkError(f"{self._server.name}: POST does not pass on the way there; asking by GET")
        if head.status != 200:
            return refusal(self._server.name, head.status)
        head.check_plain()
        size = _size(order) + ROW_HEAD * len(order.spans)
        return _rows(order, room, body.into(room[:size]))

    def _range(
        self, order: Order, head: ResponseHead, body: Body, room: memoryview
    ) -> list[int] | P2psyncError:
        if head.status in GONE:
            return [-1] * len(order.spans)
        if head.status not in (200, 206):
            return refusal(self._server.name, head.status)
        head.check_plain()
        begin = order.spans[0].offset
        size = _size(order)
        if head.status == 206:
            told = head.content_range()
            if told is None:
                raise FormatError("answered a range request without saying which range it sends")
            if head.length is not None and head.length != told[1]:
                raise FormatError("sent a range whose length contradicts itself")
            matched = told[:2] == (begin, size)
        else:
            # A server may ignore Range (RFC 9110, 14.2): good enough where the range is the whole.
            matched = begin == 0 and head.length in (None, size)
        if not matched:
            raise FormatError("sent another range of an object than was asked for")
        came = body.into(room[:size])
        if came != size:
            raise FormatError(f"sent {came} bytes where {size} were asked for")
        return [span.offset - begin for span in order.spans]


class PackedDialect:
    """The same with compressed answers, of what a batch may have."""

    spans_max = wire.BATCH_ROWS_MAX
    ahead = UNDER_WAY
    by_path = False
    packed: Final = None

    def __init__(self, server: Server, posts: Posts) -> None:
        self._server = server
        self._posts = posts

    def request(self, order: Order) -> bytes | None:
        spans = order.spans
        if (
            not self._posts.allowed
            or len(spans) > wire.BATCH_ROWS_MAX
            or max([span.length for span in spans]) > wire.BATCH_ROW_MAX
            or _size(order) > wire.BATCH_BYTES_MAX
        ):
            return None
        body = wire.encode_batch([span[:3] for span in spans])
        return render_request_head("POST", wire.PACKED_PATH, self._server.authority, [], len(body)) + body

    def receive(
        self, order: Order, head: ResponseHead, body: Body, room: memoryview
    ) -> list[int] | P2psyncError:
        if head.status != 200:
            return refusal(self._server.name, head.status)
        head.check_plain()
        longest = _size(order) + ROW_HEAD * len(order.spans)
        raw = memoryview(bytearray(packed_max(longest)))
        raw = raw[: body.into(raw)]
        try:
            content = unpack(raw, longest, "a compressed answer")
            rows = wire.decode_packed_answer(content, [span[:3] for span in order.spans])
        except FormatError as error:  # Perhaps somebody between changes it: the plain way is open still.
            return NetworkError(f"{self._server.name}: sent what should be {error}")
        positions: list[int] = []
        at = 0
        for row in rows:
            positions.append(-1 if row is None else at)
            if row is not None:
                room[at : at + len(row)] = row
                at += len(row)
        return positions


def _size(order: Order) -> int:
    return sum([span.length for span in order.spans])


def _is_range(order: Order) -> bool:
    return _size(order) >= RANGE_MIN and _is_stretch(order)


def _is_stretch(order: Order) -> bool:
    """Whether its spans are neighbours in one object."""
    return len(next(runs(order.spans))) == len(order.spans)


def _rows(order: Order, room: memoryview, came: int) -> list[int]:
    """Where in a batch answer of ``came`` bytes each row lies. Raises FormatError."""
    positions: list[int] = []
    at = 0
    unpack = wire.ROW_LENGTH.unpack_from
    for span in order.spans:
        if at + ROW_HEAD > came:
            raise FormatError("sent fewer rows than were asked for")
        length = unpack(room, at)[0]
        at += ROW_HEAD
        if length == span.length:
            positions.append(at)
            at += length
        elif length == wire.NOT_HERE:
            positions.append(-1)
        else:
            raise FormatError(f"sent {length} bytes where {span.length} were asked for")
    if at < came:
        raise FormatError("sent more rows than were asked for")
    if at > came:
        raise FormatError("sent fewer bytes than it said")
    return positions

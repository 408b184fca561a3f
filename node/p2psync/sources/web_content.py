"""Bulk bytes of a plain HTTP(S) server with the archive's tree below a URL: by path and Range.

A path that is missing, or has another size, is "not here": the mirror is older or newer there, and the rest
of it may still be good. Redirections are not followed here: the place where a mirror sends its readers is a
source of its own, and so are those that it names as having the same (``others``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final
from urllib.parse import quote_from_bytes, urljoin

from p2psync.errors import FormatError, NetworkError, P2psyncError
from p2psync.network.server import Server
from p2psync.sources.http.body import Body, TooLong
from p2psync.sources.http.head import ResponseHead, render_request_head
from p2psync.sources.orders import Order
from p2psync.sources.source import NotOffered, runs
from p2psync.sources.web_answers import BUSY, GONE, REDIRECTS, base_of, duplicates, elsewhere, later, url_path
from p2psync.sources.web_files import DUPLICATES_MAX

AHEAD: Final = 64
"""Requests sent ahead: whoever asks bounds their bytes. For small files each round trip would else be one
for three: a thousand of them, 20 ms away, took 17 s.
"""
PASSED_MAX: Final = 16 << 20
"""Bytes of a file of which parts are taken from a server that ignores Range: what is in front of a part is
received and dropped, which is some four times the file in all.
"""


def target_of(base: str, path: bytes) -> str:
    """What is asked for to get the file at ``path`` of the archive."""
    return f"{base}/{quote_from_bytes(path, safe='/')}"


class WebDialect:
    """Orders as requests to the web server ``server``: one stretch of one file each. See
    ``p2psync.sources.http.bulk.Dialect``.
    """

    spans_max = 1
    ahead = AHEAD
    by_path = True
    packed: Final = None

    def __init__(
        self,
        server: Server,
        others: dict[str, None] | None = None,
        has_files: Callable[[], bool] = lambda: True,
    ) -> None:
        """``others`` is filled with the URLs of trees that have the same, as the server says. ``has_files``:
        whether the tree is there at all, as far as it is known.
        """
        self._has_files = has_files
        self._server = server
        self._base = url_path(server.name)
        self._others = {} if others is None else others

    def request(self, order: Order) -> bytes | None:
        first = order.spans[0]
        if len(next(runs(order.spans))) != len(order.spans):
            raise ValueError("an order of a web server is one stretch of one file")
        if first.path is None or not self._has_files():
            return None
        size = sum(span.length for span in order.spans)
        headers = []
        if not _entire(order, size):
            headers.append(("Range", f"bytes={first.offset}-{first.offset + size - 1}"))
        target = target_of(self._base, first.path)
        return render_request_head("GET", target, self._server.authority, headers, 0)

    def receive(
        self, order: Order, head: ResponseHead, body: Body, room: memoryview
    ) -> list[int] | P2psyncError:
        if head.status in GONE or self._is_directory(order, head):
            return _absent(order)
        if head.status not in (200, 206):
            return self._refusal(order, head)
        path = quote_from_bytes(order.spans[0].path or b"", safe="/")
        for other in duplicates(self._url(path), path, head):
            self._add(other)
        if _matches(order, head):
            return _take(order, body, room)
        if head.status == 200 and not _entire(order, sum(span.length for span in order.spans)):
            return self._from_whole(order, head, body, room)
        return _absent(order)

    def _from_whole(
        self, order: Order, head: ResponseHead, body: Body, room: memoryview
    ) -> list[int] | P2psyncError:
        """Part of a file that came whole: the server, or somebody on the way, ignores Range."""
        first = order.spans[0]
        if head.length is None or head.length != first.size:
            return _absent(order)
        if head.length > PASSED_MAX:
            return NotOffered(
                f"{self._server.name}: this web server does not offer parts of files (it ignores Range)"
            )
        size = sum(span.length for span in order.spans)
        body.part(first.offset, room[:size])
        return [span.offset - first.offset for span in order.spans]

    def _url(self, path: str) -> str:
        scheme = "https" if self._server.tls else "http"
        return f"{scheme}://{self._server.authority}{self._base}/{path}"

    def _add(self, other: str) -> None:
        if len(self._others) < DUPLICATES_MAX and other != self._url(""):
            self._others[other] = None

    def _is_directory(self, order: Order, head: ResponseHead) -> bool:
        """Whether a directory stands where the file was: servers lead to its path with a slash, by a URL or
        by a reference that is relative to the one that was asked for (RFC 9110, 10.2.2).
        """
        if head.status not in REDIRECTS:
            return False
        target = target_of(self._base, order.spans[0].path or b"")
        try:
            return urljoin(target, head.headers.get("location", "")).endswith(f"{target}/")
        except ValueError:  # It is no URL.
            return False

    def _refusal(self, order: Order, head: ResponseHead) -> P2psyncError:
        name = self._server.name
        if head.status in BUSY:
            return later(name, head, time.time())
        if head.status not in REDIRECTS:
            return NetworkError(f"{name}: answered with HTTP status {head.status}")
        path = quote_from_bytes(order.spans[0].path or b"", safe="/")
        location = head.headers.get("location", "elsewhere")
        led = elsewhere(self._url(path), location)
        base = None if led is None else base_of(led, path)
        if base is None or base == self._url(""):
            return NotOffered(f"{name}: redirects to {location[:200]!r}; name that URL as the mirror instead")
        self._add(base)
        return NotOffered(f"{name}: redirects elsewhere; {base} is asked instead")


def _matches(order: Order, head: ResponseHead) -> bool:
    """Whether this is the stretch that was asked for, of a file of the right size. Raises FormatError."""
    first = order.spans[0]
    size = sum(span.length for span in order.spans)
    if head.status == 200:
        return first.offset == 0 and head.length in (None, size) and first.size in (None, size)
    told = head.content_range()
    if told is None:
        raise FormatError("answered a range request without saying which range it sends")
    begin, length, whole = told
    if head.length is not None and head.length != length:
        raise FormatError("sent a range whose length contradicts itself")
    return begin == first.offset and length == size and (None in (whole, first.size) or whole == first.size)


def _take(order: Order, body: Body, room: memoryview) -> list[int]:
    begin = order.spans[0].offset
    size = sum(span.length for span in order.spans)
    try:
        came = body.into(room[:size])
    except TooLong:
        return _absent(order)
    return [span.offset - begin for span in order.spans] if came == size else _absent(order)


def _absent(order: Order) -> list[int]:
    return [-1] * len(order.spans)


def _entire(order: Order, size: int) -> bool:
    return order.spans[0].offset == 0 and order.spans[0].size == size

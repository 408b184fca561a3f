"""Request heads (RFC 9112), read strictly. Pure; no sockets.

Only plain requests are read here: what could be understood in two ways is left to the HTTP library, together
with the rest of its connection, so no two readers ever disagree about where a request ends.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from p2psync.sources import wire

HEAD_BYTES_MAX: Final = 32 << 10
"""Bytes of a request line and its headers: a path of 4,095 bytes, percent-encoded, and the usual headers fit
twice."""
HEADERS_MAX: Final = 64
"""Header lines of one plain request; clients send about ten."""
END: Final = b"\r\n\r\n"
"""What ends a head."""

_LINE: Final = re.compile(rb"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.([01])")
_HEADER: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_LENGTH: Final = re.compile(r"[0-9]{1,15}")
_NEVER_PLAIN: Final = frozenset({"transfer-encoding", "expect", "upgrade"})
_OBJECT: Final = re.compile(rf"{wire.PREFIX}/object/([0-9a-f]{{64}})")
_POSTED: Final = {wire.BATCH_PATH: wire.BATCH_BODY_MAX, wire.RECIPES_PATH: wire.RECIPES_BODY_MAX}


class Request(NamedTuple):
    """The head of a plain request: names of headers in lower case, each header once; ``length`` of the body
    in bytes, None where it is not said."""

    method: str
    target: str
    headers: dict[str, str]
    length: int | None
    keep_alive: bool

    def object_digest(self) -> bytes | None:
        """The object whose bytes are asked for, if that is what this is."""
        match = _OBJECT.fullmatch(self.target) if self.method == "GET" and not self.length else None
        return None if match is None else bytes.fromhex(match[1])

    def is_bulk(self) -> bool:
        """Whether this asks for bulk bytes, and keeps to the limits of such requests."""
        if self.method == "POST":
            return self.length is not None and self.length <= _POSTED.get(self.target, -1)
        return self.object_digest() is not None


NOT_PLAIN: Final = Request("", "", {}, None, False)
"""Stands for a request that is not plain."""


def parse_request(raw: bytes) -> Request:
    """Read a head without its empty line; ``NOT_PLAIN`` if it is not plain."""
    lines = raw.split(b"\r\n")
    line = _LINE.fullmatch(lines[0])
    if line is None or len(lines) - 1 > HEADERS_MAX:
        return NOT_PLAIN
    headers: dict[str, str] = {}
    for each in lines[1:]:
        match = _HEADER.fullmatch(each)
        if match is None:
            return NOT_PLAIN
        name = match[1].decode("ascii").lower()
        if name in headers or name in _NEVER_PLAIN:
            return NOT_PLAIN
        headers[name] = match[2].decode("latin-1").rstrip(" \t")
    told = headers.get("content-length")
    if told is not None and _LENGTH.fullmatch(told) is None:
        return NOT_PLAIN
    options = {option.strip().lower() for option in headers.get("connection", "").split(",")}
    return Request(
        line[1].decode("ascii"),
        line[2].decode("ascii"),
        headers,
        None if told is None else int(told),
        line[3] == b"1" and "close" not in options,
    )

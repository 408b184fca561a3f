"""The text part of HTTP/1.1 (RFC 9112): request heads out, response heads and chunk sizes in. Pure; no
sockets.

A strict subset. What the RFC lets a client tolerate (bare line feeds, folded headers, repeated lengths, a
transfer coding other than chunked, a body that ends with the connection) is refused: each is a way to make
two readers disagree about where a body ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from p2psync.errors import FormatError

HEAD_BYTES_MAX: Final = 16 << 10
"""Bytes of a status line and its headers: twice what common servers send at most by default."""
HEADERS_MAX: Final = 100
"""Header lines of one response; servers send about ten."""
INFORMATIONAL_MAX: Final = 4
"""1xx responses in front of one real response: they carry nothing that we asked for."""
CHUNK_LINE_MAX: Final = 256
"""Bytes of a chunk-size line with its extensions, which are ignored."""
TRAILER_BYTES_MAX: Final = 4 << 10
"""Bytes of trailer lines behind a chunked body; they are ignored."""
BODY_BYTES_MAX: Final = 1 << 53
"""No body is longer; keeps sums of hostile numbers far from anything that could overflow."""

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_HEADER: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,13})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/(?:([0-9]{1,15})|\*)")
_DIGITS: Final = re.compile(r"[0-9]{1,15}")
_TARGET: Final = re.compile(r"/[!-~]*")
_FIELD: Final = re.compile(r"[\x20-\x7e]*")


class ResponseHead(NamedTuple):
    """Status and headers of one response.

    ``headers`` has lower-case names; where one came several times, the values are joined by commas.
    ``length`` is the number of body bytes that follow, None where the body is chunked. ``keep_alive`` says
    whether another response may follow.
    """

    status: int
    headers: dict[str, str]
    length: int | None
    keep_alive: bool

    @property
    def is_coded(self) -> bool:
        """Whether the body is said to be compressed, which nobody asks for. Some servers say so of files
        that are (Apache's AddEncoding), and send them as they are.
        """
        return self.headers.get("content-encoding", "identity").lower() != "identity"

    def check_plain(self) -> None:
        """Refuse a body that is said to be compressed. Raises FormatError."""
        if self.is_coded:
            raise FormatError("sent a compressed body, which was not asked for")

    def content_range(self) -> tuple[int, int, int | None] | None:
        """First byte, length and (if told) size of the whole, from Content-Range; None where it is missing
        or senseless."""
        match = _CONTENT_RANGE.fullmatch(self.headers.get("content-range", ""))
        if match is None:
            return None
        first, last = int(match[1]), int(match[2])
        whole = None if match[3] is None else int(match[3])
        if last < first or (whole is not None and last >= whole):
            return None
        return first, last - first + 1, whole


def parse_response_head(raw: bytes, *, bodiless: bool) -> ResponseHead:
    """Read a response head without its empty line. ``bodiless``: the request was HEAD, so no body follows
    whatever is said.

    Raises:
        FormatError: not the strict subset; the message does not name the host, which the caller knows.
    """
    lines = raw.split(b"\r\n")
    if len(lines) - 1 > HEADERS_MAX:
        raise FormatError(f"sent more than {HEADERS_MAX} headers")
    status_line = _STATUS_LINE.fullmatch(lines[0])
    if status_line is None:
        raise FormatError("answered with something that is not HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise FormatError("sent a header line that is malformed")
        name = match[1].decode("ascii").lower()
        value = match[2].decode("latin-1").rstrip(" \t")
        if name in headers:
            if name in ("content-length", "transfer-encoding", "content-range"):
                raise FormatError(f"sent the header {name} twice")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    status = int(status_line[2])
    return ResponseHead(
        status,
        headers,
        _body_length(status, headers, bodiless),
        _keep_alive(status_line[1] == b"1", headers.get("connection", "")),
    )


def _keep_alive(version_1_1: bool, connection: str) -> bool:
    options = {option.strip().lower() for option in connection.split(",")}
    return "close" not in options and (version_1_1 or "keep-alive" in options)


def _body_length(status: int, headers: dict[str, str], bodiless: bool) -> int | None:
    """RFC 9112, section 6.3, without its lenient cases."""
    coding, told = headers.get("transfer-encoding"), headers.get("content-length")
    if bodiless or status < 200 or status in (204, 304):
        return 0
    if coding is not None:
        if told is not None or coding.lower() != "chunked":
            raise FormatError("sent a body whose framing is ambiguous")
        return None
    if told is None:
        raise FormatError("did not say how long its answer is")
    if _DIGITS.fullmatch(told) is None or int(told) > BODY_BYTES_MAX:
        raise FormatError("sent a Content-Length that is no length")
    return int(told)


def parse_chunk_line(line: bytes) -> int:
    """Length of the chunk that the line (without CR LF) announces. Raises FormatError."""
    match = _CHUNK_LINE.fullmatch(line)
    if match is None:
        raise FormatError("sent a chunk size that is no number")
    return int(match[1], 16)


def render_request_head(
    method: str, target: str, host: str, headers: Iterable[tuple[str, str]], body_length: int
) -> bytes:
    """The bytes of a request head, empty line included.

    Raises:
        ValueError: a target or header that could smuggle a line break or a second request; a defect of the
            caller.
    """
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Accept-Encoding: identity"]
    if _TARGET.fullmatch(target) is None:
        raise ValueError(f"{target!r} cannot be a request target")
    lines += [f"{name}: {value}" for name, value in headers]
    if body_length or method in ("POST", "PUT"):
        lines.append(f"Content-Length: {body_length}")
    if any(_FIELD.fullmatch(line) is None for line in lines):
        raise ValueError("a request header holds control characters")
    return "\r\n".join([*lines, "", ""]).encode("ascii")

"""Response heads and chunk lines: what is read, what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.errors import FormatError
from p2psync.sources.http.head import (
    HEADERS_MAX,
    parse_chunk_line,
    parse_response_head,
    render_request_head,
)


def head(*lines: bytes) -> bytes:
    return b"\r\n".join(lines)


def test_a_usual_head() -> None:
    parsed = parse_response_head(
        head(b"HTTP/1.1 206 Partial Content", b"Content-Length: 5", b"Content-Range: bytes 3-7/9"),
        bodiless=False,
    )
    assert (parsed.status, parsed.length, parsed.keep_alive) == (206, 5, True)
    assert parsed.content_range() == (3, 5, 9)


def test_a_chunked_body_has_no_length() -> None:
    parsed = parse_response_head(head(b"HTTP/1.1 200 OK", b"transfer-encoding: Chunked"), bodiless=False)
    assert parsed.length is None


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_statuses_without_a_body(status: bytes) -> None:
    assert parse_response_head(head(b"HTTP/1.1 " + status), bodiless=False).length == 0


def test_an_answer_to_head_has_no_body() -> None:
    assert parse_response_head(head(b"HTTP/1.1 200 OK", b"Content-Length: 9"), bodiless=True).length == 0


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        ((b"HTTP/1.1 200 OK", b"Connection: close"), False),
        ((b"HTTP/1.1 200 OK", b"Connection: foo, CLOSE"), False),
        ((b"HTTP/1.0 200 OK",), False),
        ((b"HTTP/1.0 200 OK", b"Connection: keep-alive"), True),
    ],
)
def test_keep_alive(lines: tuple[bytes, ...], kept: bool) -> None:
    assert parse_response_head(head(*lines, b"Content-Length: 0"), bodiless=False).keep_alive is kept


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"ICY 200 OK",
        b"HTTP/2 200",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 200 OK\r\nno colon",
        b"HTTP/1.1 200 OK\r\nName : value\r\nContent-Length: 0",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\nContent-Length: 0",
        b"HTTP/1.1 200 OK\r\nA: b\nX: y\r\nContent-Length: 0",
        b"HTTP/1.1 200 OK\r\nA: b\rX\r\nContent-Length: 0",
        b"HTTP/1.1 200 OK\r\nA: \0\r\nContent-Length: 0",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x10",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
        b"HTTP/1.1 200 OK",  # a body that ends with the connection
        b"HTTP/1.1 200 OK" + b"\r\nA: b" * (HEADERS_MAX + 1),
    ],
)
def test_refused_heads(raw: bytes) -> None:
    with pytest.raises(FormatError):
        parse_response_head(raw, bodiless=False)


def test_a_body_that_is_said_to_be_compressed_is_refused_by_who_needs_it_plain() -> None:
    coded = parse_response_head(
        head(b"HTTP/1.1 200 OK", b"Content-Length: 5", b"Content-Encoding: gzip"), bodiless=False
    )
    assert coded.is_coded
    with pytest.raises(FormatError, match="compressed"):
        coded.check_plain()
    plain = parse_response_head(head(b"HTTP/1.1 200 OK", b"Content-Length: 5"), bodiless=False)
    assert not plain.is_coded
    plain.check_plain()


@pytest.mark.parametrize("value", ["", "bytes 5-3/9", "bytes 0-9/9", "bytes */9", "items 0-1/2", "bytes 0-1"])
def test_senseless_content_ranges(value: str) -> None:
    raw = head(b"HTTP/1.1 206 x", b"Content-Length: 1", b"Content-Range: " + value.encode())
    assert parse_response_head(raw, bodiless=False).content_range() is None


@given(st.binary(max_size=300))
def test_any_bytes_give_a_head_or_a_format_error(raw: bytes) -> None:
    for candidate in (raw, b"HTTP/1.1 200 OK\r\n" + raw):
        try:
            parsed = parse_response_head(candidate, bodiless=False)
        except FormatError:
            continue
        assert parsed.length is None or parsed.length >= 0


def test_chunk_lines() -> None:
    assert parse_chunk_line(b"1aF") == 0x1AF
    assert parse_chunk_line(b"0;ext=1") == 0
    for line in (b"", b"-1", b"0x5", b" 5", b"5 5", b"g", b"1" * 14):
        with pytest.raises(FormatError):
            parse_chunk_line(line)


def test_a_request_cannot_be_split() -> None:
    for target in ("/a b", "/a\r\nX: y", "a", "", "/ä"):
        with pytest.raises(ValueError, match="target"):
            render_request_head("GET", target, "h", [], 0)
    with pytest.raises(ValueError, match="control"):
        render_request_head("GET", "/", "h", [("X", "a\r\nY: b")], 0)


def test_request_heads_as_bytes() -> None:
    assert render_request_head("GET", "/a", "h:1", [("Range", "bytes=0-1")], 0) == (
        b"GET /a HTTP/1.1\r\nHost: h:1\r\nAccept-Encoding: identity\r\nRange: bytes=0-1\r\n\r\n"
    )
    assert b"Content-Length: 0\r\n" in render_request_head("POST", "/", "h", [], 0)

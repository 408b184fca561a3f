"""The content server against clients of all kinds, through real sockets and raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.help.descriptors import open_below
from tests.node.wire_support import Served, served

from p2psync.content import api, send, server
from p2psync.errors import NetworkError
from p2psync.format.url import archive_text
from p2psync.sources import wire
from p2psync.sources.node import PeerSource
from p2psync.sources.source import Span

CONTENT = os.urandom(300_000)
LARGE = 64 << 20
ODD = (
    b"a b",
    b"-rf",
    b"new\nline",
    b"\xff\xfe",
    b"%2e%2e",
    b"<script>alert(1)",
    b"a:b?c#d&e;f",
    b"n" * 255,
)

CLOSE = b"Host: x\r\nConnection: close\r\n"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    tree = tmp_path / "tree"
    (tree / "dir").mkdir(parents=True)
    (tree / "file").write_bytes(CONTENT)
    (tree / "page.html").write_bytes(b"<script>fetch('/')</script>")
    (tree / "empty").write_bytes(b"")
    (tree / "dir" / "inner").write_bytes(b"inner")
    (tree / "dir" / "up").symlink_to("../file")
    (tree / "dir" / "out").symlink_to("../../etc/passwd")
    (tree / "absolute").symlink_to("/etc/passwd")
    for name in ODD:
        with open(os.path.join(os.fsencode(tree), b"dir", name), "wb") as file:
            file.write(name)
    async with served(tmp_path, tree) as made:
        yield made


async def ask(node: Served, request: bytes) -> bytes:
    """Send raw bytes and read until the server closes (ask it to)."""
    reader, writer = await asyncio.open_connection(*node.server.address)
    try:
        writer.write(request)
        await writer.drain()
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()


async def get(
    node: Served, target: bytes | str, *headers: bytes, method: bytes = b"GET"
) -> tuple[int, bytes, bytes]:
    """Status, head and body of one request."""
    raw = target.encode() if isinstance(target, str) else target
    lines = [method + b" " + raw + b" HTTP/1.1", b"Host: x", b"Connection: close", *headers, b"", b""]
    answer = await ask(node, b"\r\n".join(lines))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head, body


def base(node: Served) -> bytes:
    return b"/" + archive_text(node.archive).encode()


async def test_a_file_by_its_path(node: Served) -> None:
    status, head, body = await get(node, base(node) + b"/file")
    assert (status, body) == (200, CONTENT)
    assert b"Accept-Ranges: bytes" in head
    etag = re.search(rb'ETag: ("[0-9a-f]{64}")', head)
    assert etag is not None
    status, _, body = await get(node, base(node) + b"/file", b"If-None-Match: " + etag[1])
    assert (status, body) == (304, b"")
    status, head, body = await get(
        node, base(node) + b"/file", b"Range: bytes=10-19", b"If-Range: " + etag[1]
    )
    assert (status, body) == (206, CONTENT[10:20])
    assert b"Content-Range: bytes 10-19/300000" in head
    status, head, _ = await get(node, base(node) + b"/file", b"Range: bytes=300000-")
    assert status == 416
    assert b"Content-Range: bytes */300000" in head
    status, head, body = await get(node, base(node) + b"/file", method=b"HEAD")
    assert (status, body) == (200, b"")
    assert b"Content-Length: 300000" in head
    assert (await get(node, base(node) + b"/empty"))[0::2] == (200, b"")


async def test_odd_names_are_linked_and_served(node: Served) -> None:
    status, head, body = await get(node, base(node) + b"/dir/")
    assert status == 200
    assert b"text/html; charset=utf-8" in head
    assert b"<script" not in body
    links = re.findall(rb'href="\./([^"]*)"', body)
    assert len(links) == len(ODD) + 3
    served_ = set()
    for link in links:
        status, _, content = await get(node, base(node) + b"/dir/" + link)
        if status == 200:
            served_.add(content)
    assert served_ == {*ODD, b"inner", CONTENT}, "a link is answered with what it leads to"


async def test_directories_have_a_slash_and_files_have_none(node: Served) -> None:
    status, head, _ = await get(node, base(node) + b"/dir")
    assert status == 301
    assert b"Location: ./dir/\r\n" in head + b"\r\n", "relative: a proxy may show the node below a path"
    status, head, _ = await get(node, base(node))
    assert status == 301
    assert b"Location: ." + base(node) + b"/\r\n" in head + b"\r\n"
    assert (await get(node, base(node) + b"/file/"))[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        b"/../../etc/passwd",
        b"/%2e%2e/%2e%2e/etc/passwd",
        b"/..%2f..%2fetc%2fpasswd",
        b"/dir/../../tree/file",
        b"/dir/./../file",
        b"//file",
        b"/dir//inner",
        b"/file%00",
        b"/dir/%2e%2e/file",
        b"/" + b"a/" * 3000,
        b"/nothing",
        b"/file/inner",
        b"/dir/up/x",
    ],
)
async def test_paths_that_lead_nowhere(node: Served, path: bytes) -> None:
    status, _, body = await get(node, base(node) + path)
    assert status in (400, 404, 414)
    assert b"root:" not in body


async def test_a_dot_among_the_names_is_passed_over_as_apt_leaves_it_to_servers(node: Served) -> None:
    for path in (b"/dir/./inner", b"/./dir/inner", b"/././dir/%2e/inner"):
        assert (await get(node, base(node) + path))[0] == 200
    for path in (b"/dir/.", b"/dir/./", b"/."):
        assert (await get(node, base(node) + path))[0] == 200
    assert (await get(node, base(node) + b"/dir/inner/."))[0] == 404


@pytest.mark.parametrize(
    "target", [b"/nope/file", b"/" + b"a" * 52 + b"/", b"/%ff/", b"/favicon.ico", b"/p2psync/v1/x"]
)
async def test_archives_that_are_not_there(node: Served, target: bytes) -> None:
    assert (await get(node, target))[0] == 404


async def test_pages_and_files_cannot_run_scripts_here(node: Served) -> None:
    for target in (b"/", base(node) + b"/dir/"):
        _, head, _ = await get(node, target)
        assert b"Content-Security-Policy: default-src 'none'" in head
        assert b"X-Content-Type-Options: nosniff" in head
    _, head, _ = await get(node, base(node) + b"/page.html")
    assert b"Content-Security-Policy: sandbox" in head


@pytest.mark.parametrize("how", ["content", "link", "removed"])
async def test_a_file_that_changed_since_is_never_served_as_the_old_one(node: Served, how: str) -> None:
    entry = node.entry(b"file")
    path = node.tree / "file"
    before = path.stat()
    if how == "content":
        path.write_bytes(CONTENT[::-1])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        path.unlink()
        if how == "link":
            path.symlink_to("dir/inner")
    assert (await get(node, base(node) + b"/file"))[0] == 404
    assert (await get(node, wire.object_path(entry.digest)))[0] == 404
    peer = PeerSource(node.address)
    try:
        assert await peer.read([Span(entry.digest, 0, 10)], memoryview(bytearray(10))) == [False]
    finally:
        await peer.close()


async def test_a_second_copy_serves_when_the_first_was_changed(tmp_path: Path) -> None:
    tree = tmp_path / "t"
    tree.mkdir()
    for name in ("a", "b"):
        (tree / name).write_bytes(CONTENT)
    for changed in ("a", "b"):
        async with served(tmp_path / changed, tree) as node:
            digest = node.entry(b"a").digest
            (tree / changed).write_bytes(CONTENT[::-1])
            status, _, body = await get(node, wire.object_path(digest))
            assert (status, body) == (200, CONTENT)
            (tree / changed).write_bytes(CONTENT)


def large(tmp_path: Path) -> Path:
    """A tree with a file ``f`` that no socket's buffer takes in."""
    tree = tmp_path / "t"
    tree.mkdir()
    with (tree / "f").open("wb") as file:
        file.truncate(LARGE)
    return tree


async def taken(reader: asyncio.StreamReader) -> int:
    """How many bytes still come until the server cuts the connection."""
    got = 0
    with contextlib.suppress(ConnectionResetError):
        while part := await reader.read(1 << 20):
            got += len(part)
    return got


async def test_a_file_truncated_while_it_is_sent_cuts_the_connection(tmp_path: Path) -> None:
    tree = large(tmp_path)
    async with served(tmp_path, tree) as node:
        reader, writer = await asyncio.open_connection(*node.server.address, limit=1 << 16)
        writer.write(b"GET " + base(node) + b"/f HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert f"Content-Length: {LARGE}".encode() in head
        os.truncate(tree / "f", 0)
        assert await taken(reader) < LARGE
        writer.close()


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /p2psync/v1/batch HTTP/1.1\r\n" + CLOSE + b"Content-Length: 3\r\n\r\n\xc1\xc1\xc1",
        b"POST /p2psync/v1/batch HTTP/1.1\r\n" + CLOSE + b"Content-Length: 999999999\r\n\r\n",
        b"POST /p2psync/v1/have HTTP/1.1\r\n" + CLOSE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /p2psync/v1/object/" + b"ZZ" * 32 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /p2psync/v1/archive/zzz/head HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"DELETE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"PUT /file HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"rubbish\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: " + b"b" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_hostile_requests_get_a_4xx_and_the_server_lives(node: Served, request_: bytes) -> None:
    answer = await ask(node, request_)
    assert re.match(rb"HTTP/1\.[01] 4\d\d ", answer)
    assert (await get(node, b"/"))[0] == 200


async def test_a_body_that_never_comes_is_not_waited_for(
    node: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "BODY_TIMEOUT", 0.2)
    answer = await ask(
        node,
        b"POST /p2psync/v1/have HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 9\r\n\r\nabc",
    )
    assert answer.startswith(b"HTTP/1.1 408")


async def test_a_client_that_sends_no_request_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    async with served(tmp_path, tmp_path / "t", first_request_timeout=0.2) as node:
        for begin in (b"", b"GET / HTTP/1.1\r\nHos"):
            reader, writer = await asyncio.open_connection(*node.server.address)
            writer.write(begin)
            async with asyncio.timeout(20):
                with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                    await reader.readexactly(1)
            writer.close()


async def test_connections_of_one_address_are_bounded_and_come_free_again(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    async with served(tmp_path, tmp_path / "t", per_address=3) as node:
        held = [await asyncio.open_connection(*node.server.address) for _ in range(3)]
        for reader, writer in held:
            writer.write(b"GET /p2psync/v1/info HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
        reader, writer = await asyncio.open_connection(*node.server.address)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        for _, writer in held:
            writer.close()
        async with asyncio.timeout(20):
            while True:
                try:
                    assert (await get(node, b"/"))[0] == 200
                    break
                except (ConnectionError, IndexError):
                    await asyncio.sleep(0.02)


async def test_connections_in_all_are_bounded_whatever_their_address(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    async with served(tmp_path, tmp_path / "t", connections=3) as node:
        held = []
        for index in range(3):
            where = (f"127.0.0.{index + 2}", 0)
            held.append(await asyncio.open_connection(*node.server.address, local_addr=where))
        for reader, writer in held:
            writer.write(b"GET /p2psync/v1/info HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
        for _ in range(2):
            reader, writer = await asyncio.open_connection(*node.server.address)
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            writer.close()
        for _, writer in held:
            writer.close()


async def test_a_client_that_takes_nothing_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "SEND_TIMEOUT", 0.3)
    tree = large(tmp_path)
    async with served(tmp_path, tree) as node:
        reader, writer = await asyncio.open_connection(*node.server.address, limit=1 << 12)
        writer.write(b"GET " + base(node) + b"/f HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(60):
            while str(tree / "f") in open_below(tree):  # noqa: ASYNC110 - given up is closed: no event
                await asyncio.sleep(0.02)
        assert (await get(node, b"/"))[0] == 200
        assert await taken(reader) < LARGE
        writer.close()


async def test_a_large_listing_is_streamed(tmp_path: Path) -> None:
    tree = tmp_path / "t"
    tree.mkdir()
    for index in range(3000):
        (tree / f"{index:05}").write_bytes(b"")
    async with served(tmp_path, tree) as node:
        status, head, body = await get(node, base(node) + b"/")
        assert status == 200
        assert b"Transfer-Encoding: chunked" in head
        assert body.count(b"<tr>") == 3001
        assert body.endswith(b"0\r\n\r\n")


async def test_closing_lets_answers_end_and_frees_the_port(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    async with served(tmp_path, tmp_path / "t") as node:
        address = node.address
        reader, writer = await asyncio.open_connection(*node.server.address)
        writer.write(b"GET /p2psync/v1/info HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in await reader.readline()
    peer = PeerSource(address)
    with pytest.raises(NetworkError):
        await peer.info()
    await peer.close()
    writer.close()


async def test_what_strangers_send_that_is_no_http_fills_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "t").mkdir()
    async with served(tmp_path, tmp_path / "t") as node:
        wrong = b"GET /no such file HTTP/1.1\r\n\r\n", b"\x16\x03\x01\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"
        for raw in wrong:
            reader, writer = await asyncio.open_connection(*node.server.address)
            writer.write(raw)
            async with asyncio.timeout(20):
                assert (await reader.read(1 << 16)).startswith(b"HTTP/1.")
            writer.close()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_client_that_goes_is_no_defect_and_others_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    for error in (ConnectionResetError("gone"), ZeroDivisionError("oops")):
        server.log.error("Error handling request", exc_info=error)
    assert [record.exc_info and record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]

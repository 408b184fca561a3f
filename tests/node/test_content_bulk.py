"""Bulk bytes through raw sockets: which way a connection goes, and clients that are slow, half there, many,
or hostile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.node.wire_support import Served, served

from p2psync.content import api, bulk, line, send, server
from p2psync.content.rows import AGAIN
from p2psync.sources import wire

LARGE = os.urandom(1 << 20)
FILES = 8
"""Files of a megabyte: together as much as a batch may ask for, and more than a socket takes at once."""
HOST = b"Host: x\r\n"
GET_INFO = b"GET " + wire.INFO_PATH.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n"


def content(index: int) -> bytes:
    return bytes([index]) + LARGE[1:]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    made.mkdir()
    for index in range(FILES):
        (made / f"large{index}").write_bytes(content(index))
    (made / "small").write_bytes(b"small")
    return made


@pytest.fixture
async def node(tmp_path: Path, tree: Path) -> AsyncIterator[Served]:
    async with served(tmp_path, tree) as made:
        yield made


class Client:
    """One connection, and what it reads."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def of(cls, node: Served, *, buffer: int | None = None) -> Client:
        """``buffer``: bytes that the kernel may receive ahead."""
        sock = socket.socket()
        if buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, node.server.address)
        return cls(*await asyncio.open_connection(sock=sock, limit=buffer or 1 << 16))

    async def say(self, *requests: bytes) -> None:
        self.writer.write(b"".join(requests))
        await self.writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
        body = await self.reader.readexactly(int(length[1])) if length is not None else b""
        return int(head.split()[1]), body

    async def rest(self) -> bytes:
        """All that still comes until the connection ends."""
        parts = []
        with contextlib.suppress(ConnectionResetError):
            while part := await self.reader.read(1 << 20):
                parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        self.writer.close()


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return b"POST " + path.encode() + b" HTTP/1.1\r\n" + HOST + length + b"".join(headers) + b"\r\n" + body


def batch(node: Served, *names: bytes, more: tuple[wire.Row, ...] = ()) -> bytes:
    """A request for files, whole."""
    entries = [node.entry(name) for name in names]
    return post(wire.BATCH_PATH, wire.encode_batch([*((e.digest, 0, e.size) for e in entries), *more]))


def all_large(node: Served) -> bytes:
    return batch(node, *(b"large%d" % index for index in range(FILES)))


def row(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


ALL_LARGE = b"".join(row(content(index)) for index in range(FILES))


def get(node: Served, name: bytes, range_: bytes) -> bytes:
    target = wire.object_path(node.entry(name).digest).encode()
    return b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"Range: bytes=" + range_ + b"\r\n\r\n"


def descriptors(node: Served) -> list[str]:
    """Sockets that are open, and files of the tree."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the directory that is being listed
            target = os.readlink(f"/proc/self/fd/{name}")
            if target.startswith(("socket:", f"{node.tree}/")):
                found.append(target)
    return sorted(found)


async def none_left(node: Served) -> None:
    """Wait until the server has noticed that its clients are gone."""
    while node.server.connections:  # noqa: ASYNC110 - a connection that ends sets no event
        await asyncio.sleep(0.005)


async def all_wait(node: Served, number: int) -> None:
    """Wait until so many connections wait for a request."""
    while len(node.server._house.admission.idle) < number:  # noqa: ASYNC110 - this sets no event
        await asyncio.sleep(0.005)


async def test_a_batch_says_how_long_it_is(node: Served) -> None:
    client = await Client.of(node)
    await client.say(batch(node, b"small", more=((bytes(32), 0, 9), (node.entry(b"large1").digest, 5, 7))))
    status, body = await client.answer()
    assert (status, body) == (200, row(b"small") + b"\xff" * 4 + row(content(1)[5:12]))
    client.close()


async def test_requests_of_all_kinds_are_answered_in_their_order(node: Served) -> None:
    """Sent at once and one after the other: each change of kind takes the connection to a thread or back."""
    recipe = node.library.recipe(node.entry(b"large0").digest)
    assert recipe is not None
    asked: list[tuple[bytes, bytes | None]] = [
        (batch(node, b"small"), row(b"small")),
        (GET_INFO, None),
        (get(node, b"large0", b"10-19"), content(0)[10:20]),
        (get(node, b"large1", b"-5"), content(1)[-5:]),
        (post(wire.HAVE_PATH, wire.encode_have([bytes(32)])), b"\x91\x00"),
        (GET_INFO, None),
        (
            post(wire.RECIPES_PATH, wire.encode_recipes([bytes(32), node.entry(b"large0").digest])),
            b"\xff" * 4 + row(recipe),
        ),
        (all_large(node), ALL_LARGE),
        (GET_INFO, None),
        (batch(node, b"small"), row(b"small")),
    ]
    client = await Client.of(node)
    await client.say(*(request for request, _ in asked))
    for _, body in asked:
        status, came = await client.answer()
        assert status in (200, 206)
        assert body is None or came == body
    for request, body in asked:
        await client.say(request)
        status, came = await client.answer()
        assert status in (200, 206)
        assert body is None or came == body
    client.close()


async def test_requests_that_come_byte_by_byte(node: Served) -> None:
    client = await Client.of(node)
    for byte in batch(node, b"small") + GET_INFO + get(node, b"small", b"1-2"):
        await client.say(bytes([byte]))
        await asyncio.sleep(0)
    assert await client.answer() == (200, row(b"small"))
    assert (await client.answer())[0] == 200
    assert await client.answer() == (206, b"ma")
    client.close()


async def test_objects_in_ranges_and_conditions(node: Served) -> None:
    digest = node.entry(b"large0").digest
    target = wire.object_path(digest).encode()
    tag = b'"' + digest.hex().encode() + b'"'
    client = await Client.of(node)
    for header, status, body in [
        (b"Range: bytes=0-3", 206, content(0)[:4]),
        (b"Range: bytes=1048576-", 416, b""),
        (b"Range: bytes=0-3\r\nIf-Range: " + tag, 206, content(0)[:4]),
        (b'Range: bytes=0-3\r\nIf-Range: "x"', 200, content(0)),
        (b"If-None-Match: " + tag, 304, b""),
        (b"Accept: */*", 200, content(0)),
    ]:
        await client.say(b"GET " + target + b" HTTP/1.1\r\n" + HOST + header + b"\r\n\r\n")
        assert await client.answer() == (status, body)
    await client.say(b"GET " + wire.object_path(bytes(32)).encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (await client.answer())[0] == 404
    client.close()


@pytest.mark.parametrize("patience", [0, 20])
async def test_a_slow_reader_gets_what_it_asked_for(
    node: Served, monkeypatch: pytest.MonkeyPatch, patience: int
) -> None:
    """Without patience, each piece that the client does not take at once is read again."""
    monkeypatch.setattr(line, "PATIENCE", patience)
    client = await Client.of(node, buffer=1 << 14)
    await client.say(all_large(node), get(node, b"large3", b"0-"))
    assert await client.answer() == (200, ALL_LARGE)
    assert await client.answer() == (206, content(3))
    assert (await node.counted(2 * FILES)).bytes_by("batch") == len(ALL_LARGE)
    client.close()


async def test_a_file_that_changes_while_its_batch_is_taken_cuts_the_connection(
    node: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "PATIENCE", 0)
    client = await Client.of(node, buffer=1 << 14)
    await client.say(all_large(node))
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert b"Content-Length: %d\r\n" % len(ALL_LARGE) in head
    for index in range(1, FILES):
        (node.tree / f"large{index}").write_bytes(b"changed")
    came = await client.rest()
    assert AGAIN < len(came) < len(ALL_LARGE)
    assert ALL_LARGE.startswith(came)
    client.close()


async def test_a_file_that_changed_before_is_not_here_and_its_neighbours_are(node: Served) -> None:
    client = await Client.of(node)
    request = batch(node, b"large0", b"small", b"large1")
    (node.tree / "small").write_bytes(b"other")
    os.utime(node.tree / "small", ns=(0, 0))
    await client.say(request)
    assert await client.answer() == (200, row(content(0)) + b"\xff" * 4 + row(content(1)))
    client.close()


async def test_clients_that_take_nothing_hold_up_nobody(tmp_path: Path, tree: Path) -> None:
    async with served(tmp_path, tree, bulk_threads=1) as node:
        stuck = [await Client.of(node, buffer=1 << 12) for _ in range(6)]
        for client in stuck:
            await client.say(all_large(node), all_large(node))
        for index in range(20):
            client = await Client.of(node)
            name = b"large%d" % (index % FILES)
            await client.say(batch(node, name), get(node, name, b"0-99"))
            assert await client.answer() == (200, row(content(index % FILES)))
            assert await client.answer() == (206, content(index % FILES)[:100])
            client.close()
        for client in stuck:
            client.close()


async def test_more_clients_than_threads_each_get_all_they_asked_for(tmp_path: Path, tree: Path) -> None:
    async with served(tmp_path, tree, bulk_threads=2) as node:

        async def fetch() -> None:
            client = await Client.of(node)
            await client.say(*[all_large(node), GET_INFO, get(node, b"large2", b"5-")] * 2)
            for _ in range(2):
                assert await client.answer() == (200, ALL_LARGE)
                assert (await client.answer())[0] == 200
                assert await client.answer() == (206, content(2)[5:])
            client.close()

        await asyncio.gather(*(fetch() for _ in range(12)))


async def test_a_client_that_takes_nothing_for_too_long_is_cut_off(
    node: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "SEND_TIMEOUT", 0.2)
    client = await Client.of(node, buffer=1 << 12)
    await client.say(all_large(node))
    await none_left(node)
    assert len(await client.rest()) < len(ALL_LARGE)
    client.close()


async def test_a_body_that_never_comes_is_not_waited_for(
    node: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "BODY_TIMEOUT", 0.2)
    client = await Client.of(node)
    await client.say(batch(node, b"small"), batch(node, b"small")[:-1])
    assert await client.answer() == (200, row(b"small"))
    assert (await client.answer())[0] == 408
    assert await client.rest() == b""
    client.close()


async def test_a_connection_without_a_next_request_ends(tmp_path: Path, tree: Path) -> None:
    async with served(tmp_path, tree, keepalive_timeout=0.2) as node:
        for begun in (b"", b"GET /p2p", batch(node, b"small")[:40]):
            client = await Client.of(node)
            await client.say(batch(node, b"small"), begun)
            assert await client.answer() == (200, row(b"small"))
            assert await client.rest() == b""
            client.close()


async def test_clients_that_go_while_they_are_answered_leave_nothing_open(node: Served) -> None:
    before = descriptors(node)
    for request in (all_large(node), get(node, b"large0", b"0-"), batch(node, b"small")[:-1]):
        for _ in range(5):
            client = await Client.of(node, buffer=1 << 12)
            await client.say(request)
            if request.endswith(b"0-\r\n\r\n"):
                await client.reader.readexactly(1000)
            client.writer.transport.abort()
    await none_left(node)
    client = await Client.of(node)
    await client.say(batch(node, b"small"))
    assert await client.answer() == (200, row(b"small"))
    client.close()
    await none_left(node)
    assert descriptors(node) == before


async def test_closing_lets_an_answer_under_way_end(tmp_path: Path, tree: Path) -> None:
    async with served(tmp_path, tree) as node:
        client = await Client.of(node, buffer=1 << 14)
        idle = await Client.of(node)
        await idle.say(batch(node, b"small"))
        assert await idle.answer() == (200, row(b"small"))
        await client.say(all_large(node))
        reading = asyncio.ensure_future(client.answer())
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(node.server.close())
        assert await reading == (200, ALL_LARGE)
        await closing
        assert await idle.rest() == b""
        assert await client.rest() == b""
        client.close()
        idle.close()


async def test_closing_does_not_wait_for_clients_that_take_nothing(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SHUTDOWN_TIMEOUT", 0.1)
    async with served(tmp_path, tree) as node:
        stuck = await Client.of(node, buffer=1 << 12)
        await stuck.say(all_large(node))
        await stuck.reader.readuntil(b"\r\n\r\n")
    assert len(await stuck.rest()) < len(ALL_LARGE)
    stuck.close()


INNER = GET_INFO
SMUGGLED = [
    b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Content-Length: 3\r\nContent-Length: %d\r\n",
    b"Content-Length: 3, %d\r\n",
    b"Content-Length: +%d\r\n",
    b"Content-Length: 0x%x\r\n",
    b"Content-Length : %d\r\n",
    b" Content-Length: %d\r\n",
    b"X: y\r\n Content-Length: %d\r\n",
    b"X: y\nContent-Length: %d\r\n",
    b"X: y\rContent-Length: %d\r\n",
    b"Content-Length: %d\0\r\n",
]


@pytest.mark.parametrize("path", [wire.BATCH_PATH, wire.RECIPES_PATH, wire.HAVE_PATH])
@pytest.mark.parametrize("headers", SMUGGLED)
async def test_no_request_is_smuggled_in_a_body(node: Served, headers: bytes, path: str) -> None:
    """Whatever is said of its length in two ways, a body is never taken for a request."""
    said = headers % len(INNER) if b"%" in headers else headers
    client = await Client.of(node)
    await client.say(b"POST " + path.encode() + b" HTTP/1.1\r\n" + HOST + said + b"\r\n" + INNER)
    async with asyncio.timeout(20):
        answer = await client.rest()
    assert re.match(rb"HTTP/1\.[01] 4\d\d ", answer)
    assert len(re.findall(rb"HTTP/1\.[01] \d\d\d ", answer)) == 1
    client.close()


async def test_requests_that_are_not_plain_are_answered_all_the_same(node: Served) -> None:
    plain = batch(node, b"small", b"large0")
    want = row(b"small") + row(content(0))
    client = await Client.of(node)
    head, _, body = plain.partition(b"\r\n\r\n")
    await client.say(head, b"\r\nExpect: 100-continue\r\n\r\n")
    assert await client.answer() == (100, b"")
    await client.say(body)
    assert await client.answer() == (200, want)
    await client.say(plain)
    assert await client.answer() == (200, want)
    client.close()
    old = await Client.of(node)
    await old.say(plain.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert await old.answer() == (200, want)
    assert await old.rest() == b""
    old.close()
    assert (await node.counted(3 * len(want))).sent == {
        ("batch", node.archive): 3 * (len(want) - 8),
        ("batch", None): 3 * 8,
    }
    assert node.server.counters.batches == 3


async def test_a_request_behind_a_wrong_one_is_answered(node: Served) -> None:
    client = await Client.of(node)
    await client.say(post(wire.BATCH_PATH, b"\xc1"), post(wire.RECIPES_PATH, b"\x05"), batch(node, b"small"))
    assert (await client.answer())[0] == 400
    assert (await client.answer())[0] == 400
    assert await client.answer() == (200, row(b"small"))
    client.close()


async def test_those_that_wait_longest_go_first_when_there_is_no_room(tmp_path: Path, tree: Path) -> None:
    async with served(tmp_path, tree, per_address=3, idle_grace=0) as node:
        held: list[Client] = []
        for _ in range(3):
            held.append(await Client.of(node))
            await held[-1].say(batch(node, b"small"))
            await held[-1].answer()
            await all_wait(node, len(held))
        await held[0].say(GET_INFO)
        await held[0].answer()
        await all_wait(node, 3)
        newcomer = await Client.of(node)
        await newcomer.say(GET_INFO)
        assert (await newcomer.answer())[0] == 200
        assert await held[1].rest() == b""
        for client in (held[0], held[2]):
            await client.say(batch(node, b"small"))
            assert (await client.answer())[0] == 200
        assert node.server.connections_refused == 0
        for client in (*held, newcomer):
            client.close()


async def test_requests_whose_ends_do_not_come_take_bounded_memory(
    node: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that began first make room: the others are answered when they are whole."""
    monkeypatch.setattr(bulk, "BODIES_MAX", 50_000)
    whole = post(
        wire.BATCH_PATH, wire.encode_batch([(bytes([number % 256]) * 32, 0, 9) for number in range(600)])
    )
    held: list[Client] = []
    for _ in range(3):
        held.append(await Client.of(node))
        await held[-1].say(whole[:-1])
        while len(node.server._house.bulk.bodies) < min(len(held), 2):  # noqa: ASYNC110 - this sets no event
            await asyncio.sleep(0.005)
    assert await held[0].rest() == b""
    for client in held[1:]:
        await client.say(whole[-1:])
        assert (await client.answer())[0] == 200
        client.close()


async def test_those_that_are_answered_never_make_room(tmp_path: Path, tree: Path) -> None:
    async with served(tmp_path, tree, per_address=2, idle_grace=0) as node:
        held = [await Client.of(node, buffer=1 << 12) for _ in range(2)]
        for client in held:
            await client.say(all_large(node))
            await client.reader.readuntil(b"\r\n\r\n")
        newcomer = await Client.of(node)
        assert await newcomer.rest() == b""
        assert node.server.connections_refused == 1
        for client in held:
            assert await client.reader.readexactly(len(ALL_LARGE)) == ALL_LARGE
        for client in (*held, newcomer):
            client.close()

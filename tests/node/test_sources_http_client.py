"""The HTTP/1.1 client against servers that behave, and against servers that do not."""

from __future__ import annotations

import asyncio
import re

import pytest
from tests.help.places import own_host
from tests.node.wire_support import says, scripted

from p2psync.errors import ConnectTimeout, FormatError, NetworkError, P2psyncError, TransferTimeout
from p2psync.network.server import Server
from p2psync.sources.http.connection import DIRECT_MIN, DRAIN_MAX
from p2psync.sources.http.head import HEAD_BYTES_MAX
from p2psync.sources.http.pool import Pool
from p2psync.sources.http.sinks import CollectSink, IntoSink

RANGE = re.compile(rb"bytes=(\d+)-(\d+)")
BIG = bytes(range(256)) * 4096


def pool(address: str, **options: float) -> Pool:
    settings = {"connect_timeout": 5.0, "idle_timeout": 5.0} | options
    return Pool(Server.peer(address), **settings)  # type: ignore[arg-type]  # a mixture of numbers


async def ranges(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serves ranges of BIG, keep-alive."""
    while True:
        match = RANGE.search(await reader.readuntil(b"\r\n\r\n"))
        assert match is not None
        first, last = int(match[1]), int(match[2])
        body = BIG[first : last + 1]
        writer.write(
            b"HTTP/1.1 206 x\r\nContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n%b"
            % (first, last, len(BIG), len(body), body)
        )
        await writer.drain()


async def fetch(client: Pool, first: int, length: int) -> bytes:
    buffer = bytearray(length)
    headers = [("Range", f"bytes={first}-{first + length - 1}")]
    sink = IntoSink(memoryview(buffer), first)
    head = await client.request("GET", "/big", sink, headers=headers)
    assert head.status == 206
    assert sink.matched
    return bytes(buffer)


async def test_pipelined_ranges_land_where_they_belong() -> None:
    async with scripted(ranges) as server, pool(server.address, connections=2, depth=4) as client:
        lengths = [1, 100, DIRECT_MIN - 1, DIRECT_MIN, 100_000, 300_000]
        wanted = [(offset, length) for offset in (0, 7, 65_536) for length in lengths]
        got = await asyncio.gather(*(fetch(client, *each) for each in wanted))
        assert got == [BIG[first : first + length] for first, length in wanted]
        assert server.connections <= 2
        assert client.received > sum(length for _, length in wanted)


@pytest.mark.parametrize(("requests", "connections"), [(1, 1), (2, 1), (3, 2), (5, 3), (9, 4)])
async def test_two_requests_share_the_first_connection_and_more_are_spread(
    requests: int, connections: int
) -> None:
    async with scripted(ranges) as server, pool(server.address, connections=4) as client:
        got = await asyncio.gather(*(fetch(client, 7 * number, 100) for number in range(requests)))
        assert got == [BIG[7 * number : 7 * number + 100] for number in range(requests)]
        assert server.connections == connections


async def test_every_byte_from_the_socket_is_counted() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    async with scripted(says(answer, answer)) as server, pool(server.address) as client:
        for _ in range(2):
            sink = CollectSink(100)
            await client.request("GET", "/", sink)
            assert sink.body == b"hello"
        assert client.received == 2 * len(answer)


async def test_a_chunked_body_in_pieces_of_one_byte() -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: u\r\n\r\n"
    )

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            for position in range(len(answer)):
                writer.write(answer[position : position + 1])
                await writer.drain()
                await asyncio.sleep(0)

    async with scripted(talk) as server, pool(server.address, connections=1) as client:
        for _ in range(2):
            sink = CollectSink(100)
            await client.request("GET", "/", sink)
            assert sink.body == b"abc0123456789"
        assert server.connections == 1


async def test_informational_answers_are_skipped() -> None:
    answer = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    async with scripted(says(answer)) as server, pool(server.address) as client:
        sink = CollectSink(10)
        await client.request("GET", "/", sink)
        assert sink.body == b"ok"


async def test_an_unwanted_body_is_dropped_and_the_connection_kept_if_it_is_short() -> None:
    short = b"HTTP/1.1 404 x\r\nContent-Length: 5\r\n\r\nsorry"
    long = b"HTTP/1.1 404 x\r\nContent-Length: %d\r\n\r\n" % (DRAIN_MAX + 1)
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    for answer, connections in ((short, 1), (long, 2)):
        async with scripted(says(answer, good) if answer is short else says(answer)) as server:
            async with pool(server.address, connections=1) as client:
                assert (await client.request("GET", "/", CollectSink(10))).status == 404
                if answer is short:
                    assert (await client.request("GET", "/", CollectSink(10))).status == 200
                else:
                    assert (await client.request("GET", "/", CollectSink(10))).status == 404
            assert server.connections == connections


async def test_a_server_that_closes_idle_connections_is_asked_again() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    async with scripted(says(answer)) as server, pool(server.address, connections=1) as client:
        for _ in range(3):
            sink = CollectSink(10)
            await client.request("GET", "/", sink)
            assert sink.body == b"ok"
        assert server.connections == 3


async def test_requests_behind_an_answer_that_ends_the_connection_are_sent_again() -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    async with scripted(says(answer)) as server, pool(server.address, connections=1, depth=4) as client:
        sinks = [CollectSink(10) for _ in range(4)]
        await asyncio.gather(*(client.request("GET", "/", sink) for sink in sinks))
        assert all(sink.body == b"ok" for sink in sinks)
        assert server.connections == 4


async def test_a_cancelled_request_leaves_its_buffer_and_the_next_answer_alone() -> None:
    begun = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if b"/slow" in request:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"a" * 50_000)
            await writer.drain()
            begun.set()
            await reader.read()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    async with scripted(talk) as server, pool(server.address, connections=1) as client:
        buffer = bytearray(100_000)
        slow = asyncio.create_task(client.request("GET", "/slow", IntoSink(memoryview(buffer))))
        await begun.wait()
        while not buffer[0]:  # noqa: ASYNC110 - the buffer is filled by the kernel, which sets no event
            await asyncio.sleep(0.01)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        before = bytes(buffer)
        sink = CollectSink(10)
        await client.request("GET", "/quick", sink)
        assert sink.body == b"ok"
        assert bytes(buffer) == before


async def test_cancelling_a_request_further_back_does_not_disturb_the_one_in_front() -> None:
    asked = [asyncio.Event(), asyncio.Event()]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfi")
        asked[0].set()
        await reader.readuntil(b"\r\n\r\n")
        asked[1].set()
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"rst" + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthird")
        await writer.drain()

    async with scripted(talk) as server, pool(server.address, connections=1) as client:
        sinks = [CollectSink(10) for _ in range(3)]
        first = asyncio.create_task(client.request("GET", "/1", sinks[0]))
        await asked[0].wait()
        second = asyncio.create_task(client.request("GET", "/2", sinks[1]))
        await asked[1].wait()
        second.cancel()
        third = asyncio.create_task(client.request("GET", "/3", sinks[2]))
        await first
        await third
        assert [bytes(sink.body) for sink in sinks] == [b"first", b"", b"third"]
        assert server.connections == 1


OK = b"HTTP/1.1 200 OK\r\n"
HOSTILE = {
    "endless headers": OK + b"A: " + b"b" * (HEAD_BYTES_MAX + 1000),
    "many headers": OK + b"A: b\r\n" * 3000,
    "not HTTP": b"220 ftp.example.org ready\r\n\r\n",
    "header injection": OK + b"A: b\nContent-Length: 1\r\n\r\n",
    "too many 1xx": b"HTTP/1.1 100 Continue\r\n\r\n" * 5,
    "a switch of protocols": b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n",
    "a chunk size that is none": OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "an endless chunk line": OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1;" + b"a" * 400,
    "a chunk that is longer than it says": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n",
    "endless trailers": OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 2000,
    "more than there is room for": OK + b"Content-Length: 5000\r\n\r\n",
    "an answer too many": OK + b"Content-Length: 2\r\n\r\nok" + OK + b"Content-Length: 0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "compression": OK + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("attack", HOSTILE)
async def test_hostile_answers_end_in_an_error_that_names_the_host(attack: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HOSTILE[attack])
        await writer.drain()
        await reader.read()

    async with scripted(talk) as server, pool(server.address, connections=1) as client:
        if attack == "an answer too many":
            sink = CollectSink(1000)
            await client.request("GET", "/", sink)  # this one was right, and what follows reaches nobody
            assert sink.body == b"ok"
            return
        with pytest.raises(FormatError, match=re.escape(server.address)):
            await client.request("GET", "/", CollectSink(1000))


async def test_a_body_that_stops_short_is_an_error() -> None:
    answer = OK + b"Content-Length: 100\r\n\r\nonly this"
    async with scripted(says(answer)) as server, pool(server.address) as client:
        with pytest.raises(NetworkError, match="in the middle"):
            await client.request("GET", "/", CollectSink(1000))


async def test_a_server_that_only_hangs_up_is_given_up() -> None:
    async with scripted(says()) as server, pool(server.address) as client:
        with pytest.raises(NetworkError, match=re.escape(server.address)):
            await client.request("GET", "/", CollectSink(1000))


@pytest.mark.parametrize(
    "begin", [b"", b"HTTP/1.1 200 OK\r\nConte", OK + b"Content-Length: 100000\r\n\r\n" + b"x" * 40_000]
)
async def test_silence_is_noticed(begin: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(begin)
        await reader.read()

    async with scripted(talk) as server, pool(server.address, idle_timeout=0.2) as client:
        with pytest.raises(TransferTimeout, match="silent"):
            await client.request("GET", "/", IntoSink(memoryview(bytearray(100_000))))


@pytest.mark.parametrize("begin", [OK + b"A: ", OK + b"Content-Length: 100000\r\n\r\n"])
async def test_a_trickle_is_noticed(begin: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(begin)
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with scripted(talk) as server, pool(server.address, idle_timeout=0.3) as client:
        with pytest.raises(TransferTimeout, match="trickles"):
            await client.request("GET", "/", IntoSink(memoryview(bytearray(100_000))))


async def test_a_closed_port_is_a_network_error() -> None:
    async with scripted(says(), own_host()) as server:
        address = server.address
    async with pool(address) as client:
        with pytest.raises(NetworkError, match=f"{re.escape(address)}: cannot connect"):
            await client.request("GET", "/", CollectSink(10))


async def test_a_port_that_accepts_nobody_is_a_connect_timeout() -> None:
    import socket

    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    address = f"127.0.0.1:{full.getsockname()[1]}"
    waiting = []
    for _ in range(8):  # fill the backlog, so that the kernel drops further attempts
        each = socket.socket()
        each.setblocking(False)
        each.connect_ex(full.getsockname())
        waiting.append(each)
    try:
        async with pool(address, connect_timeout=0.3) as client:
            with pytest.raises(ConnectTimeout):
                await client.request("GET", "/", CollectSink(10))
    finally:
        for each in (*waiting, full):
            each.close()


async def test_a_closed_pool_fails_what_is_under_way_and_what_comes() -> None:
    asked = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()

    async with scripted(talk) as server:
        client = pool(server.address)
        task = asyncio.create_task(client.request("GET", "/", CollectSink(10)))
        await asked.wait()
        await client.close()
        with pytest.raises(NetworkError):
            await task
        with pytest.raises(NetworkError):
            await client.request("GET", "/", CollectSink(10))


@pytest.mark.parametrize(
    ("text", "name"), [("h:1", "h:1"), ("[::1]:8730", "[::1]:8730"), ("127.0.0.1:80", "127.0.0.1:80")]
)
def test_names_of_peers(text: str, name: str) -> None:
    assert Server.peer(text).name == name


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://h/", "h"),
        ("https://h:443/a", "h"),
        ("http://h:443", "h:443"),
        ("http://[::1]:81/x", "[::1]:81"),
    ],
)
def test_the_host_header_of_urls(url: str, authority: str) -> None:
    assert Server.web(url).authority == authority


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/",
        "http:///x",
        "http://u:p@h/",
        "http://h/?q",
        "http://h/#f",
        "http://h:99999/",
        "http://[x/",
        "//h",
    ],
)
def test_urls_that_cannot_be_mirrors(url: str) -> None:
    with pytest.raises(P2psyncError):
        Server.web(url)

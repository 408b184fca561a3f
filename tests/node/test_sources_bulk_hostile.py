"""Bulk threads against servers that lie, fall silent, or break off; and giving up on them in every state."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
from collections.abc import Iterator

import pytest
from tests.help.places import own_host
from tests.node.bulk_support import UNTOUCHED, D, node_bulk, threads_and_descriptors, web_bulk
from tests.node.wire_support import Talk, says, scripted

from p2psync.errors import ConnectTimeout, FormatError, NetworkError, TransferTimeout
from p2psync.sources.http.body import CHUNKS_MAX
from p2psync.sources.http.bulk import GivenUp
from p2psync.sources.http.connection import DRAIN_MAX
from p2psync.sources.http.head import HEAD_BYTES_MAX
from p2psync.sources.http.rate import BURST_SECONDS, RateLimiter
from p2psync.sources.source import Span

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
GOOD = OK + b"Content-Length: 9\r\n\r\n\0\0\0\5hello"
FIVE = Span(D, 0, 5)
LONG = Span(D, 0, 300_000)

HOSTILE = {
    "endless headers": OK + b"A: " + b"b" * (HEAD_BYTES_MAX + 1000),
    "many headers": OK + b"A: b\r\n" * 3000,
    "not HTTP": b"220 ftp.example.org ready\r\n\r\n",
    "header injection": OK + b"A: b\nContent-Length: 1\r\n\r\n",
    "too many 1xx": b"HTTP/1.1 100 Continue\r\n\r\n" * 5,
    "a switch of protocols": b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n",
    "a chunk size that is none": CHUNKED + b"xyz\r\n",
    "an endless chunk line": CHUNKED + b"1;" + b"a" * 400,
    "a chunk that is longer than it says": CHUNKED + b"2\r\nabcd\r\n0\r\n\r\n",
    "a chunk that is longer than there is room for": CHUNKED + b"ffffffffffff\r\n",
    "endless trailers": CHUNKED + b"9\r\n\0\0\0\5hello\r\n0\r\n" + b"A: b\r\n" * 2000,
    "more than there is room for": OK + b"Content-Length: 5000\r\n\r\n",
    "two lengths": OK + b"Content-Length: 9\r\nContent-Length: 3\r\n\r\n\0\0\0\5hello",
    "a length and chunks": OK + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "compression": OK + b"Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\n\0\0\0\5hello",
    "a row of another length": OK + b"Content-Length: 8\r\n\r\n\0\0\0\4hell",
    "half a row": OK + b"Content-Length: 7\r\n\r\n\0\0\0\5hel",
    "half a row head": OK + b"Content-Length: 2\r\n\r\n\0\0",
    "no row": OK + b"Content-Length: 0\r\n\r\n",
    "a row too many": OK + b"Content-Length: 8\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff",
}
RANGES = {
    "another range": (
        b"HTTP/1.1 206 x\r\nContent-Range: bytes 1-300000/400000\r\nContent-Length: 300000\r\n\r\n"
    ),
    "no range": b"HTTP/1.1 206 x\r\nContent-Length: 300000\r\n\r\n",
    "a range that contradicts itself": (
        b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-299999/400000\r\nContent-Length: 5\r\n\r\nhello"
    ),
    "the whole of something else": OK + b"Content-Length: 5\r\n\r\nhello",
    "a chunked range that is too short": (
        b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-299999/400000\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    ),
}


def once(answer: bytes) -> Talk:
    """Says it to the first request, and then nothing."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        await reader.read()

    return talk


@pytest.mark.parametrize("attack", HOSTILE)
async def test_hostile_batches_end_in_an_error_that_names_the_node(attack: str) -> None:
    async with scripted(once(HOSTILE[attack])) as server, node_bulk(server.address) as asker:
        answer = await asker.get(FIVE)
        assert isinstance(answer.error, FormatError)
        assert str(answer.error).startswith(f"{server.address}: ")
        assert answer.positions == []


@pytest.mark.parametrize(
    ("said", "ends", "begun"),
    [
        (b"", True, False),
        (OK, True, True),
        (OK + b"Content-Length: 9\r\n\r\n\0\0", True, True),
        (OK, False, True),
    ],
)
async def test_it_is_told_whether_an_answer_had_begun_that_broke_off(
    said: bytes, ends: bool, begun: bool
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()
        if not ends:
            await reader.read()

    async with scripted(talk) as server, node_bulk(server.address, idle_timeout=0.5) as asker:
        first, second = await asyncio.gather(asker.get(FIVE), asker.get(FIVE))
    assert isinstance(first.error, NetworkError)
    assert first.begun == begun
    assert not second.begun or ends, "the one behind it was not answered at all"


@pytest.mark.parametrize("attack", RANGES)
async def test_hostile_ranges_end_in_an_error_that_names_the_node(attack: str) -> None:
    async with scripted(once(RANGES[attack])) as server, node_bulk(server.address) as asker:
        answer = await asker.get(LONG)
        assert isinstance(answer.error, FormatError)
        assert str(answer.error).startswith(f"{server.address}: ")


async def test_a_body_in_endless_small_chunks_is_cut_short() -> None:
    async with (
        scripted(once(CHUNKED + b"1\r\nx\r\n" * (CHUNKS_MAX + 1))) as server,
        node_bulk(server.address) as asker,
    ):
        answer = await asker.get(*[Span(D, 0, 1000)] * 200)
        assert isinstance(answer.error, FormatError)
        assert "chunks" in str(answer.error)


async def test_an_answer_too_many_reaches_nobody() -> None:
    talk = says(GOOD + GOOD.replace(b"hello", b"smugg"))
    async with scripted(talk) as server, node_bulk(server.address) as asker:
        for _ in range(2):
            answer = await asker.get(FIVE)
            assert asker.bytes_of(answer, [FIVE]) == [b"hello"]
        assert server.connections == 2


async def test_a_broken_answer_costs_those_behind_it_nothing() -> None:
    first = True

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal first
        broken, first = first, False
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK + b"Content-Length: x\r\n\r\n" if broken else GOOD)
            await writer.drain()

    async with scripted(talk) as server, node_bulk(server.address) as asker:
        answers = await asyncio.gather(*(asker.get(FIVE) for _ in range(3)))
        assert isinstance(answers[0].error, FormatError)
        assert [each.error for each in answers[1:]] == [None, None]


async def test_a_chunked_answer_in_pieces_of_one_byte_with_early_hints() -> None:
    whole = (
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        + CHUNKED
        + b"3;x=y\r\n\0\0\0\r\n6\r\n\5hello\r\n0\r\nT: u\r\n\r\n"
    )

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            for position in range(len(whole)):
                writer.write(whole[position : position + 1])
                await writer.drain()
                await asyncio.sleep(0)

    async with scripted(talk) as server, node_bulk(server.address) as asker:
        for _ in range(2):
            answer = await asker.get(FIVE)
            assert asker.bytes_of(answer, [FIVE]) == [b"hello"]
        assert asker.bulk.received == 2 * len(whole)
        assert server.connections == 1


async def test_an_error_page_is_dropped_and_the_connection_kept_if_it_is_short() -> None:
    for length, connections in ((5, 1), (DRAIN_MAX + 1, 2)):
        page = b"HTTP/1.1 404 x\r\nContent-Length: %d\r\n\r\n%b" % (length, b"x" * length)
        async with scripted(says(page, page)) as server, node_bulk(server.address) as asker:
            for _ in range(2):
                answer = await asker.get(LONG)
                assert answer.error is None
                assert answer.positions == [-1]
            assert server.connections == connections


async def test_a_body_that_stops_short_is_an_error() -> None:
    async with scripted(says(GOOD[:-1])) as server, node_bulk(server.address) as asker:
        answer = await asker.get(FIVE)
        assert type(answer.error) is NetworkError
        assert "in the middle" in str(answer.error)


async def test_a_server_that_only_hangs_up_is_given_up() -> None:
    async with scripted(says()) as server, node_bulk(server.address) as asker:
        answers = await asyncio.gather(*(asker.get(FIVE) for _ in range(5)))
        assert all(type(answer.error) is NetworkError for answer in answers)
        assert server.connections <= 8


@pytest.mark.parametrize(
    "begin",
    [b"", b"HTTP/1.1 200 OK\r\nConte", OK + b"Content-Length: 9\r\n\r\n\0\0\0\5h", CHUNKED + b"9\r\n\0"],
)
async def test_silence_is_noticed_and_ends_all_that_was_asked(begin: bytes) -> None:
    async with scripted(once(begin)) as server, node_bulk(server.address, idle_timeout=0.2) as asker:
        for answer in await asyncio.gather(*(asker.get(FIVE) for _ in range(5))):
            assert isinstance(answer.error, TransferTimeout)
            assert "silent" in str(answer.error)
            assert server.address in str(answer.error)
        assert server.connections == 1


@pytest.mark.parametrize("begin", [OK + b"A: ", OK + b"Content-Length: 9000\r\n\r\n", CHUNKED + b"9;"])
async def test_a_trickle_is_noticed(begin: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(begin)
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    # The thread has a clock of its own: thirty bytes late in a row, on a busy machine, would be silence.
    async with scripted(talk) as server, node_bulk(server.address, idle_timeout=0.6) as asker:
        answer = await asker.get(Span(D, 0, 100_000))
        assert isinstance(answer.error, TransferTimeout)
        assert "trickles" in str(answer.error)


async def test_a_closed_port_is_a_network_error_of_all_that_were_asked() -> None:
    async with scripted(says(), own_host()) as server:
        address = server.address
    async with node_bulk(address) as asker:
        for answer in await asyncio.gather(*(asker.get(FIVE) for _ in range(4))):
            assert type(answer.error) is NetworkError
            assert re.search(f"{re.escape(address)}: cannot connect", str(answer.error))


@pytest.fixture
def full_port() -> Iterator[str]:
    """An address that accepts nobody: its backlog is full, so the kernel drops further attempts."""
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    waiting = []
    for _ in range(8):
        each = socket.socket()
        each.setblocking(False)
        each.connect_ex(full.getsockname())
        waiting.append(each)
    yield f"127.0.0.1:{full.getsockname()[1]}"
    for each in (*waiting, full):
        each.close()


async def test_a_port_that_accepts_nobody_is_a_connect_timeout(full_port: str) -> None:
    async with node_bulk(full_port, connect_timeout=0.3) as asker:
        answer = await asker.get(FIVE)
        assert isinstance(answer.error, ConnectTimeout)
        assert full_port in str(answer.error)


async def test_a_name_that_does_not_exist_is_a_network_error() -> None:
    async with node_bulk("no-such-host.invalid:1") as asker:
        answer = await asker.get(FIVE)
        assert type(answer.error) is NetworkError
        assert "no-such-host.invalid:1: cannot connect" in str(answer.error)


STATES = {
    "no answer": b"",
    "half a head": b"HTTP/1.1 206 x\r\nCont",
    "half a body": (
        b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-299999/300000\r\nContent-Length: 300000\r\n\r\n"
        + b"x" * 99
    ),
}


@pytest.mark.parametrize("state", STATES)
async def test_closing_while_an_answer_is_due_ends_thread_and_connection(state: str) -> None:
    before = threads_and_descriptors()
    heard = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(STATES[state])
        await writer.drain()
        heard.set()
        await reader.read()

    async with scripted(talk) as server, node_bulk(server.address, idle_timeout=600) as asker:
        answers = [asker.ask(asker.order([LONG])) for _ in range(6)]
        await heard.wait()
        await asker.bulk.close()
        for answer in answers:
            assert answer.done()  # told before close() returned
            assert isinstance(answer.result().error, GivenUp)
    gc.collect()
    assert threads_and_descriptors() <= before


async def test_closing_while_connecting(full_port: str) -> None:
    before = threads_and_descriptors()
    async with node_bulk(full_port, connect_timeout=600) as asker:
        answer = asker.ask(asker.order([LONG]))
        await asyncio.sleep(0)
        await asker.bulk.close()
        assert isinstance(answer.result().error, GivenUp)
    assert threads_and_descriptors() <= before


async def test_closing_while_tls_is_agreed_on() -> None:
    before = threads_and_descriptors()
    greeted = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(5)
        greeted.set()
        await reader.read()

    async with scripted(talk) as server:
        url = f"https://{server.address}"
        async with web_bulk(url, connect_timeout=600) as asker:
            answer = asker.ask(asker.order([Span(D, 0, 5, b"x", 5)]))
            await greeted.wait()
            await asker.bulk.close()
            assert isinstance(answer.result().error, GivenUp)
    assert threads_and_descriptors() <= before


async def test_a_request_that_the_server_does_not_take_yet_does_not_keep_it_from_answering() -> None:
    """Both ends would wait for each other: it reads the next request when its answer is out."""
    span, rows = Span(D, 0, 8 << 20), [Span(D, 0, 1)] * 4096
    told = b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-%d/%d\r\nContent-Length: %d\r\n\r\n"

    def serve(listening: socket.socket) -> None:
        conn, _ = listening.accept()
        with conn, conn.makefile("rb") as reader:
            while reader.readline().strip():
                pass
            conn.sendall(told % (span.length - 1, span.length, span.length) + bytes(span.length))
            for _ in range(2):
                length = 0
                while line := reader.readline().strip():
                    length = int(line.split(b":")[1]) if line.startswith(b"Content-Length") else length
                reader.read(length)
                conn.sendall(OK + b"Content-Length: %d\r\n\r\n" % (5 * len(rows)) + b"\0\0\0\1x" * len(rows))

    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        serving = asyncio.ensure_future(asyncio.to_thread(serve, listening))
        async with node_bulk(f"127.0.0.1:{listening.getsockname()[1]}") as asker:
            orders = [asker.order(spans) for spans in ([span], rows, rows)]
            answers = await asyncio.gather(*(asker.ask(order) for order in orders))
            assert [answer.error for answer in answers] == [None] * 3
        await serving


async def test_closing_while_the_limit_makes_it_wait() -> None:
    options = {"limiter": RateLimiter(10_000), "idle_timeout": 600}
    talk = once(STATES["half a body"] + b"x" * 100_000)
    async with scripted(talk) as server, node_bulk(server.address, **options) as asker:
        answer = asker.ask(asker.order([LONG]))
        while asker.bulk.received < 3000:  # noqa: ASYNC110 - the kernel sets no event
            await asyncio.sleep(0.01)
        await asker.bulk.close()
        assert isinstance(answer.result().error, GivenUp)


async def test_closing_while_a_request_is_not_taken() -> None:
    """A server that reads nothing: the request fills what the kernels hold."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        async with node_bulk(address, idle_timeout=600) as asker:
            rows = [Span(D, 1 << 40, 1)] * 4096
            answers = [asker.ask(asker.order(rows)) for _ in range(30)]
            await asyncio.sleep(0)
            await asker.bulk.close()
            assert all(isinstance(answer.result().error, GivenUp) for answer in answers)


async def test_an_order_that_waits_is_cancelled_at_once() -> None:
    async with scripted(once(b"")) as server, node_bulk(server.address, idle_timeout=600) as asker:
        orders = [asker.order([FIVE]) for _ in range(8)]
        answers = [asker.ask(order) for order in orders]
        asker.bulk.cancel(orders[7].token)
        assert isinstance((await answers[7]).error, GivenUp)
        assert not any(answer.done() for answer in answers[:7])
        asker.bulk.cancel(12345)  # unknown: answered already


async def test_a_cancelled_answer_leaves_its_memory_alone_and_those_behind_it_come() -> None:
    begun = asyncio.Event()
    first = True

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal first
        while True:
            request = await reader.readuntil(b"\r\n\r\n")
            if b"/object/" in request and first:
                first = False
                writer.write(STATES["half a body"])
                await writer.drain()
                begun.set()
                while not writer.is_closing():
                    writer.write(b"z" * 1000)
                    await writer.drain()
                    await asyncio.sleep(0.01)
            else:
                writer.write(GOOD)
                await writer.drain()

    async with scripted(talk) as server, node_bulk(server.address) as asker:
        slow = asker.order([LONG])
        answers = [asker.ask(slow), asker.ask(asker.order([FIVE])), asker.ask(asker.order([FIVE]))]
        await begun.wait()
        while asker.memory[0] == UNTOUCHED:  # noqa: ASYNC110 - the buffer is filled by the kernel
            await asyncio.sleep(0.01)
        asker.bulk.cancel(slow.token)
        assert isinstance((await answers[0]).error, GivenUp)
        asker.memory[0:300_000] = bytes([UNTOUCHED]) * 300_000
        assert [(await answer).error for answer in answers[1:]] == [None, None]
        assert asker.memory[0:300_000] == bytes([UNTOUCHED]) * 300_000


async def test_cancelling_an_order_further_back_does_not_disturb_the_one_in_front() -> None:
    go_on = asyncio.Event()
    both = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(re.search(rb"Content-Length: (\d+)", head)[1]))  # type: ignore[index]
        both.set()
        await go_on.wait()
        writer.write(GOOD * 3)
        await writer.drain()
        await reader.read()

    async with scripted(talk) as server, node_bulk(server.address) as asker:
        orders = [asker.order([FIVE]) for _ in range(3)]
        answers = [asker.ask(order) for order in orders]
        await both.wait()
        asker.bulk.cancel(orders[1].token)
        go_on.set()
        errors = [(await answer).error for answer in answers]
        assert errors[0] is None
        assert isinstance(errors[1], GivenUp)
        assert errors[2] is None
        untouched = asker.memory[orders[1].extent.offset : orders[2].extent.offset]
        assert set(untouched) == {UNTOUCHED}
        assert server.connections == 1


async def test_the_limit_is_kept_and_nothing_is_lost() -> None:
    body = bytes(range(256)) * 1200
    told = b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-%d/%d\r\nContent-Length: %d\r\n\r\n" % (
        len(body) - 1,
        len(body),
        len(body),
    )
    limiter = RateLimiter(1_000_000)
    options = {"limiter": limiter, "idle_timeout": 0.4}
    loop = asyncio.get_running_loop()
    talk = says(*[told + body] * 3)
    async with scripted(talk) as server, node_bulk(server.address, **options) as asker:
        begin = loop.time()
        span = Span(D, 0, len(body))
        answers = await asyncio.gather(*(asker.get(span) for _ in range(3)))
        taken = loop.time() - begin
        for answer in answers:
            assert asker.bytes_of(answer, [span]) == [body]
        # Not a race against the clock: the limit makes it this slow on any machine.
        assert asker.bulk.received <= 1_000_000 * (taken + BURST_SECONDS) + 4 * limiter.read_size


async def test_a_limit_that_is_lifted_lets_the_rest_through() -> None:
    limiter = RateLimiter(20_000)
    body = b"x" * 300_000
    told = b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-299999/300000\r\nContent-Length: 300000\r\n\r\n"
    talk = says(told + body)
    async with scripted(talk) as server, node_bulk(server.address, limiter=limiter) as asker:
        answer = asker.ask(asker.order([LONG]))
        while not asker.bulk.received:  # noqa: ASYNC110 - the kernel sets no event
            await asyncio.sleep(0.01)
        limiter.rate = None
        assert asker.bytes_of(await answer, [LONG]) == [body]

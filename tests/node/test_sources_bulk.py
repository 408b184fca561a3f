"""Bulk bytes of a node, by a thread of their own: what is asked, what is told, what is verified."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.node.bulk_support import UNTOUCHED, Asker, D, digest, node_bulk, threads_and_descriptors, web_bulk
from tests.node.wire_support import Served, says, scripted, served

from p2psync.errors import NetworkError
from p2psync.format.ids import Ref
from p2psync.sources import web_content, wire
from p2psync.sources.http.bulk import GivenUp
from p2psync.sources.node_content import RANGE_MIN
from p2psync.sources.opening import SourceSettings, open_source
from p2psync.sources.orders import Answer, Check
from p2psync.sources.source import NotOffered, Span

RANDOM = random.Random(17)
BIG = RANDOM.randbytes(3_000_000)
SMALL = [RANDOM.randbytes(1 + index * 70) for index in range(300)]
MISSING = b"\xee" * 32
OK = b"HTTP/1.1 200 OK\r\n"
BATCH = wire.BATCH_PATH.encode()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    tree = tmp_path / "tree"
    (tree / "small").mkdir(parents=True)
    (tree / "big").write_bytes(BIG)
    for index, data in enumerate(SMALL):
        (tree / "small" / str(index)).write_bytes(data)
    async with served(tmp_path, tree) as made:
        yield made


@pytest.fixture
async def asker(node: Served) -> AsyncIterator[Asker]:
    async with node_bulk(node.address) as made:
        yield made


def small(node: Served, index: int) -> Span:
    return Span(node.entry(b"small/%d" % index).digest, 0, len(SMALL[index]))


async def test_small_objects_come_in_one_batch(node: Served, asker: Asker) -> None:
    spans = [small(node, index) for index in range(300)]
    answer = await asker.get(*spans, digests=[digest(data) for data in SMALL])
    assert answer.error is None
    assert answer.wrong == []
    assert answer.seconds > 0
    assert asker.bytes_of(answer, spans) == SMALL
    assert asker.bulk.received > sum(map(len, SMALL))


async def test_rows_that_are_not_there_have_no_position_and_are_not_wrong(node: Served, asker: Asker) -> None:
    spans = [small(node, 5), Span(MISSING, 0, 50), small(node, 7), Span(MISSING, 3, 1)]
    answer = await asker.get(*spans, digests=[digest(SMALL[5]), D, digest(SMALL[7]), D])
    assert asker.bytes_of(answer, spans) == [SMALL[5], None, SMALL[7], None]
    assert answer.wrong == []


async def test_neighbours_that_form_a_long_stretch_come_as_one_range(node: Served, asker: Asker) -> None:
    big = node.entry(b"big").digest
    spans = [Span(big, 1000, RANGE_MIN), Span(big, 1000 + RANGE_MIN, 77), Span(big, 1077 + RANGE_MIN, 5)]
    answer = await asker.get(*spans)
    assert asker.bytes_of(answer, spans) == [BIG[span.offset : span.offset + span.length] for span in spans]
    assert [at - answer.positions[0] for at in answer.positions] == [0, RANGE_MIN, RANGE_MIN + 77]
    assert (await node.counted(RANGE_MIN)).bytes_by("object") >= RANGE_MIN


async def test_a_range_that_is_not_there(asker: Asker) -> None:
    answer = await asker.get(Span(MISSING, 0, RANGE_MIN))
    assert answer.positions == [-1]
    assert answer.wrong == []
    assert answer.error is None


async def test_an_order_that_is_no_single_request_is_a_defect_of_the_caller(asker: Asker) -> None:
    with pytest.raises(ValueError, match="one batch"):
        asker.ask(asker.order([Span(D, 0, wire.BATCH_ROW_MAX + 1), Span(MISSING, 0, 1)]))
    with pytest.raises(ValueError, match="one batch"):
        asker.ask(asker.order([Span(D, 0, 1)] * (wire.BATCH_ROWS_MAX + 1)))


async def test_every_chunk_is_verified_and_the_wrong_ones_are_named(node: Served, asker: Asker) -> None:
    big = node.entry(b"big").digest
    order = asker.order([Span(big, 0, 300_000), Span(big, 300_000, 300_000)])
    right = [Check(0, 0, 100_000, digest(BIG[:100_000])), Check(0, 100_000, 200_000, D)]
    right += [Check(1, 0, 299_999, D), Check(1, 299_999, 1, digest(BIG[599_999:600_000]))]
    answer = await asker.ask(order._replace(checks=right))
    assert answer.wrong == [1, 2]
    assert -1 not in answer.positions


async def test_many_orders_are_answered_in_the_order_in_which_they_were_asked(
    node: Served, asker: Asker
) -> None:
    big = node.entry(b"big").digest
    told: list[int] = []
    done = asyncio.Event()

    def tell(answer: Answer) -> None:
        told.append(answer.token)
        if len(told) == len(orders):
            done.set()

    orders = [asker.order([Span(big, index, RANGE_MIN if index % 2 else 10)]) for index in range(40)]
    for order in orders:
        asker.bulk.ask(order, tell)
    await done.wait()
    assert told == [order.token for order in orders]
    for index, order in enumerate(orders):
        length = order.spans[0].length
        begin = order.extent.offset + (0 if index % 2 else 4)
        assert asker.memory[begin : begin + length] == BIG[index : index + length]


async def test_nothing_is_written_beyond_an_orders_extent(node: Served, asker: Asker) -> None:
    big = node.entry(b"big").digest
    order = asker.order([Span(big, 0, RANGE_MIN)])
    await asker.ask(order)
    end = order.extent.offset + order.extent.size
    assert asker.memory[end : end + 1000] == bytes([UNTOUCHED]) * 1000


async def test_one_order_after_another_uses_one_connection_and_a_request_ahead_is_sent() -> None:
    one_here, both_here = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(re.search(rb"Content-Length: (\d+)", head)[1]))  # type: ignore[index]
            one_here.set()
        both_here.set()  # two requests before any answer
        answer = OK + b"Content-Length: 9\r\n\r\n\0\0\0\5hello"
        writer.write(answer + answer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    async with scripted(talk) as server, node_bulk(server.address) as asker:
        one = asker.ask(asker.order([Span(D, 0, 5)]))
        await one_here.wait()  # the thread waits for an answer
        two = asker.ask(asker.order([Span(D, 0, 5)]))
        await both_here.wait()
        assert (await one).positions == [4]
        assert (await two).positions == [9 + 4]
        assert (await asker.get(Span(D, 0, 5))).error is None
        assert server.connections == 1


async def test_a_server_that_closes_idle_connections_is_asked_again() -> None:
    answer = OK + b"Content-Length: 9\r\n\r\n\0\0\0\5hello"
    async with scripted(says(answer)) as server, node_bulk(server.address) as asker:
        for _ in range(3):
            assert (await asker.get(Span(D, 0, 5))).error is None
        assert server.connections == 3


async def test_requests_behind_an_answer_that_ends_the_connection_are_sent_again() -> None:
    answer = OK + b"Connection: close\r\nContent-Length: 9\r\n\r\n\0\0\0\5hello"
    async with scripted(says(answer)) as server, node_bulk(server.address) as asker:
        answers = await asyncio.gather(*(asker.get(Span(D, 0, 5)) for _ in range(6)))
        assert [each.error for each in answers] == [None] * 6
        assert server.connections == 6


async def test_a_refusal_is_an_error_of_its_order_alone() -> None:
    busy = b"HTTP/1.1 429 x\r\nContent-Length: 5\r\n\r\nsorry"
    good = OK + b"Content-Length: 9\r\n\r\n\0\0\0\5hello"
    async with scripted(says(busy, good)) as server, node_bulk(server.address) as asker:
        answers = await asyncio.gather(*(asker.get(Span(D, 0, 5)) for _ in range(2)))
        assert isinstance(answers[0].error, NetworkError)
        assert server.address in str(answers[0].error)
        assert answers[1].error is None
        assert server.connections == 1


async def test_a_source_has_neither_thread_nor_connection_before_the_first_order() -> None:
    before = threads_and_descriptors()
    source = open_source("127.0.0.1:1", SourceSettings(memoryview(bytearray(10))))
    web = open_source("https://localhost:1/x", SourceSettings(memoryview(bytearray(10))))
    assert source.name == "127.0.0.1:1"
    assert source.metadata is not None
    assert source.tracker is not None
    assert web.metadata is None
    assert web.tracker is None
    assert threads_and_descriptors() <= before
    await source.close()
    await web.close()


async def test_an_opened_node_gives_content_metadata_and_holders(node: Served) -> None:
    memory = bytearray(1 << 20)
    source = open_source(node.address, SourceSettings(memoryview(memory)))
    asker = Asker(source.content, memory)  # type: ignore[arg-type]  # any Bulk does
    span = small(node, 9)
    answer = await asker.get(span, digests=[digest(SMALL[9])])
    assert asker.bytes_of(answer, [span]) == [SMALL[9]]
    assert source.metadata is not None
    assert source.tracker is not None
    big = node.entry(b"big").ref
    recipes = await source.metadata.recipes([big, Ref(100_000, MISSING)])
    assert recipes[0] is not None
    assert recipes[1] is None
    assert await source.tracker.holders(node.archive) == []
    assert source.received > source.content.received > len(SMALL[9])
    await source.close()


async def test_a_closed_source_answers_with_an_error(node: Served) -> None:
    async with node_bulk(node.address) as asker:
        await asker.bulk.close()
        assert isinstance((await asker.get(small(node, 1))).error, GivenUp)
        await asker.bulk.close()


async def test_a_web_server_is_asked_for_the_path_in_the_archive(node: Served) -> None:
    async with web_bulk(f"{node.url}/") as asker:
        spans = [Span(D, 10, 300_000, b"big", len(BIG)), Span(D, 300_010, 5, b"big", len(BIG))]
        answer = await asker.get(*spans)
        assert asker.bytes_of(answer, spans) == [BIG[10:300_010], BIG[300_010:300_015]]
        whole = Span(D, 0, len(SMALL[20]), b"small/20", len(SMALL[20]))
        assert asker.bytes_of(await asker.get(whole), [whole]) == [SMALL[20]]
        for absent in (
            Span(D, 0, 10, None, 10),
            Span(D, 0, 10, b"nothing", 10),
            Span(D, 0, 10, b"small", 10),
            Span(D, 0, len(BIG) + 1, b"big", len(BIG) + 1),
            Span(D, 5, 10, b"big", len(BIG) - 1),
            Span(D, len(BIG), 10, b"big", len(BIG) + 10),
        ):
            answer = await asker.get(absent)
            assert answer.positions == [-1]
            assert answer.error is None
        with pytest.raises(ValueError, match="one stretch"):
            asker.ask(asker.order([whole, spans[0]]))


WEB = {
    "a chunked body of another length": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n6\r\nhello!\r\n0\r\n\r\n",
        None,
    ),
    "a shorter chunked body": (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nh\r\n0\r\n\r\n", None),
    "another length": (OK + b"Content-Length: 6\r\n\r\nhello!", None),
    "403": (b"HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n", None),
    "410": (b"HTTP/1.1 410 x\r\nContent-Length: 0\r\n\r\n", None),
    "elsewhere": (b"HTTP/1.1 302 x\r\nLocation: http://other/\r\nContent-Length: 0\r\n\r\n", NotOffered),
    "to no URL": (b"HTTP/1.1 302 x\r\nLocation: http://[x/\r\nContent-Length: 0\r\n\r\n", NotOffered),
    "a directory, by a path": (b"HTTP/1.1 301 x\r\nLocation: /x/\r\nContent-Length: 0\r\n\r\n", None),
    "a directory, relatively": (b"HTTP/1.1 308 x\r\nLocation: x/\r\nContent-Length: 0\r\n\r\n", None),
    "failing": (b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n", NetworkError),
}


@pytest.mark.parametrize("case", WEB)
async def test_what_a_web_server_may_say_instead_of_a_file(case: str) -> None:
    said, error = WEB[case]
    async with scripted(says(said)) as server, web_bulk(server.url) as asker:
        answer = await asker.get(Span(D, 0, 5, b"x", 5))
        if error is None:
            assert answer.error is None
            assert answer.positions == [-1]
        else:
            assert isinstance(answer.error, error)
            assert server.url in str(answer.error)


async def test_of_a_file_that_comes_whole_the_part_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may ignore Range, and a proxy in front of it too; of large files that would cost too much."""
    said = OK + b"Content-Length: 9\r\n\r\nsomething"
    async with scripted(says(said)) as server, web_bulk(server.url) as asker:
        whole = Span(D, 0, 9, b"x", 9)
        assert asker.bytes_of(await asker.get(whole), [whole]) == [b"something"]
        part = Span(D, 2, 3, b"x", 9)
        assert asker.bytes_of(await asker.get(part), [part]) == [b"met"]
        assert (await asker.get(Span(D, 2, 3, b"x", 10))).positions == [-1]  # Another version of it.
        monkeypatch.setattr(web_content, "PASSED_MAX", 8)
        answer = await asker.get(Span(D, 2, 3, b"x", 9))
        assert isinstance(answer.error, NotOffered)
        assert "parts of files" in str(answer.error)


async def test_many_requests_go_ahead_to_a_web_server_as_long_as_its_connections_carry_them() -> None:
    """The first connection answers when ten have come; later ones say that each answer is their last one."""
    ahead: list[int] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if server.connections == 1:
            for _ in range(10):
                await reader.readuntil(b"\r\n\r\n")
            writer.write((OK + b"Content-Length: 1\r\n\r\nx") * 10)
            await writer.drain()
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Content-Length: 1\r\nConnection: close\r\n\r\nx")
        await writer.drain()
        writer.write_eof()
        ahead.append((await reader.read()).count(b"\r\n\r\n"))

    async with scripted(talk) as server, web_bulk(server.url) as asker:
        first = await asyncio.gather(*(asker.get(Span(D, 0, 1, b"%d" % number, 1)) for number in range(30)))
        assert [answer.positions[0] >= 0 for answer in first] == [True] * 30
    # Eleven answers came on the first connection, one on each later one: soon nothing is sent in vain.
    assert ahead[3:] == [0] * len(ahead[3:])

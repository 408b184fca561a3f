"""Requests for a head that wait for a newer one: whoever waits hears of it at once, costs next to nothing,
and keeps nobody from what the node is there for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.node.wire_support import Served, served

from p2psync.content import subscribers
from p2psync.publish import publish
from p2psync.sources.node import PeerSource
from p2psync.sources.source import NotHere, NotOffered
from p2psync.sources.wire import WAIT_MAX, head_path, wait_wished
from p2psync.state import State

LONG = 40
"""Seconds that nobody waits for: what is waited for comes, or is refused, before."""


def tree_in(path: Path, text: str = "one") -> Path:
    path.mkdir(exist_ok=True)
    (path / "file").write_text(text)
    return path


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path, tree_in(tmp_path / "tree")) as made:
        yield made


def head_of(node: Served) -> bytes:
    head = node.state.heads.newest(node.archive)
    assert head is not None
    return head.raw


async def waiting(node: Served, number: int = 1) -> None:
    async with asyncio.timeout(20):
        while node.server.subscribers != number:  # noqa: ASYNC110 - it is another task of the server
            await asyncio.sleep(0.001)


async def listen(node: Served, seconds: int = LONG) -> bytes | None:
    source = PeerSource(node.address, connections=1)
    try:
        return await source.newer_head(node.archive, head_of(node), seconds)
    finally:
        await source.close()


async def test_who_waits_hears_of_a_snapshot_that_another_process_publishes(node: Served) -> None:
    hearing = asyncio.create_task(listen(node))
    await waiting(node)
    with State.open(node.state.path) as theirs:
        publish(theirs, tree_in(node.tree, "two"))
    assert await hearing == head_of(node)
    assert node.server.subscribers == 0


async def test_who_waits_hears_of_a_head_that_somebody_hands_on_without_any_look(
    node: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscribers, "LOOK", 1000.0)
    hearing = asyncio.create_task(listen(node))
    await waiting(node)
    with State.open(node.state.path) as theirs:
        publish(theirs, tree_in(node.tree, "two"))
    node.server.look()
    assert await hearing == head_of(node)


async def test_where_nothing_is_new_the_answer_says_so_in_time(node: Served) -> None:
    assert await listen(node, seconds=1) is None


async def test_who_knows_another_head_is_answered_at_once(node: Served) -> None:
    source = PeerSource(node.address)
    assert await source.newer_head(node.archive, b"an older one", LONG) == head_of(node)
    with pytest.raises(NotHere):
        await source.newer_head(bytes(32), b"", LONG)
    await source.close()


async def test_more_of_one_client_than_it_has_places_are_answered_at_once(
    node: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscribers, "WAITING_PER_CLIENT", 3)
    first = [asyncio.create_task(listen(node)) for _ in range(3)]
    await waiting(node, 3)
    with pytest.raises(NotOffered):
        await listen(node)
    for each in first:
        each.cancel()
    await asyncio.wait(first)


async def test_those_who_wait_keep_nobody_from_being_served(tmp_path: Path) -> None:
    """Whatever they owe, and however many they are: a request that waits is no work, and its connection is
    given to whoever needs one.
    """
    options = {"connections": 8, "per_address": 8, "idle_grace": 0.0}
    async with served(tmp_path, tree_in(tmp_path / "tree"), **options) as node, AsyncExitStack() as stack:
        tasks = [asyncio.create_task(listen(node)) for _ in range(8)]
        stack.callback(lambda: [task.cancel() for task in tasks])
        await waiting(node, 8)
        for _ in range(3):
            source = PeerSource(node.address, connections=1)
            stack.push_async_callback(source.close)
            assert (await source.info()).archives == (node.archive,)


async def test_who_has_gone_gives_the_place_back(node: Served) -> None:
    reader, writer = await asyncio.open_connection(*node.server.address)
    writer.write(
        f"GET {head_path(node.archive)} HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: "
        f"{await tag(node)}\r\nPrefer: wait={LONG}\r\n\r\n".encode()
    )
    await waiting(node)
    writer.transport.abort()
    await waiting(node, 0)
    assert not await reader.read()


async def tag(node: Served) -> str:
    reader, writer = await asyncio.open_connection(*node.server.address)
    writer.write(f"GET {head_path(node.archive)} HTTP/1.0\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    (line,) = [line for line in answer.split(b"\r\n") if line.startswith(b"ETag: ")]
    return line.partition(b" ")[2].decode()


async def test_a_node_that_ends_does_not_wait_for_those_who_wait(tmp_path: Path) -> None:
    async with served(tmp_path, tree_in(tmp_path / "tree")) as node:
        hearing = asyncio.create_task(listen(node))
        await waiting(node)
    assert await hearing is None


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=25", 25),
        ("respond-async, wait=10", 10),
        (' WAIT = "7"; x', 7),
        ("wait=4000000", WAIT_MAX),
        ("wait=-1", 0),
        ("wait=1e3", 0),
        ("await=3", 0),
        ("wait=٣", 0),
        ("", 0),
    ],
)
def test_how_long_a_client_wants_to_wait_is_read_as_the_standard_has_it(prefer: str, seconds: int) -> None:
    assert wait_wished(prefer) == seconds

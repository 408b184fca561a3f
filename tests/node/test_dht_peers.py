"""Joining by nodes that are known as sources: tried, and never waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from p2psync.fetch.options import FetchOptions
from p2psync.format.url import ArchiveUrl
from p2psync.network.dht import JOIN_PEERS, open_dht
from p2psync.state import State
from p2psync_dht import DhtNode, Identity


class Slow(DhtNode):
    """One whose joins and tests do not end before they are told to."""

    go: asyncio.Event
    log: list[tuple[str, Sequence[tuple[str, int]]]]

    async def join(self, addresses: Sequence[tuple[str, int]] = (), *, enough: int | None = None) -> int:
        await self.go.wait()
        self.log.append(("join", addresses))
        return await super().join(())

    async def probe_reachable(self, addresses: Sequence[tuple[str, int]] = ()) -> bool | None:
        await self.go.wait()
        self.log.append(("probe", addresses))
        return False


@pytest.fixture
def slow() -> type[Slow]:
    Slow.go, Slow.log = asyncio.Event(), []
    return Slow


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State.open(tmp_path / "state")


async def test_who_has_a_peer_does_not_wait_for_the_dht(state: State, slow: type[Slow]) -> None:
    async with open_dht(state, peers=["192.0.2.1:8730", "mirror.invalid:1"], node_class=slow) as node:
        assert (node.contacts(), slow.log) == ([], [])
        slow.go.set()
        while not slow.log:  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.01)
    assert slow.log == [("join", [("192.0.2.1", 8730), ("mirror.invalid", 1)])]


async def test_a_join_that_does_not_end_is_ended_with_the_command(state: State, slow: type[Slow]) -> None:
    async with open_dht(state, peers=["192.0.2.1:8730"], node_class=slow):
        before = asyncio.all_tasks()
    assert slow.log == []
    assert len(asyncio.all_tasks()) < len(before)


async def test_what_was_given_to_join_by_is_waited_for(state: State, slow: type[Slow]) -> None:
    slow.go.set()
    peers = [f"192.0.2.{number}:8730" for number in range(20)]
    async with open_dht(state, bootstrap=["127.0.0.1:9"], peers=peers, node_class=slow):
        ((_, asked),) = slow.log
    assert asked[0] == ("127.0.0.1", 9)
    assert len(asked) == 1 + JOIN_PEERS


async def test_a_node_serves_the_dht_after_its_peers_have_tried_to_reach_it(
    state: State, slow: type[Slow]
) -> None:
    opened = open_dht(
        state,
        peers=["192.0.2.1:8730"],
        server=True,
        tests_reachability=True,
        node_class=slow,
        host="127.0.0.1",
    )
    async with opened as node:
        assert not node.is_server
        slow.go.set()
        while len(slow.log) < 2:  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.01)
        assert not node.is_server  # Nobody got through.
    assert slow.log == [("probe", [("192.0.2.1", 8730)]), ("join", [("192.0.2.1", 8730)])]


async def test_a_peer_leads_into_the_dht(state: State) -> None:
    async with await DhtNode.start(Identity.generate(), "127.0.0.1", 0) as peer:
        async with open_dht(state, peers=[f"localhost:{peer.address[1]}"], host="127.0.0.1") as node:
            while not node.contacts():  # noqa: ASYNC110 - what is waited for sets no event
                await asyncio.sleep(0.01)
        async with open_dht(state, host="127.0.0.1") as again:  # It is remembered, and waited for.
            assert [one.id for one in again.contacts()] == [peer.node_id]


def test_web_mirrors_are_no_peers() -> None:
    url = ArchiveUrl(b"a" * 32, b"", ("192.0.2.1:1", "192.0.2.2:2"), ("http://192.0.2.3/",))
    options = FetchOptions(url, b"", sources=("https://192.0.2.4/", "[2001:db8::1]:3", "192.0.2.1:1"))
    assert options.peers == ("[2001:db8::1]:3", "192.0.2.1:1", "192.0.2.2:2")

"""The network beside a fetch: waited for by those who ask it, and by nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.node.simulator import Publisher

from p2psync.errors import TrustError
from p2psync.network import beside
from p2psync.network.beside import open_network
from p2psync.network.seeds.query import seed_query
from p2psync.state import State
from p2psync_dht import DhtNode, Identity

ARCHIVE = b"a" * 32


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State.open(tmp_path / "state")


@pytest.fixture
async def peer() -> AsyncIterator[DhtNode]:
    async with await DhtNode.start(Identity.generate(), "127.0.0.1", 0) as node:
        yield node


def address(node: DhtNode) -> str:
    return f"127.0.0.1:{node.address[1]}"


async def test_who_has_a_source_begins_at_once_and_asks_when_the_way_in_was_found(
    state: State, peer: DhtNode
) -> None:
    head = Publisher(now=int(time.time()) - 60).publish({b"f": b"1"})
    await peer.put_head(head.raw)
    bootstrap = [address(peer)]
    async with open_network(state, head.archive, bootstrap=bootstrap, has_source=True) as network:
        assert network.received == 0
        assert network.reachable
        found = await network.get_head(head.archive)
        assert found is not None
        assert found.raw == head.raw
        assert network.received > 0


async def test_who_has_no_source_waits_for_the_network(state: State, peer: DhtNode) -> None:
    async with open_network(state, ARCHIVE, bootstrap=[address(peer)]) as network:
        assert network.received > 0


async def test_a_fetch_that_is_over_at_once_never_asks_the_dht_of_its_source(
    state: State, peer: DhtNode
) -> None:
    async with open_network(state, ARCHIVE, peers=[address(peer)], has_source=True) as network:
        assert not network.reachable
    assert peer.counters.datagrams_in == 0
    assert not state.contacts_path.exists()


async def test_a_fetch_that_lasts_enters_the_network_by_its_source(
    state: State, peer: DhtNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "HINTS_PAUSE", 0.0)
    async with open_network(state, ARCHIVE, peers=[address(peer)], has_source=True) as network:
        while not network.reachable:  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.01)
        assert await network.get_head(ARCHIVE) is None
    async with open_network(state, ARCHIVE, peers=["192.0.2.1:1"], has_source=True) as network:
        assert network.reachable  # It is remembered, and so worth waiting for.
        await network.get_holders(bytes(20))
        assert network.received > 0


async def test_seeds_that_must_not_be_believed_end_whoever_asks(state: State, tmp_path: Path) -> None:
    (tmp_path / "seeds").write_text('seeds = ["127.0.0.1:9"]\n')
    believed = str(seed_query(str(tmp_path / "seeds"), keys=(bytes(32),)))
    async with open_network(state, ARCHIVE, bootstrap=[believed], has_source=True) as network:
        with pytest.raises(TrustError):
            await network.get_head(ARCHIVE)
    with pytest.raises(TrustError):
        async with open_network(state, ARCHIVE, bootstrap=[believed]):
            pass


async def test_what_did_not_come_about_is_said_if_nobody_asked(
    state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "seeds").write_text('seeds = ["127.0.0.1:9"]\n')
    believed = str(seed_query(str(tmp_path / "seeds"), keys=(bytes(32),)))
    async with open_network(state, ARCHIVE, bootstrap=[believed], has_source=True) as network:
        await asyncio.wait([network._task])  # type: ignore[attr-defined]
    assert "the network could not be joined" in caplog.text

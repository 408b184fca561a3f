"""A node that starts: it serves at once, and finds out meanwhile whether others reach it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from p2psync.daemon import NodeOptions, run_node
from p2psync.errors import TrustError
from p2psync.network.dht import start_dht
from p2psync.network.seeds.query import seed_query
from p2psync.sources.node import PeerSource
from p2psync.state import State
from p2psync_dht import DhtNode, Identity


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "state") as made:
        yield made


@pytest.fixture
async def friend() -> AsyncIterator[DhtNode]:
    async with await DhtNode.start(Identity.generate(), "127.0.0.1", 0) as node:
        yield node


class Unsure(DhtNode):
    """A node of which it turns out whether others reach it when the test says so."""

    outcome: asyncio.Future[bool | None]

    async def probe_reachable(self, addresses: Sequence[tuple[str, int]] = ()) -> bool | None:
        return await self.outcome


@pytest.mark.parametrize(("reached", "is_known"), [(True, True), (None, True), (False, False)])
async def test_it_answers_whoever_asks_it_and_enters_no_table_before_it_is_reached(
    state: State, friend: DhtNode, reached: bool | None, is_known: bool
) -> None:
    Unsure.outcome = asyncio.get_running_loop().create_future()
    opened = start_dht(
        state,
        bootstrap=[f"127.0.0.1:{friend.address[1]}"],
        host="127.0.0.1",
        server=True,
        tests_reachability=True,
        node_class=Unsure,
    )
    async with opened as entry:
        assert not entry.entering.done()
        assert not entry.node.is_server
        # Who knows it from before its restart finds it, and does not take it in anew.
        await friend.join([entry.node.address])
        assert entry.node.counters.requests_served > 0
        assert friend.contacts() == []
        Unsure.outcome.set_result(reached)
        await entry.entered()
        assert entry.node.is_server is (reached is not False)
        while is_known and not friend.contacts():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.01)
        assert [one.id for one in friend.contacts()] == [entry.node.node_id] * is_known


async def test_files_are_served_before_anybody_in_the_network_has_answered(state: State) -> None:
    """Whom it knows is silent: a test of reachability and a join among the dead take seconds."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def said(
        listen: Sequence[str],
        node: str,
        metrics: str | None,
        rsync: str | None = None,
        tls: str | None = None,
    ) -> None:
        ready.set_result(listen[0])

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        options = NodeOptions(("127.0.0.1", 0), bootstrap=(f"127.0.0.1:{mute.getsockname()[1]}",))
        running = asyncio.ensure_future(run_node(options, state, on_ready=said))
        source = PeerSource(await ready)
        try:
            assert not running.done()
            assert (await source.info()).key == state.identity().public_key
        finally:
            await source.close()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_seeds_that_must_not_be_believed_end_it(state: State, tmp_path: Path) -> None:
    (tmp_path / "seeds").write_text('seeds = ["127.0.0.1:9"]\n')
    believed = str(seed_query(str(tmp_path / "seeds"), keys=(bytes(32),)))
    options = NodeOptions(("127.0.0.1", 0), bootstrap=(believed,))
    with pytest.raises(TrustError):
        await run_node(options, state, on_ready=lambda *_, rsync=None: None)

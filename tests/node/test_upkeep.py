"""What a node does by itself: it keeps what it knows, finds company again, and looks after those it began
with."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.help.places import own_host

from p2psync.daemon import upkeep
from p2psync.daemon.health import Vitals
from p2psync.daemon.metered import MeteredDht
from p2psync.daemon.mirrors import register
from p2psync.daemon.options import NodeOptions
from p2psync.daemon.supervisor import Supervisor
from p2psync.daemon.upkeep import Upkeep
from p2psync.fetch.options import FetchOptions
from p2psync.format.url import ArchiveUrl
from p2psync.network.dht import Entry
from p2psync.network.seeds.find import Seeds
from p2psync.network.seeds.query import seed_query
from p2psync.state import State
from p2psync_dht import DhtNode, Identity

said: list[str] = []


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours become fractions of a second."""
    said.clear()
    for name in ("LOOK", "SAVE", "SAVE_CONTACTS", "REVISIT", "REJOIN_FIRST", "REJOIN_LAST"):
        monkeypatch.setattr(upkeep, name, 0.1)


@contextlib.asynccontextmanager
async def kept(state: State, *bootstrap: str, seeds: tuple[str, ...] = ()) -> AsyncIterator[Vitals]:
    """A node with its upkeep running."""
    async with await MeteredDht.start(state.identity(), own_host(), 0) as dht:
        found = Seeds(state.path, [seed_query(text) for text in seeds])
        ways = (*bootstrap, *map(str, found.queries))
        vitals = Vitals(NodeOptions(("127.0.0.1", 0), ways), state, dht, found)
        entry = Entry(dht, asyncio.sleep(0), asyncio.sleep(0), sure=True)
        task = asyncio.create_task(Upkeep(vitals, Supervisor(said.append), entry, said.append).run())
        try:
            yield vitals
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State.open(tmp_path / "state")


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not happened():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.02)


def address(node: DhtNode) -> str:
    return f"{node.address[0]}:{node.address[1]}"


async def other(port: int = 0) -> DhtNode:
    return await DhtNode.start(Identity.generate(), own_host(), port)


async def test_contacts_are_on_disk_soon_after_they_are_met(state: State) -> None:
    async with await other() as known, kept(state) as vitals:
        await vitals.dht.join([known.address])
        await until(state.contacts_path.exists)


async def test_a_disk_that_takes_nothing_is_reported_once(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def full(_: Path) -> Callable[[], int]:
        def save() -> int:
            nonlocal tries
            tries += 1
            raise OSError(28, "No space left on device")

        return save

    async with await other() as known, kept(state) as vitals:
        monkeypatch.setattr(vitals.dht, "saving_contacts", full)
        monkeypatch.setattr(vitals.dht, "saving_records", full)
        await vitals.dht.join([known.address])
        await until(lambda: tries > 4)
    assert len([text for text in said if "No space left" in text]) == 1


async def test_a_disk_that_stalls_holds_up_nothing_but_the_save(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    stalled, saved = [], []

    def stall(_: Path) -> Callable[[], int]:
        stalled.append(1)
        return lambda: int(goes_on.wait())

    def save(_: Path) -> Callable[[], int]:
        saved.append(1)
        return lambda: 0

    async with await other() as known, kept(state) as vitals:
        monkeypatch.setattr(vitals.dht, "saving_contacts", stall)
        monkeypatch.setattr(vitals.dht, "saving_records", save)
        try:
            await vitals.dht.join([known.address])
            await until(lambda: bool(stalled))
            async with await other() as newcomer:
                assert await newcomer.join([vitals.dht.address]) > 0
            await until(lambda: len(saved) > 3)
            assert stalled == [1], "there is one at a time"
        finally:
            goes_on.set()


async def test_a_node_that_forgot_the_network_is_visited_by_those_who_began_with_it(state: State) -> None:
    """A bootstrap node whose disk was lost is a stranger to everybody, and they are strangers to it."""
    async with await other() as company:
        boot = await other()
        async with kept(state, address(boot)) as vitals:
            await vitals.dht.join([boot.address, company.address])
            await boot.close()
            async with await other(boot.address[1]) as stranger:
                await until(lambda: bool(stranger.contacts()))


async def test_a_lonely_node_tries_again_until_somebody_is_there(state: State) -> None:
    place = await other()
    await place.close()
    async with kept(state, address(place)) as vitals:
        lonely = "no node of the network answers; trying again until one does"
        await until(lambda: f"{lonely} ({address(place)} does not answer (UDP))" in said)
        async with await other(place.address[1]):
            await until(lambda: bool(vitals.dht.contacts()))
    assert len(said) == 1


async def test_a_lonely_node_asks_its_seeds_again(state: State, tmp_path: Path) -> None:
    file = tmp_path / "seeds.toml"
    file.write_text(f'seeds = ["{own_host()}:9"]\n')
    async with kept(state, seeds=(str(file),)) as vitals, await other() as newcomer:
        await until(lambda: bool(said))
        file.write_text(f'seeds = ["{address(newcomer)}"]\n')
        await until(lambda: bool(vitals.dht.contacts()))


async def test_a_lonely_node_tries_the_peers_that_its_mirrors_were_given(
    state: State, tmp_path: Path
) -> None:
    async with kept(state) as vitals, await other() as peer:
        url = ArchiveUrl(b"a" * 32, b"", (address(peer),))
        register(state, FetchOptions(url, bytes(tmp_path / "mirror"), mirror=True))
        await until(lambda: bool(vitals.dht.contacts()))
    assert said == []  # A peer need not be in the DHT.

"""Where sources and heads come from, and what hostile answers can and cannot do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.node.fetch_world import Nobody
from tests.node.simulator import Publisher, identity
from tests.node.swarm_sim import Clock, SimSource, virtual

from p2psync.errors import FormatError, NetworkError
from p2psync.fetch.discovery import HEAD_GRACE, HEAD_TIMEOUT, Discovery
from p2psync.fetch.options import FetchOptions
from p2psync.format.coverage import Coverage
from p2psync.format.url import ArchiveUrl
from p2psync.network.protocols import Network
from p2psync.sources.http.rate import RateLimiter
from p2psync.sources.node import PeerSource
from p2psync.sources.source import Source
from p2psync.sources.swarm import SOURCES_MAX, Swarm
from p2psync.sources.web import WebSource
from p2psync.state import State
from p2psync_dht import Endpoint, HolderRecord, HolderRole, Identity, holders_key

Run = Callable[[Coroutine[Any, Any, Any]], Any]
NOW = 1_800_001_000  # the simulated clock's


class Listing(SimSource):
    """A source with a list of holders, and perhaps an error instead of a head."""

    known: list[bytes]
    error: Exception | None = None

    async def holders(self, archive: bytes) -> list[bytes]:
        await self._answer(0)
        return self.known

    async def head(self, archive: bytes) -> bytes | None:
        if self.error is not None:
            await self._answer(0)
            raise self.error
        return await super().head(archive)


class World:
    def __init__(self, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run = run
        self.state = State.open(folder / "state")
        self.publisher = Publisher(now=NOW - 100)
        self.head = self.publisher.publish({b"f": b"x"})
        self.sources: dict[str, SimSource] = {}
        self.warnings: list[str] = []
        self.swarm = Swarm(Clock.monotonic, self.warnings.append)
        monkeypatch.setattr(Discovery, "_source", lambda _, name: cast(Source, self.source(name)))

    def source(self, name: str) -> SimSource:
        return self.sources.setdefault(name, SimSource(name, self.publisher))

    def listing(self, name: str, known: list[bytes]) -> Listing:
        made = Listing(name, self.publisher)
        made.known = known
        self.sources[name] = made
        return made

    def discovery(self, *given: str) -> Discovery:
        options = FetchOptions(ArchiveUrl(self.publisher.archive, b""), b"", sources=given)
        return Discovery(self.state, options, cast(Network, Nobody()), self.swarm, self.warnings.append)

    def record(
        self,
        who: str | Identity,
        *addresses: str,
        archive: bytes | None = None,
        expires: int = NOW + 3600,
        role: HolderRole = HolderRole.MIRROR,
        payload: bytes | None = None,
    ) -> bytes:
        return HolderRecord.sign(
            identity(who) if isinstance(who, str) else who,
            holders_key(self.publisher.archive if archive is None else archive),
            endpoints=[Endpoint(address, 8730) for address in addresses],
            issued=NOW - 100,
            expires=expires,
            role=role,
            payload=Coverage(True, 0, 1).encode() if payload is None else payload,
        ).raw


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path, virtual(monkeypatch), monkeypatch)
    yield made
    made.state.close()


async def started(world: World, *given: str) -> Discovery:
    made = world.discovery(*given)
    await made.start()
    await asyncio.sleep(10)
    await made.close()
    return made


def test_one_mirror_knows_the_others(world: World) -> None:
    world.listing("given", [world.record("m1", "203.0.113.1"), world.record("m2", "203.0.113.2")])
    world.run(started(world, "given"))
    assert [m.name for m in world.swarm.members] == ["given", "203.0.113.1:8730", "203.0.113.2:8730"]
    assert [m.whole for m in world.swarm.members] == [True, True, True]
    assert len(world.state.holders.for_archive(world.publisher.archive, NOW)) == 2
    assert all(source.closed for source in world.sources.values())


def test_peers_are_asked_for_parts(world: World) -> None:
    partial = world.record("p", "203.0.113.1", role=HolderRole.PEER, payload=Coverage(False, 0, 1).encode())
    world.listing("given", [partial])
    world.run(started(world, "given"))
    assert not world.swarm.members[1].whole


def test_hostile_records_are_ignored(world: World) -> None:
    good = world.record("good", "203.0.113.1")
    world.listing(
        "given",
        [
            b"",
            b"\xc1" * 100,
            good[:-1] + bytes([good[-1] ^ 1]),
            world.record("x", "203.0.113.2", archive=b"another".ljust(32)),
            world.record("x", "203.0.113.3", expires=NOW - 50),
            world.record("x", "203.0.113.4", payload=b"\xff"),
            world.record(world.state.identity(), "203.0.113.5"),
            good,
        ],
    )
    world.run(started(world, "given"))
    assert [m.name for m in world.swarm.members] == ["given", "203.0.113.1:8730"]


def test_a_node_with_many_addresses_and_records_is_one_source(world: World) -> None:
    both = world.record("m", "203.0.113.1", "203.0.113.2")
    world.listing("given", [both, both])
    world.listing("other", [world.record("m", "203.0.113.3")])
    world.run(started(world, "given", "other"))
    assert len(world.swarm.members) == 3


def test_a_record_with_the_address_of_another_does_not_speak_for_it(world: World) -> None:
    honest = world.record(
        "honest", "203.0.113.1", role=HolderRole.PEER, payload=Coverage(False, 0, 1).encode()
    )
    impostor = world.record("impostor", "203.0.113.1", payload=Coverage(True, 9, 9).encode())
    world.listing("given", [honest, impostor])
    world.run(started(world, "given"))
    member = world.swarm.members[1]
    assert member.node_key == identity("honest").public_key
    assert (member.whole, member.claims) == (False, None)


def test_a_flood_of_holders_fills_no_more_than_there_is_room(world: World) -> None:
    flood = [world.record(f"sybil {n}", f"198.51.{n}.1") for n in range(150)]
    world.listing("given", flood)
    world.run(started(world, "given"))
    assert len(world.swarm.members) == SOURCES_MAX


def test_the_newest_of_the_heads_counts_not_the_first(world: World) -> None:
    newer = world.publisher.publish({b"f": b"newer"})
    world.source("fast").heads = [world.head.raw]
    world.source("fast").delay = 0.0
    world.source("slow").heads = [newer.raw]
    world.source("slow").delay = HEAD_GRACE / 2

    async def look() -> Any:
        return await world.discovery("fast", "slow").newest_head()

    assert world.run(look()) == newer
    assert world.state.heads.newest(world.publisher.archive) == newer


def test_nobody_waits_long_for_the_silent(world: World) -> None:
    world.source("silent").silent_from = 0.0

    async def look() -> float:
        began = Clock.monotonic()
        await world.discovery("silent", "good").newest_head()
        return Clock.monotonic() - began

    assert world.run(look()) <= HEAD_GRACE + 0.1


@pytest.mark.parametrize("error", [NetworkError("no"), FormatError("nonsense")])
def test_without_a_head_the_remembered_one_serves(world: World, error: Exception) -> None:
    world.state.heads.put(world.head, "before")
    world.listing("bad", []).error = error

    async def look() -> Any:
        began = Clock.monotonic()
        head = await world.discovery("bad").newest_head()
        assert Clock.monotonic() - began <= 2 * HEAD_TIMEOUT
        return head

    assert world.run(look()) == world.head
    assert any("nobody could be asked" in text for text in world.warnings)


def test_forged_heads_are_refused(world: World) -> None:
    forged = Publisher("thief")
    world.source("a").heads = [forged.publish({}).raw]
    world.source("b").heads = [world.publisher.forge_head(identity("thief"), seq=99)]
    world.source("c").heads = [b"\x00" * 300]

    async def look() -> Any:
        return await world.discovery("a", "b", "c").newest_head()

    with pytest.raises(NetworkError, match="no head"):
        world.run(look())
    assert len([text for text in world.warnings if "ignored" in text]) == 3


async def test_one_limit_is_for_all_sources_together(tmp_path: Path) -> None:
    with State.open(tmp_path / "state") as state:
        names = ("192.0.2.1:1", "192.0.2.2:1", "http://example.org/tree/")
        options = FetchOptions(ArchiveUrl(b"a" * 32, b""), b"", sources=names)
        swarm = Swarm(Clock.monotonic, print)
        limiter = RateLimiter(10_000)
        made = Discovery(state, options, cast(Network, Nobody()), swarm, print, limiter)
        sources = [member.source for member in swarm.members]
        assert [type(source) for source in sources] == [PeerSource, PeerSource, WebSource]
        assert all(cast(Any, source)._pool._limiter is limiter for source in sources)
        assert [member.metadata for member in swarm.members] == [True, True, False]
        await made.close()

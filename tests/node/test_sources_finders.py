"""Where sources and heads come from, and what hostile answers can and cannot do."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

import pytest
from tests.node.simulator import Publisher, identity
from tests.node.swarm_sim import Clock, SimSource, virtual

from p2psync.errors import FormatError, NetworkError
from p2psync.fetch.options import FetchOptions
from p2psync.format.coverage import Coverage
from p2psync.format.head import ArchiveHead
from p2psync.format.url import ArchiveUrl
from p2psync.network.protocols import Network
from p2psync.network.way import Way
from p2psync.sources.finders import discovery
from p2psync.sources.finders.discovery import DHT_PAUSE, START_GRACE, Discovery
from p2psync.sources.finders.heads import HEAD_GRACE, HEAD_TIMEOUT, HEADS_ASKED, HOLDERS_GRACE
from p2psync.sources.http.rate import RateLimiter
from p2psync.sources.swarm import SOURCES_MAX, TRIAL_SECONDS, Swarm
from p2psync.state import State
from p2psync.trust import Standing
from p2psync_dht import Endpoint, Head, HolderRecord, HolderRole, Identity, holders_key

Run = Callable[[Coroutine[Any, Any, Any]], Any]
NOW = 1_800_001_000  # the simulated clock's


@dataclass
class SimNetwork:
    """A DHT in which nobody is known, or these records."""

    records: list[bytes] = field(default_factory=list)
    asked: int = 0
    way: Way = field(default_factory=Way)
    head: Head | None = None
    head_after: float = 0.2
    """Seconds that it takes to find the head."""

    @property
    def reachable(self) -> bool:
        return bool(self.records) or self.head is not None

    def observed(self, family: socket.AddressFamily) -> str | None:
        return None

    async def get_head(self, archive: bytes) -> Head | None:
        await asyncio.sleep(self.head_after)
        return self.head

    async def get_holders(self, key: bytes) -> list[HolderRecord]:
        self.asked += 1
        await asyncio.sleep(0.2)
        return [HolderRecord.decode(raw) for raw in self.records]


class Listing(SimSource):
    """A source with a list of holders, and perhaps an error instead of a head."""

    known: list[bytes]
    error: Exception | None = None

    async def mirrors(self, archive: bytes) -> tuple[bytes, bytes] | None:
        return None

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
        self.network = SimNetwork()
        self.keys: dict[str, bytes] = {}
        """Which node is at an address: the first whose record named it."""
        monkeypatch.setattr(discovery, "open_source", lambda name, _: self.source(name))

    def source(self, name: str) -> SimSource:
        made = self.sources.setdefault(name, SimSource(name, self.publisher))
        made.key = self.keys.get(name, made.key)
        return made

    def listing(self, name: str, known: list[bytes]) -> Listing:
        made = Listing(name, self.publisher)
        made.known = known
        self.sources[name] = made
        return made

    def discovery(self, *given: str) -> Discovery:
        options = FetchOptions(ArchiveUrl(self.publisher.archive, b""), b"", sources=given)
        network = cast(Network, self.network)
        return Discovery(self.state, options.search(), network, self.swarm, self.warnings.append)

    def record(
        self,
        who: str | Identity,
        *addresses: str,
        archive: bytes | None = None,
        expires: int = NOW + 3600,
        issued: int = NOW - 100,
        role: HolderRole = HolderRole.MIRROR,
        payload: bytes | None = None,
    ) -> bytes:
        signer = identity(who) if isinstance(who, str) else who
        for address in addresses:
            self.keys.setdefault(f"{address}:8730", signer.public_key)
        return HolderRecord.sign(
            signer,
            holders_key(self.publisher.archive if archive is None else archive),
            endpoints=[Endpoint(address, 8730) for address in addresses],
            issued=issued,
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


def test_a_record_whose_address_is_another_nodes_by_now_is_dropped(world: World) -> None:
    stale = world.record("before", "203.0.113.1")
    world.keys["203.0.113.1:8730"] = identity("now").public_key
    fresh = world.record("now", "203.0.113.1", role=HolderRole.PEER, payload=Coverage(False, 0, 1).encode())
    world.listing("given", [stale])
    world.run(started(world, "given"))
    assert [m.name for m in world.swarm.members] == ["given"]
    assert world.state.holders.for_archive(world.publisher.archive, NOW) == []
    assert world.sources["203.0.113.1:8730"].requests == 1  # it was asked who it is, once
    world.listing("given", [stale, fresh])
    world.swarm = Swarm(Clock.monotonic, world.warnings.append)
    world.run(started(world, "given"))
    assert [(m.name, m.whole) for m in world.swarm.members][1:] == [("203.0.113.1:8730", False)]
    assert world.state.holders.for_archive(world.publisher.archive, NOW) == [fresh]


def test_a_stale_record_does_not_speak_for_a_source_that_was_given(world: World) -> None:
    stale = world.record(
        "before", "203.0.113.1", role=HolderRole.PEER, payload=Coverage(False, 0, 1).encode()
    )
    world.keys["203.0.113.1:8730"] = identity("now").public_key
    world.state.holders.put(
        world.publisher.archive,
        stale,
        node_key=identity("before").public_key,
        issued=NOW - 100,
        expires=NOW + 3600,
    )
    world.run(started(world, "203.0.113.1:8730"))
    assert [(m.name, m.whole, m.claims) for m in world.swarm.members] == [("203.0.113.1:8730", True, None)]
    assert world.state.holders.for_archive(world.publisher.archive, NOW) == []


def test_an_older_record_of_a_source_says_nothing_any_more(world: World) -> None:
    older = world.record("m", "203.0.113.1", payload=Coverage(True, 0, 1).encode(), issued=NOW - 200)
    newer = world.record("m", "203.0.113.1", payload=Coverage(True, 0, 2).encode(), issued=NOW - 100)
    world.listing("given", [newer, older])
    world.listing("other", [older])
    world.run(started(world, "given", "other"))
    assert world.swarm.members[2].claims == (0, 2)


def test_an_address_that_is_silent_becomes_no_source_and_is_asked_again(world: World) -> None:
    silent = world.record("silent", "203.0.113.1")
    world.listing("given", [silent, world.record("good", "203.0.113.2")])
    world.source("203.0.113.1:8730").failing = 2

    async def look() -> None:
        made = world.discovery("given")
        await made.newest_head()
        await made.start()
        looking = asyncio.ensure_future(made.keep_looking())
        await asyncio.sleep(1)
        assert [m.name for m in world.swarm.members] == ["given", "203.0.113.2:8730"]
        await asyncio.sleep(60)
        assert len(world.swarm.members) == 3
        looking.cancel()
        await made.close()

    world.run(look())
    assert world.sources["203.0.113.1:8730"].closed


def test_where_none_of_the_known_holders_answers_that_is_said(world: World) -> None:
    world.network.records = [world.record(f"m{n}", f"203.0.113.{n}") for n in (1, 2)]
    for source in (world.source("203.0.113.1:8730"), world.source("203.0.113.2:8730")):
        source.dead_from = 0.0

    async def look() -> None:
        made = world.discovery()
        with pytest.raises(NetworkError, match="no head"):
            await made.newest_head()
        await made.start()
        await made.close()

    world.run(look())
    assert world.swarm.members == []
    assert [text for text in world.warnings if "none of the 2 known holders answers" in text]
    assert sum("refused" in text for text in world.warnings) == 1


def test_who_was_given_a_source_that_answers_waits_for_nobody(world: World) -> None:
    world.network.records = [world.record("m", "203.0.113.1")]

    async def look(*given: str) -> float:
        made = world.discovery(*given)
        await made.newest_head()
        began = Clock.monotonic()
        await made.start()
        taken = Clock.monotonic() - began
        await made.close()
        return taken

    assert world.run(look("given")) == 0


def test_who_was_given_nobody_waits_for_the_first_and_a_little_for_others(world: World) -> None:
    world.state.heads.put(world.head, "before")
    world.network.records = [world.record("m", "203.0.113.1"), world.record("slow", "203.0.113.2")]
    world.source("203.0.113.2:8730").delay = 3.0

    async def look() -> float:
        made = world.discovery()
        began = Clock.monotonic()
        await made.start()
        taken = Clock.monotonic() - began
        assert [m.name for m in world.swarm.members] == ["203.0.113.1:8730"]
        await made.close()
        return taken

    assert START_GRACE <= world.run(look()) < START_GRACE + 1


def test_sources_are_asked_for_others_at_once_and_the_dht_now_and_then(world: World) -> None:
    world.network.records = [world.record("m", "203.0.113.1")]
    given = world.listing("given", [])

    async def look() -> None:
        made = world.discovery("given")
        await made.newest_head()
        await made.start()
        looking = asyncio.ensure_future(made.keep_looking())
        await asyncio.sleep(0.5)
        given.known = [world.record("late", "203.0.113.9")]
        await asyncio.sleep(0.5)
        assert world.swarm.knows("203.0.113.9:8730", None)
        await asyncio.sleep(2 * DHT_PAUSE)
        assert given.requests > 5
        assert world.network.asked <= 4
        looking.cancel()
        await made.close()

    world.run(look())


def test_a_flood_of_holders_fills_no_more_than_there_is_room(world: World) -> None:
    flood = [world.record(f"sybil {n}", f"198.51.{n}.1") for n in range(150)]
    world.listing("given", flood)
    world.run(started(world, "given"))
    assert len(world.swarm.members) == SOURCES_MAX


class Behaviour(StrEnum):
    """What a fake holder does."""

    SILENT = "silent"
    REFUSING = "refusing"
    DRIPPING = "dripping"
    LYING = "lying"


def fakes(world: World, count: int, *, says_who_it_is: bool) -> list[bytes]:
    """Records of fakes in 50 networks; of these who says who it is does the rest by its behaviour alone."""
    raws = []
    for number in range(count):
        ip = f"198.{18 + number % 50}.{number % 50}.{number // 50}"
        raws.append(world.record(f"fake {number}", ip))
        source = world.source(f"{ip}:8730")
        match list(Behaviour)[number % 4]:
            case Behaviour.SILENT:
                source.mute = (
                    ("info",) if not says_who_it_is else ("metas", "read", "recipes", "head", "holders")
                )
            case Behaviour.REFUSING:
                source.dead_from = 0.0
            case Behaviour.DRIPPING:
                source.rate = 300.0
            case Behaviour.LYING if says_who_it_is:
                source.lies = lambda digest, offset: True
            case Behaviour.LYING:
                world.keys[source.name] = identity("another").public_key
    return raws


@pytest.mark.parametrize("says_who_it_is", [False, True], ids=["no proof", "proof"])
@pytest.mark.parametrize("given", [(), ("given",)], ids=["no source", "honest source"])
def test_a_thousand_fakes_in_fifty_networks_keep_no_fetch_from_the_honest(
    world: World, says_who_it_is: bool, given: tuple[str, ...]
) -> None:
    world.state.heads.put(world.head, "before")
    honest = {f"203.0.{number}.1:8730" for number in range(3)}
    raws = [world.record(name, name.removesuffix(":8730")) for name in honest]
    raws += fakes(world, 1000, says_who_it_is=says_who_it_is)
    random.Random(1).shuffle(raws)
    world.network.records = raws

    async def look() -> float:
        made = world.discovery(*given)
        await made.newest_head()
        await made.start()
        began = Clock.monotonic()
        looking = asyncio.ensure_future(made.keep_looking())
        while not honest <= {member.name for member in world.swarm.alive()}:
            for member in world.swarm.alive():
                world.swarm.asked(member)  # Somebody wants something of all of them, and gets nothing.
            await asyncio.sleep(0.05)
        looking.cancel()
        taken = Clock.monotonic() - began
        await made.close()
        return taken

    assert world.run(look()) < 5
    assert len(world.swarm.alive()) <= SOURCES_MAX


@pytest.mark.parametrize("says_who_it_is", [False, True], ids=["no proof", "proof"])
def test_an_honest_mirror_that_hands_out_as_many_fakes_as_holders_costs_seconds(
    world: World, says_who_it_is: bool
) -> None:
    names = [f"203.0.{number}.1:8730" for number in range(100)]
    raws = [world.record(name, name.removesuffix(":8730")) for name in names]
    raws += fakes(world, len(names), says_who_it_is=says_who_it_is)
    random.Random(2).shuffle(raws)
    world.listing("given", raws)

    async def look() -> float:
        made = world.discovery("given")
        await made.newest_head()
        began = Clock.monotonic()
        await made.start()
        looking = asyncio.ensure_future(made.keep_looking())
        while sum(member.name in names for member in world.swarm.alive()) < SOURCES_MAX // 2:
            for member in world.swarm.alive():
                world.swarm.asked(member)
                if member.name in names:
                    world.swarm.succeeded(member, 1000, 0.1)
            await asyncio.sleep(0.05)
        looking.cancel()
        taken = Clock.monotonic() - began
        await made.close()
        return taken

    assert world.run(look()) < 3


def test_a_victim_that_strangers_name_a_thousand_times_is_asked_who_it_is_and_nothing_else(
    world: World,
) -> None:
    victim = world.source("203.0.113.9:8730")
    victim.key = identity("nobody's").public_key
    world.keys[victim.name] = victim.key
    world.listing("given", [world.record(f"liar {number}", "203.0.113.9") for number in range(500)])
    world.network.records = [world.record(f"liar {number}", "203.0.113.9") for number in range(500, 1000)]
    world.run(started(world, "given"))
    assert victim.questions == ["info"]
    assert [m.name for m in world.swarm.members] == ["given"]


@pytest.mark.parametrize("victim", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "255.255.255.255", "fe80::1"])
def test_a_far_source_names_nobody_inside(world: World, victim: str) -> None:
    near = world.record("near", victim)
    world.listing("203.0.113.1:8730", [near, world.record("good", "203.0.113.2")])
    world.run(started(world, "203.0.113.1:8730"))
    assert [m.name for m in world.swarm.members] == ["203.0.113.1:8730", "203.0.113.2:8730"]
    assert not {f"{victim}:8730", f"[{victim}]:8730"} & world.sources.keys()
    assert near not in world.state.holders.for_archive(world.publisher.archive, NOW)


def test_names_that_strangers_give_are_not_looked_up(world: World) -> None:
    signer = identity("liar")
    record = HolderRecord.sign(
        signer,
        holders_key(world.publisher.archive),
        endpoints=[Endpoint(url="http://metadata.internal/"), Endpoint("203.0.113.1", 8730)],
        issued=NOW - 100,
        expires=NOW + 3600,
        role=HolderRole.MIRROR,
        payload=Coverage(True, 0, 1).encode(),
    )
    world.keys["203.0.113.1:8730"] = signer.public_key
    world.listing("given", [record.raw])
    world.run(started(world, "given"))
    assert set(world.sources) == {"given", "203.0.113.1:8730"}


def test_who_gives_another_snapshot_than_the_head_names_takes_no_place(world: World) -> None:
    world.listing("given", [world.record("liar", "203.0.113.1"), world.record("good", "203.0.113.2")])
    world.source("203.0.113.1:8730").lies = lambda digest, offset: True

    async def look() -> None:
        made = world.discovery("given")
        await made.newest_head()
        await made.start()
        await asyncio.sleep(10)
        await made.close()

    world.run(look())
    assert [m.name for m in world.swarm.members] == ["given", "203.0.113.2:8730"]


def test_who_waits_takes_the_place_of_who_gave_nothing_and_that_of_nobody_else(world: World) -> None:
    flood = [world.record(f"idle {n}", f"198.51.{n}.1") for n in range(SOURCES_MAX - 1)]
    given = world.listing("given", flood)

    async def look() -> None:
        made = world.discovery("given")
        await made.start()
        await made.look_around()
        assert not world.swarm.has_room()
        good, *idle = [member for member in world.swarm.members if not member.given]
        for member in (good, *idle):
            world.swarm.asked(member)
        world.swarm.succeeded(good, 1000, 0.1)
        given.known = [world.record("late", "203.0.113.1")]
        await asyncio.sleep(2 * TRIAL_SECONDS)
        await made.look_around()
        await asyncio.sleep(2 * TRIAL_SECONDS)
        alive = {member.name for member in world.swarm.alive()}
        assert {"given", good.name, "203.0.113.1:8730"} <= alive
        assert sum(member.benched for member in idle) == 1
        await made.close()

    world.run(look())


def test_the_newest_of_the_heads_counts_not_the_first(world: World) -> None:
    newer = world.publisher.publish({b"f": b"newer"})
    world.source("fast").newest = world.head.raw
    world.source("fast").delay = 0.0
    world.source("slow").newest = newer.raw
    world.source("slow").delay = HEAD_GRACE / 2

    async def look() -> Any:
        made = world.discovery("fast", "slow")
        head = await made.newest_head()
        assert world.state.heads.newest(world.publisher.archive) is None  # Nobody knows yet who has it.
        await made.accept(head)
        return head

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
    world.source("a").newest = forged.publish({}).raw
    world.source("b").newest = world.publisher.forge_head(identity("thief"), seq=99)
    world.source("c").newest = b"\x00" * 300

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
        made = Discovery(state, options.search(limiter), cast(Network, SimNetwork()), swarm, print)
        for source in (cast(Any, member.source) for member in swarm.members):
            assert source.content._limiter is limiter
            assert source.metadata is None or source.metadata._pool._limiter is limiter
        assert [member.metadata is not None for member in swarm.members] == [True, True, False]
        await made.close()


def test_who_has_left_is_not_looked_for_whoever_still_names_it(world: World) -> None:
    raw = world.record("m", "203.0.113.1")
    left = HolderRecord.decode(raw).withdraw(identity("m"), NOW).raw
    world.listing("given", [raw, left])
    other = world.listing("other", [])

    async def looked_again() -> None:
        made = world.discovery("given", "other")
        await made.look_around()
        other.known = [raw]
        await made.look_around()
        await made.close()

    world.run(looked_again())
    assert [member.name for member in world.swarm.members] == ["given", "other"]
    assert "203.0.113.1:8730" not in world.sources
    (kept,) = world.state.holders.records(world.publisher.archive, NOW)
    assert kept.withdrawn


def test_a_source_that_leaves_is_given_up_at_its_next_failure_and_not_before(world: World) -> None:
    raw = world.record("m", "203.0.113.1")
    given = world.listing("given", [raw])

    async def left() -> None:
        made = world.discovery("given")
        await made.look_around()
        given.known = [HolderRecord.decode(raw).withdraw(identity("m"), NOW).raw]
        await made.look_around()
        (member,) = [each for each in world.swarm.members if each.name != "given"]
        assert member in world.swarm.alive()
        world.swarm.failed(member, "it is gone")
        assert member not in world.swarm.alive()
        await made.close()

    world.run(left())
    assert world.warnings == []


def test_who_has_left_may_return(world: World) -> None:
    raw = world.record("m", "203.0.113.1")
    left = HolderRecord.decode(raw).withdraw(identity("m"), NOW - 50).raw
    world.listing("given", [left, raw, world.record("m", "203.0.113.1", issued=NOW - 10)])
    world.run(started(world, "given"))
    assert [member.name for member in world.swarm.members] == ["given", "203.0.113.1:8730"]


# Heads of holders: whoever decides what is found under a key of the DHT does not decide what is newest.


def remember(world: World, *records: bytes) -> None:
    for raw in records:
        world.state.holders.keep(world.publisher.archive, HolderRecord.decode(raw))


def test_a_holder_that_is_remembered_has_a_newer_head_than_the_dht(world: World) -> None:
    newer = world.publisher.publish({b"f": b"newer"})
    world.network.head = Head.decode(world.head.raw)
    remember(world, world.record("m", "203.0.113.1"))
    assert found(world) == newer
    assert world.network.asked == 0, "who is known answered: no need to look for others"
    assert world.warnings == []


def test_a_holder_in_the_dht_has_a_newer_head_than_the_dht(world: World) -> None:
    newer = world.publisher.publish({b"f": b"newer"})
    world.network.head = Head.decode(world.head.raw)
    world.network.records = [world.record("m", "203.0.113.1")]
    assert found(world) == newer


def test_where_those_who_are_remembered_are_gone_others_are_asked(world: World) -> None:
    newer = world.publisher.publish({b"f": b"newer"})
    world.network.head, world.network.head_after = Head.decode(world.head.raw), 1.0
    remember(world, world.record("gone", "203.0.113.1"))
    world.source("203.0.113.1:8730").silent_from = 0.0
    world.network.records = [world.record("m", "203.0.113.9")]
    assert found(world) == newer


def test_a_holder_makes_up_for_a_given_source_that_is_behind(world: World) -> None:
    newer = world.publisher.publish({b"f": b"newer"})
    world.source("behind").newest = world.head.raw
    world.network.head = Head.decode(world.head.raw)
    remember(world, world.record("m", "203.0.113.1"))
    assert found(world, "behind") == newer


def test_where_the_dht_is_out_of_reach_who_was_given_a_source_asks_nobody_else(world: World) -> None:
    remember(world, world.record("m", "203.0.113.1"))
    found(world, "given")
    assert "203.0.113.1:8730" not in world.sources


@pytest.mark.parametrize("given", [(), ("given",)])
def test_one_honest_holder_among_many_that_lie_is_enough(world: World, given: tuple[str, ...]) -> None:
    """Liars have older heads, forged ones, none, or are silent; and the DHT and given sources are behind."""
    newer = world.publisher.publish({b"f": b"newer"})
    world.network.head = Head.decode(world.head.raw)
    world.source("given").newest = world.head.raw
    liars = [f"203.0.{n}.1" for n in range(6)]
    remember(world, *(world.record(name, name) for name in liars), world.record("honest", "203.0.113.1"))
    forged = world.publisher.forge_head(identity("thief"), seq=99)
    for name, told in zip(liars, (world.head.raw, forged, b"\0" * 300, b"", forged, None), strict=True):
        world.source(f"{name}:8730").newest = told
        world.source(f"{name}:8730").delay = 0.01
    world.source(f"{liars[-1]}:8730").silent_from = 0.05  # after it has said who it is
    assert found(world, *given) == newer
    assert world.warnings == []


def test_holders_that_are_behind_are_no_news(world: World) -> None:
    world.publisher.publish({b"f": b"newer"})
    world.state.heads.put(world.publisher.head, "before")
    remember(world, world.record("m", "203.0.113.1"))
    world.source("203.0.113.1:8730").newest = world.head.raw
    assert found(world) == world.publisher.head
    assert world.warnings == []


def test_nobody_waits_long_for_holders_that_are_silent(world: World) -> None:
    world.network.head = Head.decode(world.head.raw)
    remember(world, *(world.record(f"m{n}", f"203.0.{n}.1") for n in range(5)))
    for n in range(5):
        world.source(f"203.0.{n}.1:8730").silent_from = 0.0
    world.network.records = [world.record("m", "203.0.113.1")]
    world.source("203.0.113.1:8730").silent_from = 0.0

    async def look() -> float:
        began = Clock.monotonic()
        made = world.discovery()
        await made.newest_head()
        taken = Clock.monotonic() - began
        await made.close()
        return taken

    assert world.run(look()) <= HOLDERS_GRACE + 0.3
    assert all(source.closed for source in world.sources.values() if source.requests)


def test_a_few_holders_are_asked_for_the_head_and_few_of_one_network(world: World) -> None:
    remember(world, *(world.record(f"a{n}", f"203.0.113.{n + 1}") for n in range(100)))
    remember(world, *(world.record(f"b{n}", f"198.51.{n}.1") for n in range(100)))
    found(world)
    assert len(world.sources) == HEADS_ASKED
    assert sum(name.startswith("203.0.113.") for name in world.sources) <= 2


def test_those_who_look_for_the_head_and_then_for_content_ask_the_dht_for_holders_once(world: World) -> None:
    world.network.head = Head.decode(world.head.raw)
    world.network.records = [world.record(f"m{n}", f"203.0.{n}.1") for n in range(12)]

    async def look() -> None:
        made = world.discovery()
        await made.newest_head()
        await made.start()
        await asyncio.sleep(2)
        await made.close()

    world.run(look())
    assert world.network.asked == 1
    assert len(world.swarm.members) == 12


def found(world: World, *given: str) -> ArchiveHead:
    """The newest head as a fetch finds it."""

    async def look() -> ArchiveHead:
        made = world.discovery(*given)
        try:
            return await made.newest_head()
        finally:
            await made.close()

    return world.run(look())  # type: ignore[no-any-return]


def test_who_gave_something_before_is_tried_before_all_strangers(world: World) -> None:
    gave = world.record("gave", "203.0.113.1")
    fakes = [world.record(f"fake {n}", f"{n}.7.7.7") for n in range(11, 120)]
    for name in world.keys:
        world.source(name).silent_from = 0.0
    world.source("203.0.113.1:8730").silent_from = float("inf")
    world.state.nodes.delivered([identity("gave").public_key], time.time())
    world.network.records = [*fakes, gave]
    opened: list[str] = []
    known = world.source

    def source(name: str) -> SimSource:
        opened.append(name)
        return known(name)

    world.source = source  # type: ignore[method-assign]
    world.run(started(world))
    assert opened[0] == "203.0.113.1:8730"
    assert [member.name for member in world.swarm.members] == ["203.0.113.1:8730"]


def test_what_a_fetch_has_learned_of_holders_is_remembered(world: World) -> None:
    raws = {name: world.record(name, f"203.{n}.113.1") for n, name in enumerate(("gave", "proved", "silent"))}
    world.source("203.2.113.1:8730").silent_from = 0.0
    world.listing("given", list(raws.values()))

    async def look() -> None:
        made = world.discovery("given")
        await made.start()
        (member,) = [each for each in world.swarm.members if each.name == "203.0.113.1:8730"]
        world.swarm.succeeded(member, 100, 1.0)
        await made.close()

    world.run(look())
    records = [HolderRecord.decode(raw) for raw in raws.values()]
    standings = world.state.nodes.standings(records, time.time())
    assert [standings[record.node_key] for record in records] == [
        Standing.DELIVERED,
        Standing.PROVED,
        Standing.TOLD,
    ]
    # The next one passes on whom this one has reached, and nobody else.
    assert set(world.state.holders.vouched(world.publisher.archive, time.time())) == {
        raws["gave"],
        raws["proved"],
    }

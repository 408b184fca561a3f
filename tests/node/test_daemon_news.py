"""Whom a mirror listens to for newer snapshots, and what those can bring it to do: nothing but to take a
newer head that is rightly signed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.node.simulator import Publisher, identity
from tests.node.swarm_sim import VirtualLoop

from p2psync.daemon import news
from p2psync.daemon.mirrors import register
from p2psync.daemon.news import REST_FIRST, WAIT, News
from p2psync.errors import NetworkError
from p2psync.fetch.options import FetchOptions
from p2psync.format.coverage import Coverage
from p2psync.format.url import ArchiveUrl, host_port
from p2psync.sources.source import NotOffered
from p2psync.sources.wire import Info
from p2psync.state import State
from p2psync_dht import Endpoint, HolderRecord, HolderRole, holders_key

Answer = Callable[["Holder", bytes], Awaitable[bytes | None]]


class Holder:
    """A node that may be listened to, and how it answers."""

    def __init__(self, key: bytes, answer: Answer, head: bytes) -> None:
        self.key = key
        self.answer = answer
        self.head = head
        self.asked = 0
        self.changed = asyncio.Event()

    def publish(self, raw: bytes) -> None:
        self.head = raw
        self.changed.set()


async def honest(holder: Holder, known: bytes) -> bytes | None:
    """Waits for another head."""
    if holder.head == known:
        try:
            async with asyncio.timeout(WAIT):
                await holder.changed.wait()
        except TimeoutError:
            return None
        holder.changed.clear()
    return holder.head if holder.head != known else None


async def hasty(holder: Holder, known: bytes) -> bytes | None:
    """Says that it has waited, and has not."""
    return None


async def babbling(holder: Holder, known: bytes) -> bytes | None:
    return b"something else"


async def behind(holder: Holder, known: bytes) -> bytes | None:
    """Tells of an old head again and again, whatever it is told."""
    return holder.head


async def unable(holder: Holder, known: bytes) -> bytes | None:
    raise NotOffered("does not know of waiting")


async def dead(holder: Holder, known: bytes) -> bytes | None:
    raise NetworkError("is gone")


class Bench:
    """A mirror's state directory, and the nodes that it may listen to, by address."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state = State.open(folder / "state")
        self.publisher = Publisher(now=int(time.time()) - 3600)
        self.first = self.publisher.publish({b"f": b"one"})
        self.state.heads.put(self.first, "test")
        self.folder = folder
        self.holders: dict[str, Holder] = {}
        self.heard = 0
        self.details: list[str] = []
        own_key = self.state.identity().public_key
        self.news = News(self.state, own_key, self.details.append, random.Random(1))
        self.news.heard = self._hear
        monkeypatch.setattr(news, "PeerSource", self._source)

    def _hear(self) -> None:
        self.heard += 1

    def _source(self, address: str, **_: float) -> Source:
        return Source(self.holders[address], address)

    def mirror(self, *given: str) -> None:
        url = ArchiveUrl(self.publisher.archive, b"")
        register(self.state, FetchOptions(url, bytes(self.folder / "m"), sources=given, mirror=True))

    def holder(
        self,
        ip: str,
        answer: Answer = honest,
        *,
        role: HolderRole = HolderRole.MIRROR,
        proved: bool = True,
        key: str = "",
    ) -> Holder:
        """A holder whose record is known."""
        made = self.at(ip, answer, key=key)
        now = time.time()
        record = HolderRecord.sign(
            identity(key or ip),
            holders_key(self.publisher.archive),
            endpoints=[Endpoint(ip, 8730)],
            issued=int(now),
            expires=int(now) + 3600,
            role=role,
            payload=Coverage(True, 0, 1).encode(),
        )
        if proved:
            self.state.holders.keep_proved(self.publisher.archive, record, record.endpoints[0], now)
        else:
            self.state.holders.hear(self.publisher.archive, [record], now)
        return made

    def at(self, ip: str, answer: Answer = honest, *, key: str = "") -> Holder:
        """A node at an address."""
        made = Holder(identity(key or ip).public_key, answer, self.first.raw)
        self.holders[host_port(ip, 8730)] = made
        return made

    def run(self, seconds: float, *steps: Callable[[], object]) -> None:
        """Listen for so long, and do a step after each such time."""

        async def listen() -> None:
            await self.news.round()
            for step in (*steps, None):
                await asyncio.sleep(seconds)
                if step is not None:
                    step()
            await self.news.close()

        virtually(listen())

    def newer(self) -> bytes:
        return self.publisher.publish({b"f": b"%d" % len(self.publisher.heads)}).raw

    @property
    def newest(self) -> bytes:
        head = self.state.heads.newest(self.publisher.archive)
        assert head is not None
        return head.raw


class Source:
    """Stands in for the client of a holder."""

    def __init__(self, holder: Holder, name: str) -> None:
        self.holder = holder
        self.name = name

    async def info(self) -> Info:
        return Info("", self.holder.key, "1", ())

    async def newer_head(self, archive: bytes, known: bytes, seconds: int) -> bytes | None:
        self.holder.asked += 1
        return await self.holder.answer(self.holder, known)

    async def put_head(self, archive: bytes, raw: bytes) -> bool:
        if self.holder.answer is honest:
            self.holder.publish(raw)
            self.holder.changed.clear()
        return True

    async def close(self) -> None:
        pass


def virtually(work: Coroutine[Any, Any, None]) -> None:
    loop = VirtualLoop()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(work)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(tmp_path, monkeypatch)
    yield made
    made.state.close()


def test_a_newer_head_is_heard_of_as_soon_as_a_holder_has_it(bench: Bench) -> None:
    bench.mirror()
    holder = bench.holder("192.0.2.1")
    newer = bench.newer()
    bench.run(1000.0, lambda: holder.publish(newer), lambda: None)
    assert (bench.newest, bench.heard) == (newer, 1)
    assert holder.asked < 3000 / WAIT + 10


def test_who_was_given_by_hand_is_listened_to_and_so_is_one_more(bench: Bench) -> None:
    bench.mirror("192.0.2.9:8730")
    bench.at("192.0.2.9")
    for number in range(1, 6):
        bench.holder(f"192.0.2.{number}")
    seen: list[list[str]] = []
    bench.run(5.0, lambda: seen.append(bench.news.listening))
    assert len(seen[0]) == 2
    assert "192.0.2.9:8730" in seen[0]


def test_of_those_that_are_known_the_origin_is_listened_to(bench: Bench) -> None:
    bench.mirror()
    for number in range(1, 9):
        role = HolderRole.ORIGIN if number == 5 else HolderRole.MIRROR
        bench.holder(f"192.0.2.{number}", role=role)
    seen: list[list[str]] = []
    bench.run(5.0, lambda: seen.append(bench.news.listening))
    assert "192.0.2.5:8730" in seen[0]


def test_one_node_under_two_names_is_listened_to_once(bench: Bench) -> None:
    bench.mirror("192.0.2.9:8730")
    bench.at("192.0.2.9", key="one")
    bench.holder("192.0.2.1", key="one")
    seen: list[list[str]] = []
    bench.run(5.0, lambda: seen.append(bench.news.listening))
    assert len(seen[0]) == 1


def test_strangers_are_not_listened_to_while_others_are_known(bench: Bench) -> None:
    bench.mirror()
    bench.holder("192.0.2.1")
    bench.holder("192.0.2.2")
    strangers = [bench.holder(f"198.51.100.{number}", proved=False) for number in range(1, 9)]
    bench.run(500.0)
    assert not any(stranger.asked for stranger in strangers)


def test_a_holder_that_is_behind_is_told_and_then_listened_to(bench: Bench) -> None:
    bench.mirror()
    holder = bench.holder("192.0.2.1")
    second = bench.publisher.publish({b"f": b"two"})
    bench.state.heads.put(second, "test")
    newer = bench.newer()
    bench.run(500.0, lambda: holder.publish(newer), lambda: None)
    assert bench.newest == newer
    assert holder.asked < 1500 / WAIT + 10


@pytest.mark.parametrize("answer", [hasty, babbling, behind, unable, dead])
def test_nobody_makes_a_mirror_ask_in_a_loop_nor_take_anything_nor_keeps_it_from_hearing_it_elsewhere(
    bench: Bench, answer: Answer
) -> None:
    bench.mirror()
    bad = [bench.holder(f"192.0.2.{number}", answer, role=HolderRole.ORIGIN) for number in range(1, 4)]
    good = bench.holder("192.0.2.7")
    if answer is behind:
        bench.state.heads.put(bench.publisher.publish({b"f": b"two"}), "test")
    newer = bench.newer()
    known = bench.newest
    kept: list[bytes] = []
    bench.run(600.0, lambda: kept.append(bench.newest), lambda: good.publish(newer), lambda: None)
    assert kept == [known]
    assert (bench.newest, bench.heard) == (newer, 1)
    assert all(each.asked < 600 / REST_FIRST for each in bad)


def test_a_head_with_another_signature_is_not_kept(bench: Bench) -> None:
    bench.mirror()
    stranger = Publisher("somebody else")
    holder = bench.holder("192.0.2.1")
    forged = stranger.publish({b"f": b"two"}).raw
    bench.run(100.0, lambda: holder.publish(forged), lambda: None)
    assert (bench.newest, bench.heard) == (bench.first.raw, 0)


def test_who_answers_at_the_address_of_another_is_not_listened_to(bench: Bench) -> None:
    bench.mirror()
    holder = bench.holder("192.0.2.1")
    holder.key = identity("another").public_key
    bench.run(100.0)
    assert holder.asked == 0


def test_what_is_not_mirrored_any_more_is_not_listened_for(bench: Bench) -> None:
    bench.mirror()
    bench.holder("192.0.2.1")
    seen: list[list[str]] = []

    async def listen() -> None:
        await bench.news.round()
        await asyncio.sleep(5)
        seen.append(bench.news.listening)
        (tree,) = bench.state.trees.all()
        bench.state.trees.remove(tree)
        await bench.news.round()
        seen.append(bench.news.listening)

    virtually(listen())
    assert [len(each) for each in seen] == [1, 0]

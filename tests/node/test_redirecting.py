"""Which mirrors readers are sent to: those that have the very snapshot, have passed their last check, and
answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.node.publishing import write
from tests.node.simulator import identity

from p2psync.checks import CHECK_EVERY, Result, Verdict, checked
from p2psync.content.redirect import Redirects
from p2psync.daemon import redirecting as module
from p2psync.daemon.policy import Policy
from p2psync.daemon.redirecting import LOOK, PASSED_FOR, Redirecting
from p2psync.errors import NetworkError
from p2psync.publish import publish
from p2psync.sources.wire import Info
from p2psync.state import State
from p2psync_dht import Endpoint, HolderRecord, HolderRole, holders_key

START = 1_800_000_000
GOOD = Result(Verdict.RIGHT, seq=1, asked=8, came=8, complete=True, rate=1e6)


class FakeTime:
    """The module ``time``, set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return 5_000.0 + self.now

    def time(self) -> float:
        return START + self.now


class Bench:
    """A publisher's state directory, and the nodes that answer, by address."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = FakeTime()
        monkeypatch.setattr(module, "time", self.clock)
        monkeypatch.setattr(module, "PeerSource", self._source)
        self.state = State.open(folder / "state")
        self.tree = folder / "tree"
        self.answering: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.archive = self.publish("one")
        self.redirects = Redirects(0)
        self.policy = Policy(redirect=0)
        self.redirecting = self.build()

    def build(self, policy: Policy | None = None) -> Redirecting:
        return Redirecting(
            self.state, self.state.identity().public_key, policy or self.policy, self.redirects
        )

    def publish(self, text: str) -> bytes:
        write(self.tree / "f", text.encode())
        return publish(self.state, self.tree, now=self.clock.time()).archive

    def mirror(self, name: str, result: Result = GOOD, role: HolderRole = HolderRole.MIRROR) -> bytes:
        key = identity(name).public_key
        ip = f"192.0.2.{len(self.answering) + 1}"
        now = int(self.clock.time())
        record = HolderRecord.sign(
            identity(name),
            holders_key(self.archive),
            endpoints=[Endpoint(ip, 8730)],
            issued=now,
            expires=now + 86_400,
            role=role,
        )
        self.state.holders.keep_proved(self.archive, record, record.endpoints[0], now)
        self.check(name, result)
        self.answering[f"{ip}:8730"] = key
        return key

    def check(self, name: str, result: Result) -> None:
        key, now = identity(name).public_key, int(self.clock.time())
        before = self.state.checks.get(self.archive, key)
        self.state.checks.put(self.archive, key, checked(before, "mirror", [], result, now, now))

    def _source(self, address: str, **_: float) -> Any:
        return _Source(self, address)

    async def sent_to(self, later: float = 0.0) -> set[bytes]:
        self.clock.now += max(later, module.PAUSE)
        await self.redirecting.round()
        having = self.redirects.mirrors.get(self.archive)
        return set() if having is None else {mirror.key for mirror in having.mirrors}


class _Source:
    def __init__(self, bench: Bench, address: str) -> None:
        self.bench, self.address = bench, address

    async def info(self) -> Info:
        self.bench.asked.append(self.address)
        if self.address not in self.bench.answering:
            raise NetworkError("gone")
        return Info("", self.bench.answering[self.address], "1", ())

    async def close(self) -> None:
        pass


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(tmp_path, monkeypatch)
    yield made
    made.state.close()


async def test_readers_are_sent_to_mirrors_that_pass_and_have_the_newest_snapshot(bench: Bench) -> None:
    good = bench.mirror("good")
    bench.mirror("behind", GOOD._replace(seq=0, behind=True))
    bench.mirror("silent", Result(Verdict.FAILED, "silent"))
    bench.mirror("liar", Result(Verdict.WRONG, "wrong"))
    bench.mirror("peer", role=HolderRole.PEER)
    bench.mirror("another origin", role=HolderRole.ORIGIN)
    assert await bench.sent_to() == {good}


async def test_of_a_newer_snapshot_only_those_count_that_were_found_to_have_it(bench: Bench) -> None:
    first, second = bench.mirror("first"), bench.mirror("second")
    assert await bench.sent_to() == {first, second}
    bench.publish("two")
    assert await bench.sent_to() == set()
    bench.check("second", GOOD._replace(seq=2))
    assert await bench.sent_to() == {second}


async def test_one_failure_or_no_check_for_long_is_enough_to_be_left_out(bench: Bench) -> None:
    key = bench.mirror("m")
    assert await bench.sent_to() == {key}
    bench.check("m", Result(Verdict.FAILED, "silent"))
    assert await bench.sent_to() == set()
    bench.check("m", GOOD)
    assert await bench.sent_to() == {key}
    assert await bench.sent_to(CHECK_EVERY) == {key}
    assert await bench.sent_to(PASSED_FOR) == set()


async def test_who_does_not_answer_any_more_is_left_out_within_a_moment(bench: Bench) -> None:
    first, second = bench.mirror("first"), bench.mirror("second")
    assert await bench.sent_to() == {first, second}
    del bench.answering["192.0.2.1:8730"]
    assert await bench.sent_to(LOOK) == {second}
    bench.answering["192.0.2.1:8730"] = second  # Another node at its address.
    assert await bench.sent_to(LOOK) == {second}
    bench.answering["192.0.2.1:8730"] = first
    assert await bench.sent_to(LOOK) == {first, second}


async def test_mirrors_are_asked_no_more_often_than_that_however_often_the_index_changes(
    bench: Bench,
) -> None:
    bench.mirror("m")
    for _ in range(200):
        bench.clock.now += 0.5
        await bench.redirecting.round()
    assert len(bench.asked) <= 100 / LOOK + 1


async def test_whom_the_publisher_does_not_want_nobody_is_sent_to(bench: Bench) -> None:
    key = bench.mirror("m")
    bench.redirecting = bench.build(Policy(redirect=0, deny=(key,)))
    assert await bench.sent_to() == set()


async def test_where_nobody_is_to_be_sent_on_nobody_is_asked(bench: Bench) -> None:
    bench.mirror("m")
    bench.redirects.smallest = None
    assert await bench.sent_to() == set()
    assert bench.asked == []


async def test_from_a_mirror_nobody_is_sent_on(bench: Bench) -> None:
    bench.mirror("m")
    tree = bench.state.trees.by_archive(bench.archive)[0]
    tree.role = "mirror"
    bench.state.trees.update(tree)
    assert await bench.sent_to() == set()

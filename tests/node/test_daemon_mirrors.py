"""When mirrors are updated, and how, and what happens when that fails."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import pytest
from tests.node.simulator import Publisher

from p2psync.daemon import mirrors as module
from p2psync.daemon.mirrors import (
    AT_ONCE,
    FIRST_RETRY,
    SPREAD_MAX,
    Mirrors,
    neighbours,
    options_of,
    pause,
    register,
)
from p2psync.errors import DeleteLimitError, FileError, NetworkError, P2psyncError, UsageError
from p2psync.events import Teller
from p2psync.fetch.engine import Host
from p2psync.fetch.options import Compress, Delete, FetchOptions, FetchSummary
from p2psync.fetch.recorded import OF_ONE_RUN
from p2psync.format.url import ArchiveUrl
from p2psync.state import State
from p2psync_dht import Endpoint, HolderRecord, HolderRole, Identity, holders_key

INTERVAL = 600.0


class FakeTime:
    """The module ``time``, set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_800_000_000 + self.now


class Bench:
    """A state directory with mirrors, and updates that end as they are told to."""

    def __init__(self, folder: Path, clock: FakeTime) -> None:
        self.folder = folder
        self.clock = clock
        self.state = State.open(folder / "state")
        self.warnings: list[str] = []
        self.details: list[str] = []
        self.updates: list[FetchOptions] = []
        self.outcome: P2psyncError | int = 0
        self.publishers: dict[bytes, Publisher] = {}
        self.mirrors = self.build(bwlimit=123)

    def build(self, *, bwlimit: int | None) -> Mirrors:
        return Mirrors(
            self.state,
            cast(Host, object()),
            bwlimit=bwlimit,
            warn=self.warnings.append,
            detail=self.details.append,
            rng=random.Random(1),
        )

    async def run_fetch(self, options: FetchOptions, state: State, tell: Teller, host: Host) -> FetchSummary:
        self.updates.append(options)
        if isinstance(self.outcome, P2psyncError):
            raise self.outcome
        summary = FetchSummary(options.url.archive)
        if self.outcome:
            summary.missing = [b"x"]
            return summary
        publisher = self.publishers[options.url.archive]
        summary.seq = publisher.head.seq
        tree = self.state.trees.get(options.dest)
        assert tree is not None
        tree.epoch, tree.seq, tree.snapshot = 0, publisher.head.seq, publisher.head.snapshot
        self.state.trees.update(tree)
        return summary

    def mirror(self, name: str, **options: Any) -> bytes:
        publisher = Publisher(name)
        publisher.publish({b"f": b"x"})
        self.publishers[publisher.archive] = publisher
        url = ArchiveUrl(publisher.archive, b"")
        dest = bytes(self.folder / name)
        register(self.state, FetchOptions(url, dest, mirror=True, **{"mirror_interval": INTERVAL} | options))
        return dest

    @property
    def updated(self) -> list[str]:
        return [os.path.basename(os.fsdecode(options.dest)) for options in self.updates]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    clock = FakeTime()
    made = Bench(tmp_path, clock)
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "run_fetch", made.run_fetch)
    yield made
    made.state.close()


async def run(bench: Bench, seconds: float) -> None:
    """Rounds, as the node makes them."""
    until = bench.clock.now + seconds
    while bench.clock.now < until:
        bench.clock.now += max(await bench.mirrors.round(), 0.5)


async def test_each_mirror_is_updated_at_its_interval(bench: Bench) -> None:
    bench.mirror("often", mirror_interval=100.0)
    bench.mirror("seldom", mirror_interval=1000.0)
    await run(bench, 1050)
    assert bench.updated.count("often") in (10, 11)
    assert bench.updated.count("seldom") == 2
    assert bench.warnings == []
    assert "snapshot 1" in bench.details[0]


async def test_a_failure_is_tried_again_after_pauses_that_grow(bench: Bench) -> None:
    bench.mirror("m")
    bench.outcome = NetworkError("nobody is there")
    times = []
    for _ in range(9):
        before = len(bench.updates)
        while len(bench.updates) == before:
            bench.clock.now += await bench.mirrors.round()
        times.append(bench.clock.now)
    gaps = [round(later - sooner, 6) for sooner, later in itertools.pairwise(times)]
    assert gaps[0] >= FIRST_RETRY
    assert gaps == sorted(gaps)
    assert max(gaps) <= INTERVAL + 60
    assert "nobody is there" in bench.warnings[0]
    bench.outcome = 0
    await run(bench, INTERVAL + 60)
    done = len(bench.updates)
    await run(bench, INTERVAL / 2)
    assert len(bench.updates) == done  # the interval counts again


async def test_what_could_not_be_had_is_tried_again(bench: Bench) -> None:
    bench.mirror("m")
    bench.outcome = 23
    await bench.mirrors.round()
    bench.outcome = 0
    bench.clock.now += 1.5 * FIRST_RETRY + 1
    await bench.mirrors.round()
    assert len(bench.updates) == 2
    assert len(bench.warnings) == 1


async def test_a_newer_head_is_reason_to_update_at_once(bench: Bench) -> None:
    dest = bench.mirror("m")
    await bench.mirrors.round()
    await bench.mirrors.round()
    assert len(bench.updates) == 1
    tree = bench.state.trees.get(dest)
    assert tree is not None
    publisher = bench.publishers[tree.archive or b""]
    bench.state.heads.put(publisher.publish({b"f": b"newer"}), "test")
    await bench.mirrors.round()
    await bench.mirrors.round()
    assert len(bench.updates) == 2


async def test_many_mirrors_do_not_begin_with_a_newer_snapshot_in_the_same_second(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = bench.mirror("m")
    await bench.mirrors.round()
    monkeypatch.setattr(bench.state.holders, "count", lambda *_: 10**6)
    tree = bench.state.trees.get(dest)
    assert tree is not None
    publisher = bench.publishers[tree.archive or b""]
    begun: list[float] = []
    for text in (b"a", b"b", b"c", b"d"):
        heard = bench.clock.now
        bench.state.heads.put(publisher.publish({b"f": text}), "test")
        before = len(bench.updates)
        while (left := await bench.mirrors.round()) and len(bench.updates) == before:
            bench.clock.now += left
        begun.append(bench.clock.now - heard)
    assert len(set(begun)) == len(begun)
    assert max(begun) <= SPREAD_MAX


async def test_mirrors_that_took_a_snapshot_together_look_for_the_next_one_apart(bench: Bench) -> None:
    """And each at least as often as it was told to."""
    names = [f"m{number}" for number in range(4)]
    for name in names:
        bench.mirror(name)
    await bench.mirrors.round()
    looked: dict[str, float] = {}
    began = bench.clock.now
    while len(looked) < len(names):
        left = await bench.mirrors.round()
        for name in bench.updated[len(names) :]:
            looked.setdefault(name, bench.clock.now - began)
        bench.clock.now += left
    assert len(set(looked.values())) == len(names)
    assert max(looked.values()) <= INTERVAL


async def test_a_newer_head_that_cannot_be_had_is_not_hammered(bench: Bench) -> None:
    dest = bench.mirror("m")
    await bench.mirrors.round()
    tree = bench.state.trees.get(dest)
    assert tree is not None
    bench.state.heads.put(bench.publishers[tree.archive or b""].publish({b"f": b"newer"}), "test")
    bench.outcome = NetworkError("gone")
    for _ in range(5):
        await bench.mirrors.round()
    assert len(bench.updates) == 2


async def test_a_snapshot_that_lost_too_much_is_told_once_and_the_next_one_is_tried_at_once(
    bench: Bench,
) -> None:
    dest = bench.mirror("m")
    await bench.mirrors.round()
    tree = bench.state.trees.get(dest)
    assert tree is not None
    publisher = bench.publishers[tree.archive or b""]
    bench.state.heads.put(publisher.publish({}), "test")
    bench.outcome = DeleteLimitError("snapshot 2 lacks everything")
    await run(bench, 3 * INTERVAL)
    assert len(bench.updates) in (4, 5)  # at each interval: a command may have accepted it
    assert len(bench.warnings) == 1
    assert "snapshot 2 lacks everything" in bench.warnings[0]
    assert [each.path for each in bench.mirrors.held_back()] == [dest]
    before = len(bench.updates)
    bench.state.heads.put(publisher.publish({b"f": b"again"}), "test")
    bench.outcome = 0
    await bench.mirrors.round()
    assert len(bench.updates) == before + 1
    assert bench.mirrors.held_back() == []


async def test_a_mirror_that_a_command_brought_to_what_was_refused_is_held_back_no_more(bench: Bench) -> None:
    dest = bench.mirror("m")
    await bench.mirrors.round()
    tree = bench.state.trees.get(dest)
    assert tree is not None
    head = bench.publishers[tree.archive or b""].publish({})
    bench.state.heads.put(head, "test")
    bench.outcome = DeleteLimitError("too much")
    await bench.mirrors.round()
    assert bench.mirrors.held_back() != []
    tree.epoch, tree.seq, tree.snapshot = head.epoch, head.seq, head.snapshot
    bench.state.trees.update(tree)
    assert bench.mirrors.held_back() == []


async def test_one_failing_mirror_does_not_keep_the_others(bench: Bench) -> None:
    bench.mirror("a")
    bench.outcome = FileError("no space left")
    await bench.mirrors.round()
    bench.outcome = 0
    bench.mirror("b")
    await bench.mirrors.round()
    assert bench.updated == ["a", "b"]


async def test_an_update_that_takes_long_keeps_no_other_mirror_from_its_news(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.mirrors = bench.build(bwlimit=None)
    names = ["endless", "a", "b", "c", "d"]
    for name in names:
        bench.mirror(name)
    going_on: set[str] = set()
    most = 0

    async def run_fetch(options: FetchOptions, state: State, tell: Teller, host: Host) -> FetchSummary:
        nonlocal most
        name = os.path.basename(os.fsdecode(options.dest))
        going_on.add(name)
        most = max(most, len(going_on))
        try:
            await (asyncio.Event().wait() if name == "endless" else asyncio.sleep(0))
            return await bench.run_fetch(options, state, tell, host)
        finally:
            going_on.discard(name)

    monkeypatch.setattr(module, "run_fetch", run_fetch)
    for _ in range(10):
        await bench.mirrors.round()
    assert bench.updated == names[1:]
    assert (going_on, most) == ({"endless"}, AT_ONCE)
    await bench.mirrors.close()
    assert not going_on


async def test_updates_with_a_limit_in_common_go_one_after_the_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        bench.mirror(name)
    begun: list[bytes] = []

    async def endless(options: FetchOptions, *_: Any) -> FetchSummary:
        begun.append(options.dest)
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(module, "run_fetch", endless)
    for _ in range(3):
        await bench.mirrors.round()
    assert len(begun) == 1
    await bench.mirrors.close()


async def test_while_a_command_updates_it_the_node_does_not(bench: Bench) -> None:
    dest = bench.mirror("m")
    tree = bench.state.trees.get(dest)
    assert tree is not None
    with bench.mirrors.being_updated(tree):
        assert await bench.mirrors.round() <= 60.0
        assert bench.updates == []
    await bench.mirrors.round()
    assert bench.updates == []
    bench.clock.now += INTERVAL
    await bench.mirrors.round()
    assert bench.updated == ["m"]


async def test_only_mirrors_are_updated(bench: Bench) -> None:
    bench.state.trees.ensure(bytes(bench.folder / "p"), "publish", b"p" * 32)
    bench.state.trees.ensure(bytes(bench.folder / "f"), "fetch", b"f" * 32)
    bench.state.trees.ensure(bytes(bench.folder / "no source"), "mirror", b"m" * 32)
    assert await bench.mirrors.round() > 1
    assert bench.updates == []


ASKED: dict[str, Any] = {
    "bool": True,
    "float": 77.0,
    "float | None": 5.5,
    "int": 7,
    "int | None": 1000,
    "bytes": b"dir",
    "tuple[bytes, ...] | None": (b"a/b", b"c/"),
    "tuple[bytes, ...]": (b"- *.tmp", b"P \xff"),
    "tuple[str, ...]": ("192.0.2.1:8730", "http://192.0.2.2/"),
    "Delete": Delete.NONE,
    "Compress": Compress.MAX,
}
"""Something else than the default, by type of option."""


def test_a_mirror_is_updated_with_every_option_that_it_was_made_with(bench: Bench) -> None:
    shaping = {
        field.name: not field.default if field.type == "bool" else ASKED[str(field.type)]
        for field in fields(FetchOptions)
        if field.name not in OF_ONE_RUN
    }
    assert {"sources", "delete", "require_fresh", "checksum", "timeout", "contimeout"} <= set(shaping)
    dest = bench.mirror("m", **shaping)
    tree = bench.state.trees.get(dest)
    assert tree is not None
    options = options_of(tree, None)
    assert options.dest == dest
    assert options.mirror
    assert {name: getattr(options, name) for name in shaping} == shaping


@pytest.mark.parametrize(
    ("own", "node", "held"), [(None, 55, 55), (100, None, 100), (100, 55, 55), (9, 55, 9), (None, None, None)]
)
def test_of_two_limits_the_lower_one_holds(
    bench: Bench, own: int | None, node: int | None, held: int | None
) -> None:
    tree = bench.state.trees.get(bench.mirror("m", bwlimit=own))
    assert tree is not None
    assert options_of(tree, node).bwlimit == held


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("delete", "something newer"),
        ("delete", None),
        ("delete", 1),
        ("checksum", "yes"),
        ("timeout", -1),
        ("timeout", float("nan")),
        ("sources", "192.0.2.1:8730"),
        ("sources", [b"x"]),
        ("interval", None),
    ],
)
async def test_a_record_that_cannot_be_followed_is_no_reason_to_guess(
    bench: Bench, key: str, value: object
) -> None:
    tree = bench.state.trees.get(bench.mirror("m"))
    assert tree is not None
    tree.options[key] = value
    bench.state.trees.update(tree)
    await bench.mirrors.round()
    assert bench.updates == []
    (warning,) = bench.warnings
    assert "/m'" in warning
    assert f"{key} is {value!r}; run 'p2psync mirror' for it again" in warning


def test_what_an_earlier_version_did_not_record_has_its_default(bench: Bench) -> None:
    tree = bench.state.trees.get(bench.mirror("m"))
    assert tree is not None
    tree.options = {"interval": 60.0, "path": b""}
    options = options_of(tree, None)
    assert options == FetchOptions(
        ArchiveUrl.parse(tree.source), tree.path, delete=Delete.OWN, mirror=True, mirror_interval=60.0
    )


def test_neighbours_are_peers_given_by_hand_and_known_holders(bench: Bench) -> None:
    dest = bench.mirror("m", sources=("192.0.2.1:8730", "http://192.0.2.2/"))
    bench.mirror("n", sources=("192.0.2.1:8730", "[2001:db8::1]:1"))
    tree = bench.state.trees.get(dest)
    assert tree is not None
    assert tree.archive is not None
    now = 1_900_000_000
    for who, ip in ((Identity.generate(), "192.0.2.3"), (bench.state.identity(), "192.0.2.4")):
        made = HolderRecord.sign(
            who,
            holders_key(tree.archive),
            endpoints=[Endpoint(ip, 9)],
            issued=now,
            expires=now + 1000,
            role=HolderRole.MIRROR,
            payload=b"",
        )
        bench.state.holders.put(
            tree.archive, made.raw, node_key=made.node_key, issued=now, expires=made.expires
        )
    assert neighbours(bench.state) == ["192.0.2.1:8730", "[2001:db8::1]:1", "192.0.2.3:9"]
    tree.source = "what a later version wrote"
    bench.state.trees.update(tree)
    assert neighbours(bench.state) == ["192.0.2.1:8730", "[2001:db8::1]:1", "192.0.2.3:9"]


def test_a_published_directory_is_no_mirror(bench: Bench) -> None:
    bench.state.trees.ensure(os.path.realpath(bytes(bench.folder / "m")), "publish", b"p" * 32)
    with pytest.raises(UsageError, match="published"):
        bench.mirror("m")


async def test_the_pause_ends_when_something_changes() -> None:
    changed = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(pause(10**6, changed))
        await asyncio.sleep(0)
        changed.set()
    assert waiting.done()
    assert not changed.is_set()
    await pause(0.0, changed)


# Letting go of a mirror.


async def test_a_mirror_that_is_let_go_of_stops_in_the_middle_of_its_update(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = bench.mirror("m")
    begun, ended = asyncio.Event(), asyncio.Event()

    async def endless(*_: Any) -> FetchSummary:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    monkeypatch.setattr(module, "run_fetch", endless)
    round_ = asyncio.create_task(bench.mirrors.round())
    await begun.wait()
    assert await bench.mirrors.release(dest)
    assert ended.is_set()
    await round_
    assert bench.warnings == []


async def test_a_mirror_that_was_let_go_of_is_left_alone_for_a_while(bench: Bench) -> None:
    """Whoever asked for it works there or forgets it; if that fails, the mirror goes on."""
    dest = bench.mirror("m")
    bench.mirror("other")
    assert not await bench.mirrors.release(dest)
    await bench.mirrors.round()
    assert bench.updated == ["other"]
    bench.clock.now += module.HOLD + 1
    await bench.mirrors.round()
    assert bench.updated == ["other", "m"]


async def test_a_mirror_that_is_forgotten_while_another_one_is_updated_does_not_come_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.mirror("first")
    dest = bench.mirror("second")
    done: list[bytes] = []

    async def forgets(options: FetchOptions, *_: Any) -> FetchSummary:
        done.append(options.dest)
        tree = bench.state.trees.get(dest)
        if tree is not None:
            bench.state.trees.remove(tree)
        return FetchSummary(options.url.archive)

    monkeypatch.setattr(module, "run_fetch", forgets)
    await bench.mirrors.round()
    assert [os.path.basename(path) for path in done] == [b"first"]
    assert bench.state.trees.get(dest) is None


async def test_a_mirror_that_is_made_again_does_not_inherit_the_troubles_of_the_forgotten_one(
    bench: Bench,
) -> None:
    dest = bench.mirror("m")
    bench.outcome = NetworkError("nobody is there")
    await bench.mirrors.round()
    tree = bench.state.trees.get(dest)
    assert tree is not None
    assert bench.mirrors.failures(tree) == 1
    bench.state.trees.remove(tree)
    bench.outcome = 0
    bench.mirror("m")
    made = bench.state.trees.get(dest)
    assert made is not None
    assert bench.mirrors.failures(made) == 0
    await bench.mirrors.round()
    assert bench.updated == ["m", "m"]


async def test_stopping_a_node_in_the_middle_of_an_update_is_no_letting_go(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.mirror("m")
    begun = asyncio.Event()

    async def endless(*_: Any) -> FetchSummary:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(module, "run_fetch", endless)
    round_ = asyncio.create_task(bench.mirrors.round())
    await begun.wait()
    round_.cancel()
    with pytest.raises(asyncio.CancelledError):
        await round_

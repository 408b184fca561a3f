"""A download over a swarm in memory: slow, silent, lying, dying, partial sources, and snapshots that go away.

Seconds are virtual: they say how the work was shared out, not how fast this machine is.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.help.descriptors import open_below
from tests.node.download_arena import (
    BIG,
    BIG_RECIPE,
    MANY,
    MIXED,
    RATE,
    Run,
    share,
    source,
    sources,
    timed,
)
from tests.node.simulator import Publisher, Tree, content
from tests.node.swarm_sim import Arena, SimSource

from p2psync.errors import FileError, NetworkError, TransferTimeout
from p2psync.sources.wire import Have
from p2psync.supply import download, producer


def test_a_tree_arrives_as_it_was_published(make: Callable[..., Arena], run: Run) -> None:
    arena = make(MIXED, *sources(2))
    result = run(arena.fetch())
    assert arena.differs() == []
    assert (result.changed, result.missing, result.failed) == (6, [], [])
    assert arena.watcher.files == 6
    assert not (arena.dest / ".p2psync.partial").exists()
    # Content that several places share came once.
    fetched = sum(arena.watcher.by_source.values())
    assert fetched == (3 << 20) + 5 + 70_000
    assert arena.watcher.bytes == 2 * (3 << 20) + 10 + 70_000


def test_metadata_comes_from_the_sources_as_well(
    make: Callable[..., Arena], run: Run, tmp_path: Path
) -> None:
    publisher = Publisher()
    publisher.publish(MANY)
    arena = Arena(tmp_path, publisher)
    arena.join(SimSource("only", publisher))
    try:
        run(arena.fetch())
        assert arena.differs() == []
    finally:
        arena.close()


def test_four_equal_sources_share_the_work(make: Callable[..., Arena], run: Run) -> None:
    arena = make(BIG, *sources(4, rate=RATE))
    _, seconds = run(timed(arena))
    assert arena.differs() == []
    assert seconds < 1.15 * (24 << 20) / (4 * RATE)
    assert all(share(arena, each.name) > 0.15 for each in arena.sources)


def test_many_small_files_fill_the_links(make: Callable[..., Arena], run: Run) -> None:
    arena = make(MANY, *sources(2, rate=RATE))
    _, seconds = run(timed(arena))
    assert arena.differs() == []
    assert seconds < 1.0
    assert sum(each.requests for each in arena.sources) < 60


def test_small_files_of_a_web_server_do_not_each_cost_a_round_trip(
    make: Callable[..., Arena], run: Run
) -> None:
    arena = make(MANY, source("http://mirror/", rate=RATE, delay=0.05, web=True))
    _, seconds = run(timed(arena))
    assert arena.differs() == []
    assert seconds < len(MANY) * 40 * 0.05 / 10


def test_a_slow_source_gets_less_and_holds_nothing_up(make: Callable[..., Arena], run: Run) -> None:
    arena = make(BIG, source("slow", rate=RATE / 10), *sources(3, rate=RATE))
    _, seconds = run(timed(arena))
    assert arena.differs() == []
    assert share(arena, "slow") < 0.1
    assert seconds < (24 << 20) / (3 * RATE) + 1.0


@pytest.mark.parametrize("since", [0.0, 0.5])
def test_a_silent_source_does_not_stall_the_end(make: Callable[..., Arena], run: Run, since: float) -> None:
    arena = make(BIG, source("silent", rate=RATE, silent_from=since), *sources(3, rate=RATE))
    _, seconds = run(timed(arena))
    assert arena.differs() == []
    # The end waits until requests are old enough to be doubled, not for the time-out of the silent one.
    assert seconds < (24 << 20) / (3 * RATE) + 2.0


def test_what_a_silent_source_owes_is_taken_elsewhere(make: Callable[..., Arena], run: Run) -> None:
    arena = make(MANY, source("silent", silent_from=0.0), source("good", rate=RATE))
    _, seconds = run(timed(arena))
    assert arena.differs() == []
    assert seconds < 4.0


def test_holders_that_drip_hold_up_no_part_of_a_fetch(make: Callable[..., Arena], run: Run) -> None:
    dripping = [source(f"dripping {number}", rate=300.0) for number in range(20)]
    arena = make(MIXED, *dripping, source("good", rate=RATE))
    _, seconds = run(timed(arena))
    assert arena.differs() == []
    assert seconds < (4 << 20) / RATE + 8.0


def test_a_swarm_of_fakes_with_one_honest_source_costs_seconds(make: Callable[..., Arena], run: Run) -> None:
    fakes = [
        *(source(f"silent {number}", silent_from=0.0) for number in range(6)),
        *(source(f"refusing {number}", dead_from=0.0) for number in range(6)),
        *(source(f"dripping {number}", rate=300.0) for number in range(6)),
        *(source(f"lying {number}", lies=lambda digest, offset: True) for number in range(5)),
    ]
    arena = make(MANY, *fakes, source("good", rate=RATE))
    _, seconds = run(timed(arena))
    assert arena.differs() == []
    assert seconds < (2 << 20) / RATE + 8.0


def test_who_was_quick_and_then_drips_does_not_keep_what_it_took(
    make: Callable[..., Arena], run: Run
) -> None:
    slowing = source("slowing", rate=10 * RATE)
    arena = make(BIG, slowing, source("good", rate=RATE))

    async def slow_down() -> float:
        asyncio.get_running_loop().call_later(0.1, setattr, slowing, "rate", 300.0)
        return (await timed(arena))[1]

    assert run(slow_down()) < (24 << 20) / RATE + 12.0
    assert arena.differs() == []


def test_on_a_line_that_is_slow_for_all_no_content_is_asked_for_twice(
    make: Callable[..., Arena], run: Run
) -> None:
    arena = make(BIG, *sources(3, rate=30_000.0))
    run(timed(arena))
    assert arena.differs() == []
    assert sum(each.received for each in arena.sources) < 1.1 * (24 << 20)


def test_a_liar_is_banned_and_wastes_little(make: Callable[..., Arena], run: Run) -> None:
    liar = source("liar", rate=RATE, lies=lambda digest, offset: True)
    arena = make(BIG, liar, *sources(3, rate=RATE))
    run(arena.fetch())
    assert arena.differs() == []
    assert arena.member("liar").banned
    assert liar.received < 1_000_000
    assert any("liar is banned" in text for text in arena.watcher.warnings)
    assert "liar" not in arena.watcher.by_source


def test_a_liar_among_small_files_is_banned(make: Callable[..., Arena], run: Run) -> None:
    arena = make(MANY, source("liar", lies=lambda digest, offset: True), *sources(1))
    run(arena.fetch())
    assert arena.differs() == []
    assert arena.member("liar").banned


def test_nothing_wrong_is_written_when_everybody_lies(make: Callable[..., Arena], run: Run) -> None:
    arena = make(BIG, *(source(f"liar {n}", lies=lambda digest, offset: True) for n in range(3)))
    with pytest.raises(NetworkError, match="wrong bytes"):
        run(arena.fetch())
    assert not (arena.dest / "big").exists()


def test_a_broken_block_on_one_mirror_is_taken_from_another(make: Callable[..., Arena], run: Run) -> None:
    broken = source("broken", rotten=3_000_000)
    arena = make(BIG, broken, source("good"))
    run(arena.fetch())
    assert arena.differs() == []
    assert not arena.member("broken").banned


def test_a_source_that_dies_is_replaced(make: Callable[..., Arena], run: Run) -> None:
    arena = make(BIG, source("dying", rate=RATE, dead_from=0.7), source("good", rate=RATE))
    _, seconds = run(timed(arena))
    assert arena.differs() == []
    assert share(arena, "dying") > 0.02
    assert seconds < 6.0


def test_a_source_that_fails_now_and_then_is_tried_again(make: Callable[..., Arena], run: Run) -> None:
    arena = make(BIG, source("flaky", failing=9))
    run(arena.fetch())
    assert arena.differs() == []


def test_without_any_source_left_the_fetch_says_so(make: Callable[..., Arena], run: Run) -> None:
    arena = make(BIG, *(source(f"dying {n}", rate=RATE, dead_from=0.5) for n in range(2)))
    with pytest.raises(NetworkError, match=r"no source is left.*refused"):
        run(arena.fetch())
    assert not (arena.dest / "big").exists()
    # What came is kept, and is not asked for again.
    before = sum(arena.watcher.by_source.values())
    assert before > 0
    for name in ("dying 0", "dying 1"):
        arena.member(name).dead = True
    late = SimSource("late", arena.publisher)
    arena.join(late)
    run(arena.fetch())
    assert arena.differs() == []
    assert late.received < (24 << 20) - before + 300_000


def test_silence_of_all_ends_in_a_time_out(make: Callable[..., Arena], run: Run) -> None:
    arena = make(BIG, source("silent", silent_from=0.5))
    with pytest.raises(TransferTimeout):
        run(arena.fetch(silence=8.0))


def test_without_a_time_out_silence_ends_after_a_minute_and_with_zero_never(
    make: Callable[..., Arena], run: Run
) -> None:
    arena = make(BIG, source("silent", silent_from=0.5))
    with pytest.raises(TransferTimeout, match="for 60 seconds"):
        run(arena.fetch())

    async def wait() -> None:
        fetching = asyncio.ensure_future(arena.fetch(silence=0))
        await asyncio.wait([fetching], timeout=75)  # Seconds of the simulator.
        assert not fetching.done()
        fetching.cancel()
        await asyncio.wait([fetching])

    run(wait())


def test_partial_holders_complete_each_other(make: Callable[..., Arena], run: Run) -> None:
    def odd(digest: bytes) -> bool:
        return bool(digest[0] & 1)

    arena = make(MANY)
    for name, lacks in (("odd", odd), ("even", lambda digest: not odd(digest))):
        arena.join(SimSource(name, arena.publisher, lacks=lacks), whole=False)
    run(arena.fetch())
    assert arena.differs() == []
    assert arena.looked == 0 or share(arena, "odd") > 0


def test_what_all_lack_is_missing_and_the_rest_is_there(make: Callable[..., Arena], run: Run) -> None:
    tree: Tree = {
        b"kept": content("kept", 300_000),
        b"lost": content("lost", 300_000),
        b"x": {b"lost": b"gone"},
    }
    arena = make(tree)
    gone = {arena.publisher.put(content("lost", 300_000)).digest, arena.publisher.put(b"gone").digest}
    for name in ("a", "b"):
        arena.join(SimSource(name, arena.publisher, lacks=lambda digest: digest in gone), whole=False)
    result = run(arena.fetch())
    assert sorted(result.missing) == [b"lost", b"x/lost"]
    assert sorted(arena.differs()) == [b"/lost", b"/x/lost"]
    assert arena.looked >= download.STUCK_ROUNDS


def test_a_window_full_of_missing_objects_does_not_stop_the_rest(
    make: Callable[..., Arena], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "WINDOW_FILES", 3)
    monkeypatch.setattr(producer, "SLICE_FILES", 1)
    lost = {b"a%02d" % n: content(f"lost {n}", 100_000) for n in range(12)}
    kept = {b"z%02d" % n: content(f"kept {n}", 100_000) for n in range(3)}
    arena = make({**lost, **kept})
    gone = {arena.publisher.put(data).digest for data in lost.values()}
    arena.join(SimSource("only", arena.publisher, lacks=lambda digest: digest in gone), whole=True)
    result = run(arena.fetch(silence=20.0))
    assert sorted(result.missing) == sorted(lost)
    assert sorted(arena.differs()) == [b"/" + name for name in sorted(lost)]


def test_a_source_found_while_all_is_parked_is_used(make: Callable[..., Arena], run: Run) -> None:
    arena = make(MIXED, source("empty", lacks=lambda digest: True))

    async def found() -> bool:
        if arena.looked == 2:
            arena.join(SimSource("late", arena.publisher))
        return False

    result = run(arena.fetch(look_again=found))
    assert result.missing == []
    assert arena.differs() == []


def test_a_newer_snapshot_ends_the_download_of_an_older_one(make: Callable[..., Arena], run: Run) -> None:
    arena = make(MIXED, source("empty", lacks=lambda digest: True))

    async def newer() -> bool:
        return arena.looked == 2

    result = run(arena.fetch(look_again=newer))
    assert result.superseded


def test_a_full_disk_stops_the_fetch_and_leaves_no_descriptor_open(
    make: Callable[..., Arena], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    arena = make(BIG, *sources(2))
    before = open_below(arena.dest)

    def full(fd: int, data: Any, offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(FileError, match=r"no space left.*'big'"):
        run(arena.fetch())
    assert open_below(arena.dest) == before
    monkeypatch.undo()


def test_a_stopped_fetch_closes_its_files_and_goes_on_later(make: Callable[..., Arena], run: Run) -> None:
    arena = make({**BIG, **MANY}, *sources(2, rate=RATE))
    before = open_below(arena.dest)

    async def stopped() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await arena.fetch()

    run(stopped())
    assert open_below(arena.dest) == before
    first = sum(arena.watcher.by_source.values())
    assert first > 0
    arena.watcher.by_source.clear()
    run(arena.fetch())
    assert arena.differs() == []
    assert first + sum(arena.watcher.by_source.values()) < 1.05 * ((24 << 20) + 400 * 3100)


def test_one_place_that_cannot_be_taken_does_not_keep_the_others_from_their_content(
    make: Callable[..., Arena], run: Run
) -> None:
    data = content("three", 200_000)
    arena = make({b"a": data, b"b": data, b"c": data, b"d": b"small", b"e": b"small"}, *sources(1))
    for name in ("b", "d"):
        (arena.dest / name).mkdir()
        (arena.dest / name / "mine").write_text("keep")
    result = run(arena.fetch())
    assert sorted(arena.differs()) == [b"/b", b"/d"]
    assert len(result.failed) == 2
    assert all("'b'" in text or "'d'" in text for text in result.failed)
    assert result.changed == 3
    assert (arena.dest / "b" / "mine").read_text() == "keep"


def test_the_same_object_under_way_from_two_lanes_closes_once(make: Callable[..., Arena], run: Run) -> None:
    """Many files of the same content among others, so that jobs of one digest come and go."""
    data = [content(f"same {n}", 150_000) for n in range(3)]
    tree: Tree = {b"%03d" % n: data[n % 3] for n in range(60)}
    arena = make(tree, *sources(3))
    result = run(arena.fetch())
    assert arena.differs() == []
    assert result.changed == 60
    assert sum(arena.watcher.by_source.values()) == 450_000


def test_peers_that_say_what_they_have_are_asked_for_that(make: Callable[..., Arena], run: Run) -> None:
    """Two that each have every other chunk, and say so."""
    arena = make(BIG)
    for name, pattern in (("odd", 0b01010101), ("even", 0b10101010)):
        bitmap = bytes([pattern]) * -(-len(BIG_RECIPE) // 8)
        arena.join(SimSource(name, arena.publisher, rate=RATE, held=_always(bitmap)), whole=False)
    run(arena.fetch())
    assert arena.differs() == []


def test_what_nobody_says_to_have_is_missing(make: Callable[..., Arena], run: Run) -> None:
    arena = make(BIG)
    most = b"\xff" * 20 + bytes(-(-len(BIG_RECIPE) // 8) - 20)
    for name in ("a", "b"):
        arena.join(SimSource(name, arena.publisher, rate=RATE, held=lambda _: most), whole=False)
    result = run(arena.fetch())
    assert result.missing == [b"big"]


def test_a_peer_that_claims_and_never_gives_does_not_keep_a_fetch_from_its_end(
    make: Callable[..., Arena], run: Run
) -> None:
    arena = make(MIXED)
    arena.join(SimSource("boaster", arena.publisher, lacks=lambda _: True, held=lambda _: True), whole=False)
    result = run(arena.fetch())
    assert len(result.missing) == 5


@pytest.mark.parametrize("seed", range(12))
def test_any_mix_of_faults_ends_with_the_right_tree(
    make: Callable[..., Arena], run: Run, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One good source is enough, whatever the others do."""
    chance = random.Random(seed)
    monkeypatch.setattr(download, "WINDOW_JOBS", chance.choice([2, 40, 4096]))
    monkeypatch.setattr(download, "WINDOW_BYTES", chance.choice([1, 1 << 20, 96 << 20]))
    tree: Tree = {**MIXED, b"many": {b"%d" % n: content(n, chance.randrange(200_000)) for n in range(30)}}
    arena = make(tree, source("good", rate=RATE, delay=chance.choice([0.001, 0.3])))
    for number in range(chance.randrange(1, 5)):
        arena.join(
            SimSource(
                f"bad {number}",
                arena.publisher,
                rate=chance.choice([1e4, 1e6, 1e8]),
                delay=chance.choice([0.0, 0.05, 2.0]),
                lacks=_mostly(chance.choice([0, 0, 2, 1])),
                lies=_sometimes(chance.choice([0, 0, 1, 40])),
                silent_from=chance.choice([float("inf"), 0.0, 1.0]),
                dead_from=chance.choice([float("inf"), 0.5, 3.0]),
                failing=chance.choice([0, 2, 20]),
                held=chance.choice([None, lambda _: True, lambda _: False]),
            ),
            whole=chance.choice([True, False]),
        )
    result = run(arena.fetch())
    assert (result.missing, result.failed, result.superseded) == ([], [], False)
    assert arena.differs() == []


def _always(answer: Have) -> Callable[[bytes], Have]:
    return lambda digest: answer


def _mostly(every: int) -> Callable[[bytes], bool]:
    return lambda digest: bool(every) and digest[0] % every == 0


def _sometimes(every: int) -> Callable[[bytes, int], bool]:
    return lambda digest, offset: bool(every) and digest[0] % every == 0


class Rogue(SimSource):
    """Raises what its name says."""

    error: Exception = NetworkError("x")

    async def read(self, pieces: Sequence[Any], into: memoryview) -> list[bool]:
        await asyncio.sleep(0.01)
        raise self.error


@pytest.mark.parametrize("kind", ["NotHere", "NotOffered", "FormatError", "NetworkError", "ConnectTimeout"])
def test_no_error_of_a_source_stops_the_others(make: Callable[..., Arena], run: Run, kind: str) -> None:
    from p2psync import errors
    from p2psync.sources import source as transfer

    arena = make(MIXED)
    rogue = Rogue("rogue", arena.publisher)
    rogue.error = (getattr(transfer, kind, None) or getattr(errors, kind))("rogue: no")
    arena.join(rogue)
    arena.join(SimSource("good", arena.publisher))
    run(arena.fetch())
    assert arena.differs() == []
    assert arena.watcher.by_source.get("rogue", 0) == 0

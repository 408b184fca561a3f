"""What a fetch tells of its progress, and what its last words say: whole fetches over a swarm in memory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.node.fetch_world import BIG, SIZE, World, changed, world
from tests.node.simulator import Link, content
from tests.node.swarm_sim import Watcher

from p2psync.cli.transfers import describe
from p2psync.errors import TransferTimeout
from p2psync.events import Advanced, Arrived, Awaiting, Event, Phase
from p2psync.fetch.options import FetchSummary

__all__ = ["world"]
FILES = 103


class Stopped(Exception):
    """The watcher has seen enough."""


class Diary(Watcher):
    """Remembers the phase of fetching; stops the run when so many bytes are done."""

    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.stop_at = stop_at
        self.fetching: Phase | None = None
        self.reused = self.arrived = 0
        self.paths: set[bytes] = set()
        self.waits: list[bool] = []

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        match event:
            case Phase("looking up"):
                self.fetching = None
            case Phase("fetching"):
                self.fetching, self.bytes, self.files, self.reused = event, 0, 0, 0
            case Advanced(_, _, reused, path):
                self.reused += reused
                self.paths.add(path)
            case Arrived(_, count):
                self.arrived += count
            case Awaiting(others):
                self.waits.append(others)
        if self.stop_at is not None and self.fetching is not None and self.bytes >= self.stop_at:
            raise Stopped


@pytest.fixture
def diary(world: World, monkeypatch: pytest.MonkeyPatch) -> Diary:
    """What the fetches tell; one that is to be stopped must not be over at once."""
    made = Diary()
    monkeypatch.setattr("tests.node.fetch_world.Watcher", lambda: made)
    for source in world.sources.values():
        source.rate = 200_000.0
    return made


def stopped(world: World, diary: Diary, at: int) -> None:
    diary.stop_at = at
    with pytest.raises(Stopped):
        world.fetch()
    diary.stop_at = None


def summary_of(done: FetchSummary) -> str:
    return describe(done)[0]


def test_a_first_fetch_tells_all_that_there_is_to_do(world: World, diary: Diary) -> None:
    world.fetch()
    assert diary.fetching == Phase("fetching", SIZE, FILES)
    assert (diary.bytes, diary.files, diary.reused) == (SIZE, FILES, 0)
    assert diary.arrived >= SIZE * 0.9, "of the end it is told no more"
    assert b"big" in diary.paths
    assert any(path.startswith(b"pool/") for path in diary.paths)


@pytest.mark.parametrize("runs", [1, 2])
def test_an_interrupted_fetch_goes_on_where_it_was(world: World, diary: Diary, runs: int) -> None:
    for run in range(runs):
        stopped(world, diary, SIZE // (4 - run))
    world.fetch()
    phase = diary.fetching
    assert phase is not None
    assert (phase.total_bytes, phase.total_files) == (SIZE, FILES)
    assert phase.done_bytes > 0
    assert phase.done_files > 0
    assert phase.done_bytes + diary.bytes == SIZE
    assert phase.done_files + diary.files == FILES
    assert world.differs() == []


def test_an_interrupted_update_goes_on_where_it_was_too(world: World, diary: Diary) -> None:
    world.fetch()
    fresh = {b"%03d.deb" % n: content(f"new {n}", 2_000 + 900 * n) for n in range(100)}
    world.publisher.publish(changed(pool=fresh))
    size = sum(map(len, fresh.values()))
    stopped(world, diary, size // 2)
    assert diary.fetching is not None
    assert (diary.fetching.total_bytes, diary.fetching.done_bytes) == (size, 0)
    world.fetch()
    assert (diary.fetching.total_bytes, diary.fetching.total_files) == (size, 100)
    assert size // 4 < diary.fetching.done_bytes < size
    assert diary.fetching.done_bytes + diary.bytes == size
    world.publisher.publish(changed(pool=fresh, big=content("other", 400_000)))
    world.fetch()
    assert diary.fetching == Phase("fetching", 400_000, 1), "what was done is done"


def test_what_was_interrupted_and_then_removed_begins_anew(world: World, diary: Diary) -> None:
    stopped(world, diary, SIZE // 2)
    shutil.rmtree(world.dest)
    world.fetch()
    assert diary.fetching == Phase("fetching", SIZE, FILES)


def test_what_is_on_this_machine_is_done_and_no_download(world: World, diary: Diary) -> None:
    world.fetch()
    world.publisher.publish(changed(copy=BIG))
    done = world.fetch()
    assert diary.fetching == Phase("fetching", len(BIG), 1)
    assert (diary.bytes, diary.reused) == (len(BIG), len(BIG))
    assert done.changed == 1
    assert done.received < len(BIG) // 10


def test_who_waits_for_silent_sources_says_so(world: World, diary: Diary) -> None:
    for source in world.sources.values():
        source.silent_from = 1.0
    with pytest.raises(TransferTimeout):
        world.fetch(timeout=5.0)
    *before, last = diary.waits
    assert all(before[-10:]), "silence is a stall"
    assert not last, "nobody owes anything to a fetch that is over"


# The last words.


def test_the_first_fetch_made_everything(world: World) -> None:
    done = world.fetch()
    assert summary_of(done).startswith(f"snapshot 1: {FILES} files, ")
    assert f"changed {FILES} files; received " in summary_of(done)
    assert done.speedup == pytest.approx(SIZE / done.received)
    assert summary_of(done).endswith(f"speedup {SIZE / done.received:.2f}")


def test_where_nothing_was_to_do_nothing_changed_and_all_was_here(world: World) -> None:
    world.fetch()
    for check_dest in (True, False):
        done = world.fetch(check_dest=check_dest)
        assert (done.changed, done.touched, done.deleted, done.reused) == (0, 0, 0, SIZE)
        assert "; changed nothing; " in summary_of(done)
        assert done.speedup is None or done.speedup > 100


def test_another_mode_alone_is_a_change(world: World) -> None:
    world.fetch()
    (world.dest / "big").chmod(0o600)
    done = world.fetch()
    assert (done.changed, done.touched, done.reused) == (0, 1, SIZE)
    assert "; changed 1 name; " in summary_of(done)


def test_another_link_alone_is_a_change(world: World) -> None:
    world.fetch()
    world.publisher.publish(changed(link=Link(b"elsewhere")))
    done = world.fetch()
    assert done.changed == 0
    assert done.touched >= 1
    assert "nothing" not in summary_of(done)


def test_a_directory_alone_is_a_change(world: World) -> None:
    world.fetch()
    world.publisher.publish(changed(empty={}))
    assert world.fetch().touched >= 1


def test_what_could_not_be_had_is_no_success_and_no_speedup(world: World) -> None:
    entries = {path: entry for path, entry, _ in world.publisher.read(world.publisher.head)}
    digest = entries[b"/big"].digest
    for source in world.sources.values():
        source.lacks = digest.__eq__
    done = world.fetch()
    assert done.exit_code == 23
    assert done.speedup is None
    assert done.changed == FILES - 1
    first, *rest = describe(done)
    assert "speedup" not in first
    assert "NOT complete: 1 path could not be had; run again" in rest
    assert done.as_event() | {"missing": 1, "failed": 0, "speedup": None} == done.as_event()


def test_what_could_not_be_put_in_place_is_not_said_to_be_missing(world: World) -> None:
    (world.dest / "big" / "mine").mkdir(parents=True)
    done = world.fetch()
    assert done.exit_code == 23
    assert "NOT complete: 1 path could not be put in place; run again" in describe(done)
    assert (done.speedup, done.as_event()["failed"], done.as_event()["missing"]) == (None, 1, 0)


def test_an_empty_archive_is_fetched_without_dividing_by_nothing(world: World) -> None:
    world.publisher.publish({})
    done = world.fetch()
    assert (done.files, done.bytes, done.changed, done.exit_code) == (0, 0, 0, 0)
    assert summary_of(done).startswith("snapshot 2: 0 files, 0 B; changed ")


def test_what_was_there_before_is_reused_and_changed_by_nobody(world: World, tmp_path: Path) -> None:
    world.fetch()
    shutil.copytree(world.dest, tmp_path / "by rsync", symlinks=True)
    world.fresh_state()
    done = world.fetch(tmp_path / "by rsync")
    assert (done.changed, done.touched, done.reused) == (0, 0, SIZE)
    os.utime(tmp_path / "by rsync" / "big", (1, 1))
    done = world.fetch(tmp_path / "by rsync")
    assert (done.changed, done.reused) == (0, SIZE)
    assert done.touched == 1

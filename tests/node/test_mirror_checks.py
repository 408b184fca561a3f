"""Whom the node that publishes checks, and when; what it keeps of that, and what it says. The clock is set by
hand, and checks go as the test wants."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.node.publishing import write
from tests.node.simulator import identity

from p2psync.checks import CHECK_EVERY, FAILURES_MAX, RETRY_FIRST, Counts, Result, Verdict
from p2psync.daemon import mirror_checks
from p2psync.daemon.examine import Examined, Subject
from p2psync.daemon.mirror_checks import LOOK, PAUSE, SOON, TRIES_MAX, MirrorChecks
from p2psync.daemon.samples import Samples
from p2psync.format.coverage import Coverage
from p2psync.format.head import ArchiveHead
from p2psync.publish import publish
from p2psync.state import State
from p2psync.trust import Standing
from p2psync_dht import ROLE_HEADS, ROLE_MIRRORS, Delegation, Endpoint, HolderRecord, HolderRole, holders_key

START = 1_800_000_000
RIGHT = Result(Verdict.RIGHT, seq=1, asked=8, came=8, complete=True, rate=1e6)
WRONG = Result(Verdict.WRONG, "sent wrong bytes for a chunk of 'f'", seq=1)
SILENT = Examined(Result(Verdict.FAILED, "no answer"))


class Bench:
    """A machine that publishes, and mirrors that answer as a test wants."""

    def __init__(self, path: Path, state: State) -> None:
        self.state = state
        self.now = float(START)
        write(path / "tree" / "f", b"content")
        self.archive = publish(state, path / "tree", now=START - 86_400).archive
        self.warnings: list[str] = []
        self.details: list[str] = []
        self.checks = MirrorChecks(
            state,
            state.identity().public_key,
            warn=self.warnings.append,
            detail=self.details.append,
            clock=lambda: self.now,
        )
        self.answers: dict[bytes, Examined] = {}
        """By node key; anybody else is silent."""
        self.asked: list[tuple[float, Subject]] = []

    async def examine(
        self, subject: Subject, newest: ArchiveHead, samples: Samples, chance: random.Random
    ) -> Examined:
        assert newest.snapshot == samples.snapshot
        self.asked.append((self.now, subject))
        return self.answers.get(subject.key, SILENT)

    def nominate(
        self,
        name: str,
        ip: str = "192.0.2.1",
        role: HolderRole = HolderRole.MIRROR,
        *,
        result: Result = RIGHT,
    ) -> bytes:
        """A holder says that it is there; its key."""
        key = identity(name)
        record = HolderRecord.sign(
            key,
            holders_key(self.archive),
            endpoints=[Endpoint(ip, 8730)],
            issued=int(self.now),
            expires=int(self.now) + 86_400,
            role=role,
            payload=Coverage(True, 0, 1).encode(),
        )
        self.state.holders.keep(self.archive, record)
        self.answers[key.public_key] = Examined(result, f"{ip}:8730")
        return key.public_key

    async def run(self, seconds: float) -> None:
        """Let time pass, with a round whenever one is due."""
        until = self.now + seconds
        while self.now < until:
            self.now += min(await self.checks.round(), until - self.now)

    def listed(self, key: bytes) -> bool:
        track = self.state.checks.get(self.archive, key)
        return track is not None and track.listed

    def vouched(self) -> set[bytes]:
        return {
            HolderRecord.decode(raw).node_key for raw in self.state.holders.vouched(self.archive, self.now)
        }


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with State.open(tmp_path / "state") as state:
        made = Bench(tmp_path, state)
        monkeypatch.setattr(mirror_checks, "examine", made.examine)
        yield made


async def test_a_nomination_is_checked_at_once_and_then_each_hour(bench: Bench) -> None:
    key = bench.nominate("mirror")
    await bench.run(1)
    assert bench.listed(key)
    assert bench.state.nodes.standings(bench.state.holders.records(bench.archive, START), START) == {
        key: Standing.DELIVERED
    }
    assert bench.details == ["mirror 192.0.2.1:8730 was checked, and is listed"]
    await bench.run(10 * CHECK_EVERY)
    assert 10 <= len(bench.asked) <= 13
    assert not bench.warnings


async def test_what_has_been_found_survives_a_restart(bench: Bench) -> None:
    bench.nominate("mirror")
    await bench.run(SOON + PAUSE)
    checked = len(bench.asked)
    bench.checks = MirrorChecks(bench.state, b"own key", warn=print, detail=print, clock=lambda: bench.now)
    await bench.run(CHECK_EVERY / 2)
    assert len(bench.asked) == checked


async def test_a_mirror_that_dies_is_off_the_list_within_minutes_of_a_check_and_back_when_it_answers(
    bench: Bench,
) -> None:
    key = bench.nominate("mirror")
    await bench.run(60)
    alive = bench.answers.pop(key)
    failed = len(bench.asked)
    while len(bench.asked) == failed:
        await bench.run(PAUSE)
    died = bench.now
    while bench.listed(key):
        await bench.run(PAUSE)
    assert bench.now - died < 10 * RETRY_FIRST
    (warning,) = bench.warnings
    assert warning == (
        f"mirror 192.0.2.1:8730 is off the list: it failed {FAILURES_MAX} checks, at last: no answer"
    )
    bench.answers[key] = alive
    await bench.run(CHECK_EVERY * 1.2)
    assert bench.listed(key)


async def test_one_that_says_that_it_is_back_is_checked_within_seconds(bench: Bench) -> None:
    key = bench.nominate("mirror")
    await bench.run(60)
    bench.answers.clear()
    await bench.run(4 * CHECK_EVERY)
    assert not bench.listed(key)
    bench.nominate("mirror")
    await bench.run(SOON + PAUSE)
    assert bench.listed(key)


async def test_a_liar_is_dropped_once_with_the_reason_and_told_to_nobody(bench: Bench) -> None:
    honest = bench.nominate("honest")
    liar = bench.nominate("liar", "192.0.2.2", result=WRONG)
    await bench.run(2 * CHECK_EVERY)
    assert bench.listed(honest) and not bench.listed(liar)
    assert bench.vouched() == {honest}
    (warning,) = bench.warnings
    assert warning.startswith("mirror 192.0.2.2:8730 is dropped: it sent wrong bytes for a chunk of 'f'; ")


async def test_a_liar_is_not_checked_more_often_for_saying_something_new_each_minute(bench: Bench) -> None:
    bench.nominate("liar", result=WRONG)
    for _ in range(120):
        await bench.run(60)
        bench.nominate("liar", result=WRONG)
    assert len(bench.asked) <= 3


async def test_nobody_is_checked_all_the_time_however_often_he_nominates_himself(bench: Bench) -> None:
    for _ in range(300):
        bench.nominate("eager")
        await bench.run(1)
    assert len(bench.asked) <= 300 / SOON + 1


async def test_who_shares_only_while_he_fetches_is_not_checked_nor_is_this_node_itself(bench: Bench) -> None:
    bench.nominate("peer", role=HolderRole.PEER)
    own = bench.state.identity()
    record = HolderRecord.sign(
        own,
        holders_key(bench.archive),
        endpoints=[Endpoint("192.0.2.9", 8730)],
        issued=START,
        expires=START + 86_400,
        role=HolderRole.ORIGIN,
    )
    bench.state.holders.keep_own(bench.archive, record, START)
    await bench.run(60)
    assert bench.asked == []


async def test_another_origin_is_checked_too(bench: Bench) -> None:
    key = bench.nominate("second origin", role=HolderRole.ORIGIN)
    await bench.run(1)
    assert bench.listed(key)


async def test_names_that_are_made_up_take_no_place_and_are_tried_ever_more_seldom(bench: Bench) -> None:
    made_up = bench.nominate("made up", "198.51.100.1")
    bench.answers.clear()
    await bench.run(6 * CHECK_EVERY)
    assert bench.state.checks.get(bench.archive, made_up) is None
    assert len(bench.asked) <= 14
    assert bench.warnings == []


async def test_where_another_node_answers_the_record_is_forgotten(bench: Bench) -> None:
    key = bench.nominate("mirror")
    await bench.run(1)
    bench.answers[key] = Examined(Result(Verdict.OTHER, "another node answers at 192.0.2.1:8730"))
    await bench.run(CHECK_EVERY * 1.2)
    assert bench.state.holders.of_node(bench.archive, key) is None


async def test_what_is_not_published_here_is_not_checked(bench: Bench) -> None:
    (tree,) = bench.state.trees.by_archive(bench.archive)
    tree.role = "mirror"
    bench.state.trees.update(tree)
    bench.nominate("mirror")
    assert await bench.checks.round() == LOOK
    assert bench.asked == []


async def test_a_mirror_that_was_delegated_the_role_checks_the_others(bench: Bench) -> None:
    (tree,) = bench.state.trees.by_archive(bench.archive)
    tree.role = "mirror"
    bench.state.trees.update(tree)
    root = bench.state.keys.root(bench.archive)
    assert root is not None
    key = bench.nominate("mirror")
    signer = bench.state.keys.create_signing(bench.archive)
    for roles, checked in ((ROLE_HEADS, False), (ROLE_MIRRORS, True)):
        term = {"not_before": START, "not_after": START + 86_400}
        bench.state.keys.add_delegation(
            Delegation.sign(root, signer.public_key, epoch=0, roles=roles, **term)
        )
        await bench.run(2 * PAUSE)
        assert bench.listed(key) is checked


async def test_tries_of_strangers_are_remembered_within_bounds(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert TRIES_MAX >= 256
    monkeypatch.setattr(mirror_checks, "TRIES_MAX", 2)
    for number in range(4):
        bench.nominate(f"made up {number}", f"198.51.100.{number}")
    bench.answers.clear()
    await bench.run(PAUSE)
    first = len(bench.asked)
    await bench.run(PAUSE)
    assert len(bench.asked) == first + 2  # Two were forgotten, and are tried again.


async def test_a_new_snapshot_is_what_is_checked_from_then_on(bench: Bench, tmp_path: Path) -> None:
    key = bench.nominate("mirror")
    await bench.run(1)
    write(tmp_path / "tree" / "g", b"another")
    publish(bench.state, tmp_path / "tree", now=START)
    await bench.run(CHECK_EVERY * 1.2)
    assert bench.listed(key)
    assert len(bench.asked) >= 2


async def test_a_mirror_is_not_blamed_for_listings_that_are_not_here_nor_looked_at_all_the_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = bench.nominate("mirror")
    await bench.run(60)
    tries: list[float] = []
    monkeypatch.setattr(mirror_checks, "draw", lambda *_: tries.append(bench.now))
    bench.now += 2 * CHECK_EVERY
    await bench.run(CHECK_EVERY)
    assert bench.listed(key)
    assert 1 < len(tries) <= CHECK_EVERY / LOOK + 1


WEB = "https://mirror.example.org/pub/"


async def test_a_web_server_is_checked_for_each_archive_and_said_once_to_have_none(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [Result(Verdict.FAILED, "has nothing of it")]

    async def examined(url: str, *_: object) -> Result:
        assert url == WEB
        return results[-1]

    monkeypatch.setattr(mirror_checks, "examine_web", examined)
    bench.checks = MirrorChecks(
        bench.state,
        b"own key",
        warn=bench.warnings.append,
        detail=bench.details.append,
        web=[WEB],
        clock=lambda: bench.now,
    )
    await bench.run(CHECK_EVERY)
    assert bench.warnings == [f"{WEB} is not recommended as a mirror: has nothing of it"]
    assert bench.state.checks.of_archive(bench.archive) == {}
    results.append(RIGHT)
    await bench.run(CHECK_EVERY)
    (track,) = bench.state.checks.of_archive(bench.archive).values()
    assert (track.role, track.places, track.listed) == ("web", (WEB,), True)
    assert bench.details == [f"web {WEB} was checked, and is listed"]
    results.append(Result(Verdict.FAILED, "silent"))
    await bench.run(2 * CHECK_EVERY)
    assert "is off the list" in bench.warnings[-1]


async def test_how_mirrors_stand_is_counted_for_whoever_watches(bench: Bench) -> None:
    bench.nominate("honest")
    bench.nominate("liar", "192.0.2.2", result=WRONG)
    bench.nominate("empty", "192.0.2.3", result=Result(Verdict.EMPTY, "has nothing yet"))
    await bench.run(2 * PAUSE)
    assert bench.checks.counts == {bench.archive: Counts(listed=1, failing=1, dropped=1)}

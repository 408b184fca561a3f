"""What a node announces of its state directory, when, and to whom; and what it never does."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.node.announce_bench import START, Bench, Told, announcing
from tests.node.simulator import Publisher, identity

from p2psync.daemon import place
from p2psync.daemon.announce import HEAD_ROUND, LIFETIME, RENEW, RETRY
from p2psync.daemon.gossip import TOLD_MAX
from p2psync.daemon.losses import Loss
from p2psync.format.coverage import Coverage
from p2psync.format.head import ArchiveHead
from p2psync.network.over_dht import SWEEP_FROM
from p2psync.state.heads import ENDED_HERE, ENDED_TOLD
from p2psync_dht import Endpoint, HolderRecord, HolderRole, holders_key


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    yield from announcing(tmp_path, monkeypatch)


async def test_what_is_published_is_announced(bench: Bench) -> None:
    head = bench.publish()
    bench.tree("publish", head)
    pause = await bench.announcer.round()
    assert bench.dht.heads == [head.raw]
    assert bench.said == [(HolderRole.ORIGIN, Coverage(True, 0, 1))]
    (record,) = (HolderRecord.decode(raw) for raw in bench.dht.holders)
    assert list(record.endpoints) == [Endpoint("192.0.2.7", 8730)]
    assert record.expires == START + LIFETIME
    assert record.node_key == bench.identity.public_key
    assert 0.9 * HEAD_ROUND <= pause <= 1.1 * HEAD_ROUND


async def test_what_was_merely_fetched_is_nobodys_business(bench: Bench) -> None:
    bench.tree("fetch", bench.publish())
    assert await bench.announcer.round() > HEAD_ROUND
    assert bench.dht.heads == bench.dht.holders == []
    assert not Told.log


async def test_a_mirror_announces_without_the_private_key(bench: Bench) -> None:
    head = bench.publish()
    bench.tree("mirror", head)
    await bench.announcer.round()
    assert bench.dht.heads == [head.raw]
    assert bench.said == [(HolderRole.MIRROR, Coverage(True, 0, 1))]


async def test_a_tree_that_has_lost_files_says_that_it_is_not_complete_until_it_has_them_again(
    bench: Bench,
) -> None:
    head = bench.publish()
    tree = bench.tree("publish", head)
    await bench.announcer.round()
    bench.losses[tree.id] = Loss(files=1)
    await bench.announcer.round()
    bench.losses.clear()
    await bench.announcer.round()
    assert [coverage.complete for _, coverage in bench.said] == [True, False, True]
    assert {coverage.seq for _, coverage in bench.said} == {1}


async def test_a_tree_that_is_not_there_is_not_announced(bench: Bench) -> None:
    bench.losses[bench.tree("mirror", bench.publish()).id] = Loss(gone=True)
    await bench.announcer.round()
    assert bench.said == []


async def test_a_mirror_that_is_being_made_says_that_it_is_not_complete(bench: Bench) -> None:
    head = bench.publish()
    bench.tree("mirror")
    await bench.announcer.round()
    bench.tree("mirror", head)
    await bench.announcer.round()
    assert bench.said == [
        (HolderRole.MIRROR, Coverage(False, 0, 0)),
        (HolderRole.MIRROR, Coverage(True, 0, 1)),
    ]


async def test_nothing_is_said_twice_before_its_time(bench: Bench) -> None:
    bench.tree("publish", bench.publish())
    await bench.announcer.round()
    bench.clock.now += 0.8 * HEAD_ROUND
    await bench.announcer.round()
    assert (len(bench.dht.heads), len(bench.dht.holders)) == (1, 1)


async def test_records_are_renewed_well_before_they_expire(bench: Bench) -> None:
    bench.tree("publish", bench.publish())
    for _ in range(60):
        bench.clock.now += min(await bench.announcer.round(), 3600)
    records = [HolderRecord.decode(raw) for raw in bench.dht.holders]
    gaps = [later.issued - sooner.issued for sooner, later in itertools.pairwise(records)]
    assert len(records) >= 4
    assert max(gaps) <= RENEW + 3600 < LIFETIME / 2 + 3600
    assert len(bench.dht.heads) >= 30


async def test_a_new_snapshot_is_announced_at_once(bench: Bench) -> None:
    bench.tree("publish", bench.publish())
    await bench.announcer.round()
    newer = bench.publish()
    bench.tree("publish", newer)
    await bench.announcer.round()
    assert bench.dht.heads[-1] == newer.raw
    assert bench.said[-1] == (HolderRole.ORIGIN, Coverage(True, 0, 2))


async def test_a_publisher_whose_old_state_was_put_back_hears_of_it(bench: Bench) -> None:
    bench.tree("publish", bench.publish())
    bench.dht.newest[bench.publisher.archive] = bench.publisher.publish({b"f": b"newer"}).raw
    await bench.announcer.round()
    (said,) = (text for text in bench.warnings if "others have snapshot 2" in text)
    assert "here it is 1" in said and "publish it again" in said


async def test_a_mirror_that_hears_of_a_newer_head_has_nothing_to_warn_of(bench: Bench) -> None:
    bench.tree("mirror", bench.publish())
    bench.dht.newest[bench.publisher.archive] = bench.publisher.publish({b"f": b"newer"}).raw
    await bench.announcer.round()
    assert not [text for text in bench.warnings if "others have" in text]


async def test_a_newer_head_in_the_dht_is_adopted_and_not_fought(bench: Bench) -> None:
    ours = bench.publish()
    newer = bench.publisher.publish({b"f": b"newer"})
    bench.dht.newest[bench.publisher.archive] = newer.raw
    bench.tree("mirror", ours)
    pause = await bench.announcer.round()
    assert bench.dht.heads == []
    adopted = bench.state.heads.newest(bench.publisher.archive)
    assert adopted is not None
    assert adopted.raw == newer.raw
    assert pause <= RETRY
    await bench.announcer.round()
    assert bench.dht.heads == [newer.raw]


async def test_a_head_from_the_future_is_neither_adopted_nor_respected(bench: Bench) -> None:
    ours = bench.publish()
    bench.publisher.now += 30 * 86400
    bench.dht.newest[bench.publisher.archive] = bench.publisher.publish({b"f": b"later"}).raw
    bench.tree("publish", ours)
    await bench.announcer.round()
    assert bench.state.heads.newest(bench.publisher.archive) == ours
    assert bench.dht.heads == [ours.raw]


@pytest.mark.parametrize("copies", [0, 1])
async def test_what_nobody_else_took_is_announced_again_soon(bench: Bench, copies: int) -> None:
    """The network is down: contacts are known, and none of them answers."""
    bench.tree("publish", bench.publish())
    bench.dht.copies = copies
    pauses = [await bench.announcer.round()]
    for _ in range(3):
        bench.clock.now += pauses[-1]
        pauses.append(await bench.announcer.round())
    assert pauses[0] <= RETRY
    assert pauses == sorted(pauses)
    bench.dht.copies = 20
    bench.clock.now += pauses[-1]
    assert await bench.announcer.round() > 0.8 * HEAD_ROUND
    assert (len(bench.dht.heads), len(bench.dht.holders)) == (5, 5)


async def test_without_an_address_only_the_head_is_announced(bench: Bench) -> None:
    bench.tree("publish", bench.publish())
    bench.dht.observed = None
    assert await bench.announcer.round() <= RETRY
    assert (len(bench.dht.heads), bench.dht.holders) == (1, [])
    bench.dht.observed = ("192.0.2.9", 1)
    bench.clock.now += RETRY
    await bench.announcer.round()
    assert HolderRecord.decode(bench.dht.holders[0]).endpoints[0] == Endpoint("192.0.2.9", 8730)


@pytest.mark.parametrize(
    ("listen", "advertise", "expected"),
    [
        (("127.0.0.1", 9000), None, Endpoint("127.0.0.1", 9000)),
        (("0.0.0.0", 9000), ("198.51.100.4", 80), Endpoint("198.51.100.4", 80)),
        (("0.0.0.0", 9000), ("localhost", 80), Endpoint("127.0.0.1", 80)),
        (("::", 9000), None, Endpoint("192.0.2.7", 9000)),
    ],
)
async def test_where_others_reach_us(
    bench: Bench, listen: tuple[str, int], advertise: tuple[str, int] | None, expected: Endpoint
) -> None:
    bench.tree("publish", bench.publish())
    await bench.build(listen, advertise).round()
    endpoint = HolderRecord.decode(bench.dht.holders[0]).endpoints[0]
    assert endpoint in (expected, Endpoint("::1", expected.port))


@pytest.mark.parametrize(
    ("listen", "observed", "own", "expected"),
    [
        ("::", {4: "192.0.2.7", 6: "2001:db8::7"}, {}, ["192.0.2.7", "2001:db8::7"]),
        ("::", {4: "192.0.2.7"}, {6: "2001:db8::9"}, ["192.0.2.7", "2001:db8::9"]),
        ("::", {4: "192.0.2.7"}, {4: "192.168.1.2", 6: "fe80::9"}, ["192.0.2.7"]),
        ("::", {4: "192.168.1.7"}, {6: "2001:db8::9"}, ["192.168.1.7"]),
        ("::", {}, {4: "192.0.2.8", 6: "2001:db8::8"}, ["192.0.2.8", "2001:db8::8"]),
        ("::", {6: "2001:db8::7"}, {}, ["2001:db8::7"]),
        ("0.0.0.0", {4: "192.0.2.7", 6: "2001:db8::7"}, {6: "2001:db8::7"}, ["192.0.2.7"]),
        ("127.0.0.1", {4: "192.0.2.7", 6: "2001:db8::7"}, {}, ["127.0.0.1"]),
    ],
)
async def test_a_record_names_an_address_of_each_family(
    monkeypatch: pytest.MonkeyPatch,
    listen: str,
    observed: dict[int, str],
    own: dict[int, str],
    expected: list[str],
) -> None:
    numbers = {socket.AF_INET: 4, socket.AF_INET6: 6}
    monkeypatch.setattr(place, "own_address", lambda family: own.get(numbers[family]))
    made = place.Place(lambda family: observed.get(numbers[family]), (listen, 9), None)
    assert await made.endpoints() == [Endpoint(ip, 9) for ip in expected]


async def test_an_address_that_becomes_known_later_is_announced_soon(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {socket.AF_INET: "192.168.1.2", socket.AF_INET6: "2001:db8::8"}
    monkeypatch.setattr(place, "own_address", own.get)
    bench.tree("publish", bench.publish())
    bench.dht.observed = None
    announcer = bench.build(("::", 8730))
    pauses = []
    for _ in range(3):
        pauses.append(await announcer.round())
        bench.clock.now += pauses[-1]
    assert pauses[0] < pauses[1] < pauses[2] <= RETRY * 8
    bench.dht.observed = ("192.0.2.9", 1)
    await announcer.round()
    places = [[place.ip for place in HolderRecord.decode(raw).endpoints] for raw in bench.dht.holders]
    assert places == [["2001:db8::8"]] * 3 + [["192.0.2.9", "2001:db8::8"]]


async def test_holders_are_told_and_asked(bench: Bench) -> None:
    head = bench.publish()
    bench.tree("publish", head)
    for number in range(3):
        bench.knows(bench.holder(f"peer {number}", f"203.0.113.{number}"))
    third = bench.holder("somebody they know", "203.0.113.99")
    Told.lists.append(third.raw)
    await bench.announcer.round()
    told = [(address, what) for address, what, _ in Told.log if what != "closed"]
    assert sorted(told)[0] == ("203.0.113.0:8730", "head")
    # Those who were known, and the one whom they named.
    assert sum(what == "head" for _, what in told) == 4
    assert sum(what == "holder" for _, what in told) == 4
    assert sum(what == "closed" for _, what, _ in Told.log) == len(told)
    assert third.raw in bench.state.holders.for_archive(bench.publisher.archive, START)


def with_our_key(bench: Bench, ip: str, issued: int, role: HolderRole = HolderRole.MIRROR) -> HolderRecord:
    return HolderRecord.sign(
        bench.identity,
        holders_key(bench.publisher.archive),
        endpoints=[Endpoint(ip, 8730)],
        issued=issued,
        expires=issued + 3600,
        role=role,
        payload=Coverage(True, 0, 1).encode(),
    )


@pytest.mark.parametrize(
    ("ip", "issued", "role", "foreign"),
    [
        ("203.0.113.5", START + 50, HolderRole.MIRROR, True),  # A clone that announced itself since.
        ("192.0.2.7", START + 400, HolderRole.MIRROR, True),  # A thief who stays ahead of us.
        ("203.0.113.5", START - 50, HolderRole.MIRROR, False),  # We were there ourselves before we started.
        ("192.0.2.7", START + 50, HolderRole.MIRROR, False),
        ("203.0.113.5", START + 50, HolderRole.PEER, False),  # A fetch on this state directory.
    ],
)
async def test_a_stolen_node_key_or_a_clone_of_the_machine_is_noticed(
    bench: Bench, ip: str, issued: int, role: HolderRole, foreign: bool
) -> None:
    bench.tree("mirror", bench.publish())
    await bench.announcer.round()
    assert bench.warnings == []
    bench.dht.records[holders_key(bench.publisher.archive)] = [with_our_key(bench, ip, issued, role)]
    for _ in range(2):
        bench.clock.now += 100
        bench.tree("mirror", bench.publish())
        await bench.announcer.round()
    told = [text for text in bench.warnings if f"announces this node at {ip}:8730, with its key" in text]
    assert len(told) == foreign, "once, however often it is seen"


async def test_few_are_told_and_those_who_refuse_do_not_matter(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Told, "refuses", True)
    bench.tree("publish", bench.publish())
    for number in range(3 * TOLD_MAX):
        bench.knows(bench.holder(f"peer {number}", f"203.0.113.{number}"))
    await bench.announcer.round()
    assert bench.dht.heads
    assert bench.dht.holders
    closed = [address for address, what, _ in Told.log if what == "closed"]
    assert len(closed) <= 2 * TOLD_MAX


async def test_lists_of_others_are_checked(bench: Bench) -> None:
    bench.tree("publish", bench.publish())
    bench.knows(bench.holder("peer", "203.0.113.1"))
    good = bench.holder("good", "203.0.113.2")
    foreign = HolderRecord.sign(
        identity("x"),
        holders_key(b"another archive".ljust(32)),
        endpoints=[Endpoint("203.0.113.3", 1)],
        issued=START,
        expires=START + 100,
        role=HolderRole.MIRROR,
        payload=b"",
    )
    expired = bench.holder("expired", "203.0.113.4", expires=START - 1)
    Told.lists += [b"", b"nonsense", good.raw[:-1] + b"\0", foreign.raw, expired.raw, good.raw]
    await bench.announcer.round()
    kept = bench.state.holders.for_archive(bench.publisher.archive, START)
    assert good.raw in kept
    assert not {foreign.raw, expired.raw, good.raw[:-1] + b"\0"} & set(kept)


async def test_a_large_swarm_shares_the_refreshing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With many holders, each refreshes a head now and then only."""
    bench.tree("mirror", bench.publish())

    async def dealt_with(_: bytes) -> int:
        return 200

    monkeypatch.setattr(bench.announcer._gossip, "dealt_with", dealt_with)
    monkeypatch.setattr(bench.announcer, "_random", random.Random(1))
    for _ in range(100):
        bench.clock.now += await bench.announcer.round()
    assert 1 <= len(bench.dht.heads) < 30


@pytest.mark.parametrize(("count", "sweeps"), [(SWEEP_FROM - 1, 0), (SWEEP_FROM, 1)])
async def test_many_archives_are_announced_in_one_sweep(bench: Bench, count: int, sweeps: int) -> None:
    for number in range(count):
        publisher = Publisher(name=f"publisher {number}", now=START)
        head = publisher.publish({b"f": b"1"})
        bench.state.heads.put(head, "test")
        tree = bench.state.trees.ensure(bytes(bench.folder / str(number)), "publish", publisher.archive)
        tree.epoch, tree.seq, tree.snapshot = head.epoch, head.seq, head.snapshot
        bench.state.trees.update(tree)
    await bench.announcer.round()
    assert (bench.dht.sweeps, len(bench.dht.holders)) == (sweeps, count)


async def test_an_archive_with_nothing_to_announce_is_no_work(bench: Bench) -> None:
    bench.tree("publish")
    assert await bench.announcer.round() > HEAD_ROUND
    assert bench.dht.heads == bench.dht.holders == []


async def test_whoever_writes_to_the_state_directory_meanwhile_is_waited_for_off_the_loop(
    bench: Bench,
) -> None:
    """Otherwise the node would answer nobody for a minute, and here never hear that the writer is done."""
    bench.tree("publish", bench.publish())
    writer = sqlite3.connect(bench.state.path / "index.sqlite", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    asyncio.get_running_loop().call_later(0.1, writer.execute, "ROLLBACK")
    await bench.announcer.round()
    assert len(bench.dht.holders) == 1
    assert not writer.in_transaction
    writer.close()


# What was ended here.


def ended(bench: Bench) -> ArchiveHead:
    if not bench.publisher.heads:
        bench.publish()
    head = bench.publisher.end()
    bench.state.heads.put(head, ENDED_HERE)
    return head


async def test_the_end_of_an_archive_is_announced_and_handed_to_its_holders_and_no_holder_record_is(
    bench: Bench,
) -> None:
    tree = bench.tree("publish", bench.publish())
    await bench.announcer.round()
    bench.knows(bench.holder("mirror", "203.0.113.1"))
    head = ended(bench)
    tree.role = "fetch"
    bench.state.trees.update(tree)
    await bench.announcer.round()
    assert bench.dht.heads[-1] == head.raw
    assert ("203.0.113.1:8730", "head", head.raw) in Told.log
    assert HolderRecord.decode(bench.dht.holders[-1]).withdrawn


async def test_the_end_is_kept_in_the_dht_for_a_month_and_then_nobody_is_told(bench: Bench) -> None:
    head = ended(bench)
    until = START + ENDED_TOLD
    while bench.clock.time() < until:
        bench.clock.now += min(await bench.announcer.round(), 86400)
    told = bench.dht.heads.count(head.raw)
    assert told > ENDED_TOLD / HEAD_ROUND / 2
    pause = await bench.announcer.round()
    assert bench.dht.heads.count(head.raw) == told
    assert pause > HEAD_ROUND  # nothing is due, at whatever time it was
    await bench.announcer.round()
    assert bench.dht.heads.count(head.raw) == told


async def test_an_end_that_was_taken_back_elsewhere_is_not_fought(bench: Bench) -> None:
    end = ended(bench)
    newer = bench.publisher.publish({b"f": b"again"})
    bench.dht.newest[bench.publisher.archive] = newer.raw
    await bench.announcer.round()
    await bench.announcer.round()
    assert end.raw not in bench.dht.heads
    assert bench.state.heads.newest(bench.publisher.archive) == newer


async def test_an_end_that_was_only_heard_of_is_its_holders_to_announce(bench: Bench) -> None:
    """Whoever has looked at an archive does not announce it."""
    bench.publish()
    bench.state.heads.put(bench.publisher.end(), "DHT")
    await bench.announcer.round()
    assert bench.dht.heads == []


async def test_a_mirror_goes_on_announcing_itself_and_the_head_that_ended_it(bench: Bench) -> None:
    bench.publish()
    head = bench.publisher.end()
    bench.state.heads.put(head, "handed on")
    bench.tree("mirror", head)
    await bench.announcer.round()
    assert bench.dht.heads == [head.raw]
    assert bench.said == [(HolderRole.MIRROR, Coverage(True, 0, 2))]


async def test_a_publisher_hears_that_it_was_ended_elsewhere(bench: Bench) -> None:
    bench.tree("publish", bench.publish())
    bench.dht.newest[bench.publisher.archive] = bench.publisher.end().raw
    await bench.announcer.round()
    (said,) = (text for text in bench.warnings if "was ended" in text)
    assert "publish it again" in said and "p2psync unpublish" in said


async def test_an_archive_that_is_gone_is_no_work_for_ever(bench: Bench) -> None:
    tree = bench.tree("publish", bench.publish())
    await bench.announcer.round()
    bench.state.trees.remove(tree)
    bench.clock.now += 2 * RENEW
    assert await bench.announcer.round() > HEAD_ROUND


async def test_fakes_do_not_keep_a_holder_from_refreshing_the_head(bench: Bench) -> None:
    """Who knows many others leaves it to them; how many are said to be there does not count."""
    bench.tree("mirror", bench.publish())
    key = holders_key(bench.publisher.archive)
    bench.dht.records[key] = [
        bench.holder(f"fake {n}", f"{n}.0.0.1", expires=START + 80_000) for n in range(11, 220)
    ]
    Told.keys.clear()  # Nobody of that name is there.
    for _ in range(20):
        bench.clock.now += HEAD_ROUND * 1.1
        await bench.announcer.round()
    assert len(bench.dht.heads) == 20

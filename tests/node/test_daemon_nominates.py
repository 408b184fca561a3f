"""A mirror makes itself known to those it was given by hand, and to whom they name: then none of them needs
their origin."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.node.announce_bench import START, Bench, Told, announcing, local_to

from p2psync.daemon import gossip
from p2psync.daemon.gossip import BUSY_TRIES, NAMED_MAX, STRANGERS, TOLD_MAX
from p2psync.daemon.reached import UNREACHED_MIN
from p2psync.format.coverage import Coverage
from p2psync.format.head import ArchiveHead
from p2psync.format.url import ArchiveUrl
from p2psync.sources.source import Busy, Unreachable
from p2psync_dht import Endpoint, HolderRecord, holders_key

GIVEN = "203.0.113.1:8730"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    yield from announcing(tmp_path, monkeypatch)


def mirror(bench: Bench, *peers: str, sources: tuple[str, ...] = (), head: ArchiveHead | None = None) -> None:
    """A mirror that was given peers in its URL, and sources."""
    bench.tree("mirror", head)
    (tree,) = bench.state.trees.by_archive(bench.publisher.archive)
    tree.source = str(ArchiveUrl(bench.publisher.archive, b"", peers))
    tree.options["sources"] = list(sources)
    bench.state.trees.update(tree)


def nominations() -> list[tuple[str, HolderRecord]]:
    return [(address, HolderRecord.decode(raw)) for address, what, raw in Told.log if what == "holder"]


@pytest.mark.parametrize("how", ["peer", "source"])
async def test_who_was_given_by_hand_hears_of_a_mirror_that_begins(bench: Bench, how: str) -> None:
    if how == "peer":
        mirror(bench, GIVEN)
    else:
        mirror(bench, sources=("http://203.0.113.9/", GIVEN))
    await bench.announcer.round()
    ((address, record),) = nominations()
    assert address == GIVEN
    assert Coverage.decode(record.payload) == Coverage(False, 0, 0)


async def test_whom_the_given_one_names_is_told_in_the_same_breath(bench: Bench) -> None:
    named = bench.holder("named", "203.0.113.2")
    Told.lists.append(named.raw)
    mirror(bench, GIVEN)
    await bench.announcer.nominate(bench.publisher.archive)
    assert [address for address, _ in nominations()] == [GIVEN, "203.0.113.2:8730"]
    assert named.raw in bench.state.holders.for_archive(bench.publisher.archive, START)


async def test_a_list_of_many_does_not_have_us_tell_them_all(bench: Bench) -> None:
    Told.lists += [bench.holder(f"{n}", f"{n}.51.100.1").raw for n in range(11, 70)]
    mirror(bench, GIVEN)
    await bench.announcer.nominate(bench.publisher.archive)
    assert len(nominations()) == TOLD_MAX


async def test_of_a_list_no_more_are_told_than_leaves_room_for_others(bench: Bench) -> None:
    """Each of those who are named by the first lists nobody."""

    async def lists_many(self: Told, archive: bytes) -> list[bytes]:
        return named if self.address == GIVEN else []

    named = [bench.holder(f"{n}", f"{n}.51.100.1").raw for n in range(11, 70)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Told, "holders", lists_many)
        mirror(bench, GIVEN)
        await bench.announcer.nominate(bench.publisher.archive)
    assert len(nominations()) == 1 + NAMED_MAX


async def test_fakes_in_a_list_of_an_honest_one_do_not_keep_us_from_who_is_new(bench: Bench) -> None:
    """99 % fakes, of one provider; and many that this node knows."""
    for number in range(40):
        bench.knows(bench.holder(f"known {number}", f"{number + 100}.0.0.1"))
    new = bench.holder("new", "203.0.113.77")
    bench.tree("mirror", bench.publish())
    key = holders_key(bench.publisher.archive)
    bench.dht.records[key] = [new, *(bench.holder(f"fake {n}", f"8.8.{n}.8") for n in range(100))]
    await bench.announcer.round()
    assert "203.0.113.77:8730" in [address for address, _ in nominations()]
    assert sum(address.startswith("8.8.") for address, _ in nominations()) < STRANGERS


async def test_nothing_but_who_is_there_is_asked_at_an_address_that_is_anothers(bench: Bench) -> None:
    victim = bench.holder("victim", "203.0.113.1")
    liar = bench.holder("liar", "203.0.113.1")
    bench.knows(liar)
    bench.tree("mirror", bench.publish())
    await bench.announcer.round()
    assert [what for _, what, _ in Told.log] == ["closed"] * len(Told.log)
    assert bench.state.holders.of_node(bench.publisher.archive, liar.node_key) is None
    assert victim.node_key != liar.node_key


async def test_a_list_from_far_away_names_nobody_inside_our_network(bench: Bench) -> None:
    inside = [bench.holder(f"at {ip}", ip) for ip in ("192.168.1.9", "127.0.0.1", "fd00::1", "10.0.0.1")]
    Told.lists += [record.raw for record in inside]
    mirror(bench, GIVEN)
    await bench.announcer.nominate(bench.publisher.archive)
    assert [address for address, _ in nominations()] == [GIVEN]
    assert bench.state.holders.of_node(bench.publisher.archive, inside[0].node_key) is None


async def test_a_peer_given_by_name_and_known_by_address_is_told_once(bench: Bench) -> None:
    bench.knows(bench.holder("it", "127.0.0.1"))
    mirror(bench, "localhost:8730", "no-such-name.invalid:8730")
    await bench.announcer.nominate(bench.publisher.archive)
    assert [address for address, _ in nominations()] == ["127.0.0.1:8730"]


async def test_what_was_said_is_not_said_again(bench: Bench) -> None:
    mirror(bench, GIVEN, head=bench.publish())
    await bench.announcer.round()
    await bench.announcer.nominate(bench.publisher.archive)
    await bench.announcer.nominate(b"another archive".ljust(32))
    assert len(nominations()) == len(bench.dht.holders) == 1


async def test_a_mirror_that_is_complete_within_the_second_replaces_what_it_said(bench: Bench) -> None:
    """Of two records of one second, stores keep the first."""
    mirror(bench, GIVEN)
    await bench.announcer.round()
    mirror(bench, GIVEN, head=bench.publish())
    await bench.announcer.nominate(bench.publisher.archive)
    (_, sooner), (_, later) = nominations()
    assert sooner.issued < later.issued
    assert Coverage.decode(later.payload) == Coverage(True, 0, 1)
    assert bench.dht.holders == [sooner.raw, later.raw]


@pytest.mark.parametrize(("busy", "taken"), [(BUSY_TRIES - 1, 1), (BUSY_TRIES, 0)])
async def test_a_node_that_checks_another_of_our_address_is_asked_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, busy: int, taken: int
) -> None:
    """Two mirrors behind one NAT that begin together."""
    monkeypatch.setattr(gossip, "BUSY_PAUSE", 0.0)
    takes = Told.nominate
    asked = 0

    async def nominate(self: Told, archive: bytes, raw: bytes) -> None:
        nonlocal asked
        asked += 1
        if asked <= busy:
            raise Busy("later")
        await takes(self, archive, raw)

    monkeypatch.setattr(Told, "nominate", nominate)
    named = bench.holder("named", "203.0.113.2")
    Told.lists.append(named.raw)
    monkeypatch.setattr(gossip, "TOLD_MAX", 1)
    mirror(bench, GIVEN)
    await bench.announcer.nominate(bench.publisher.archive)
    assert len(nominations()) == taken
    # Its list is worth having either way.
    assert named.raw in bench.state.holders.for_archive(bench.publisher.archive, START)


@pytest.mark.parametrize(
    ("local", "given", "endpoint"),
    [
        ("192.168.1.2", "192.168.1.3:8730", Endpoint("192.168.1.2", 8730)),
        ("127.0.0.1", "127.0.0.1:1", Endpoint("127.0.0.1", 8730)),
        ("198.51.100.7", GIVEN, Endpoint("198.51.100.7", 8730)),
        ("192.168.1.2", GIVEN, None),  # a NAT between us
        (None, GIVEN, None),
    ],
)
async def test_without_a_dht_we_are_where_a_neighbour_sees_us(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, local: str | None, given: str, endpoint: Endpoint | None
) -> None:
    monkeypatch.setattr(gossip, "local_address", local_to(local))
    bench.dht.observed = None
    mirror(bench, given)
    await bench.announcer.nominate(bench.publisher.archive)
    assert [record.endpoints[0] for _, record in nominations()] == ([endpoint] if endpoint else [])


async def test_nothing_is_announced_while_others_still_try_to_reach_us(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror that is complete before it is known that nobody reaches it."""
    trying, tried = asyncio.Semaphore(0), asyncio.Event()

    async def nominate(self: Told, archive: bytes, raw: bytes) -> None:
        trying.release()
        await tried.wait()
        raise Unreachable("no way")

    monkeypatch.setattr(Told, "nominate", nominate)
    peers = [f"203.{number}.113.1:8730" for number in range(UNREACHED_MIN)]
    mirror(bench, *peers)
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.announcer.round())
        for _ in peers:
            await trying.acquire()
        mirror(bench, *peers, head=bench.publish())
        group.create_task(bench.announcer.nominate(bench.publisher.archive))
        await asyncio.sleep(0)  # it begins, and waits for the round
        tried.set()
    assert bench.dht.holders == []

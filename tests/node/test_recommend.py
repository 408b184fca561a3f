"""The list of recommended mirrors: signed where the archive is published, kept and shared by all who have it,
and followed by those who fetch."""

from __future__ import annotations

import ipaddress
import random
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.node.announce_bench import FakeTime
from tests.node.publishing import write
from tests.node.simulator import identity
from tests.node.wire_support import Served, says, scripted, served

from p2psync.checks import Result, Verdict, checked
from p2psync.daemon import recommend
from p2psync.daemon.policy import Policy
from p2psync.daemon.recommend import AGAIN, FRESH_FOR, HEAD_ROUND, PAUSE, RENEW, RETRY, Recommender, keep_list
from p2psync.errors import FormatError, TrustError
from p2psync.format.coverage import Coverage
from p2psync.format.mirror_list import IpNetwork, Mirror, MirrorList, sign_list
from p2psync.network.protocols import Network
from p2psync.publish import publish
from p2psync.sources.finders import recommended
from p2psync.sources.finders.candidates import Candidates
from p2psync.sources.finders.recommended import Recommended
from p2psync.sources.finders.records import Found
from p2psync.sources.node import PeerSource
from p2psync.state import State
from p2psync.trust import CLOCK_SKEW, Standing
from p2psync_dht import (
    ROLE_HEADS,
    ROLE_MIRRORS,
    TAG_MIRRORS,
    Delegation,
    Endpoint,
    Head,
    HolderRecord,
    HolderRole,
    holders_key,
)

START = 1_800_000_000
NODE = identity("mirror").public_key


class FakeNetwork:
    """A DHT of one record."""

    def __init__(self) -> None:
        self.record: bytes | None = None
        self.puts: list[bytes] = []
        self.refreshed = 0
        self.copies = 20

    async def get_mirrors_head(self, archive: bytes) -> Head | None:
        return None if self.record is None else Head.decode(self.record, tag=TAG_MIRRORS)

    async def put_head(self, raw: bytes) -> int:
        self.record = raw
        self.puts.append(raw)
        return self.copies

    async def refresh_head(self, raw: bytes) -> int:
        self.refreshed += 1
        return 0


class Bench:
    """A machine that publishes, with mirrors whose checks went as a test wants."""

    def __init__(self, path: Path, state: State, clock: FakeTime) -> None:
        self.path = path
        self.state = state
        self.clock = clock
        self.network = FakeNetwork()
        write(path / "tree" / "f", b"content")
        self.archive = publish(state, path / "tree", now=START - 86_400).archive
        self.warnings: list[str] = []
        self.recommender = self.build()

    def build(self, policy: Policy | None = None) -> Recommender:
        return Recommender(
            self.state,
            cast(Network, self.network),
            policy or Policy(),
            archives=lambda: [self.archive],
            warn=self.warnings.append,
            detail=lambda _: None,
        )

    def passes(self, name: str, ip: str = "192.0.2.1", *, result: Result | None = None) -> bytes:
        """A mirror has been checked; its key."""
        now = int(self.clock.time())
        record = HolderRecord.sign(
            identity(name),
            holders_key(self.archive),
            endpoints=[Endpoint(ip, 8730)],
            issued=now,
            expires=now + 86_400,
            role=HolderRole.MIRROR,
        )
        self.state.holders.keep(self.archive, record)
        good = result or Result(Verdict.RIGHT, seq=1, complete=True, rate=1e6)
        before = self.state.checks.get(self.archive, record.node_key)
        self.state.checks.put(
            self.archive, record.node_key, checked(before, "mirror", [], good, START - 86_400, now)
        )
        return record.node_key

    async def run(self, seconds: float) -> None:
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now += min(await self.recommender.round(), until - self.clock.now)

    @property
    def list(self) -> MirrorList | None:
        return self.state.lists.newest(self.archive)

    @property
    def keys(self) -> set[bytes]:
        made = self.list
        return set() if made is None else {mirror.key for mirror in made.mirrors}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    clock = FakeTime()
    monkeypatch.setattr(recommend, "time", clock)
    with State.open(tmp_path / "state") as state:
        yield Bench(tmp_path, state, clock)


def a_list(bench: Bench, *, seq: int = 1, epoch: int = 0, at: int = START, **changes: Any) -> MirrorList:
    """A list of the archive that its key signed."""
    root = bench.state.keys.root(bench.archive)
    assert root is not None
    mirror = Mirror(NODE, (Endpoint("192.0.2.9", 8730),), **changes)
    return sign_list(
        root, bench.archive, [mirror], epoch=epoch, seq=seq, signed_at=at, fresh_until=at + FRESH_FOR
    )


# Signing.


async def test_nothing_is_signed_while_there_is_nobody_to_recommend(bench: Bench) -> None:
    await bench.run(HEAD_ROUND)
    assert bench.list is None and bench.network.puts == []


async def test_whoever_passes_is_in_a_signed_list_in_the_dht(bench: Bench) -> None:
    key = bench.passes("one")
    await bench.run(10)
    assert bench.keys == {key}
    made = bench.list
    assert made is not None
    assert (made.record.seq, made.record.fresh_until) == (1, START + FRESH_FOR)
    assert bench.network.puts == [made.record.raw]


async def test_who_is_off_the_list_of_checks_is_off_the_signed_one(bench: Bench) -> None:
    one, two = bench.passes("one"), bench.passes("two", "192.0.2.2")
    await bench.run(10)
    assert bench.keys == {one, two}
    bench.passes("two", "192.0.2.2", result=Result(Verdict.WRONG, "sent wrong bytes"))
    await bench.run(PAUSE + 10)
    assert bench.keys == {one}
    bench.passes("one", result=Result(Verdict.LACKS, "lacks"))
    await bench.run(PAUSE + 10)
    made = bench.list
    assert made is not None and made.mirrors == () and made.record.seq == 3


async def test_a_mirror_that_comes_and_goes_has_no_list_signed_each_time(bench: Bench) -> None:
    bench.passes("one")
    for number in range(30):
        bad = Result(Verdict.WRONG, "wrong") if number % 2 else None
        bench.passes("two", "192.0.2.2", result=bad)
        await bench.run(5)
    assert len(bench.network.puts) <= 150 / PAUSE + 1


async def test_that_one_was_verified_again_is_said_twice_a_day(bench: Bench) -> None:
    bench.passes("one")
    await bench.run(10)
    for _ in range(2):
        bench.passes("one")
        await bench.run(HEAD_ROUND)
    assert len(bench.network.puts) == 1
    bench.clock.now += RENEW
    bench.passes("one")
    await bench.run(10)
    assert len(bench.network.puts) == 2


async def test_what_the_policy_denies_is_not_recommended(bench: Bench) -> None:
    one, two = bench.passes("one"), bench.passes("two", "192.0.2.2")
    bench.recommender = bench.build(Policy(deny=(two,)))
    await bench.run(10)
    assert bench.keys == {one}


async def test_after_a_restart_or_elsewhere_it_goes_on_after_the_last_list(bench: Bench) -> None:
    """The DHT names a list that was signed with the same key on another machine; nobody has it any more."""
    bench.state.lists.put(a_list(bench, seq=7))
    key = bench.passes("one")
    await bench.run(10)
    made = bench.list
    assert made is not None and made.record.seq == 8 and bench.keys == {key}


async def test_a_delegate_signs_in_its_epoch_and_only_with_the_role(bench: Bench) -> None:
    bench.passes("one")
    root = bench.state.keys.root(bench.archive)
    assert root is not None
    signer = bench.state.keys.create_signing(bench.archive)

    def delegate(roles: int, epoch: int) -> None:
        bench.state.keys.add_delegation(
            Delegation.sign(
                root,
                signer.public_key,
                epoch=epoch,
                roles=roles,
                not_before=START - 60,
                not_after=START + 86_400,
            )
        )

    delegate(ROLE_HEADS, 1)
    await bench.run(30)
    assert bench.list is None
    (warning,) = bench.warnings
    assert "delegate the role 'mirrors'" in warning
    delegate(ROLE_HEADS | ROLE_MIRRORS, 3)
    await bench.run(AGAIN + 10)
    made = bench.list
    assert made is not None and (made.record.epoch, made.record.seq) == (3, 1)


async def test_where_the_key_is_elsewhere_nothing_is_signed(bench: Bench) -> None:
    bench.passes("one")
    bench.state.keys.remove_root(bench.archive)
    await bench.run(30)
    assert bench.list is None and bench.warnings == []


async def test_a_machine_that_mirrors_and_has_the_role_signs_too(bench: Bench) -> None:
    """Who looks after the mirrors need not be able to publish."""
    key = bench.passes("one")
    root = bench.state.keys.root(bench.archive)
    assert root is not None
    (tree,) = bench.state.trees.by_archive(bench.archive)
    tree.role = "mirror"
    bench.state.trees.update(tree)
    bench.state.keys.remove_root(bench.archive)
    await bench.run(30)
    assert bench.list is None
    signer = bench.state.keys.create_signing(bench.archive)
    bench.state.keys.add_delegation(
        Delegation.sign(
            root,
            signer.public_key,
            epoch=0,
            roles=ROLE_MIRRORS,
            not_before=START - 60,
            not_after=START + 86_400,
        )
    )
    await bench.run(AGAIN + 10)
    assert bench.keys == {key}


async def test_two_who_sign_different_lists_do_not_outdo_each_other_each_minute(bench: Bench) -> None:
    bench.passes("one")
    await bench.run(10)
    signed = 1
    for _ in range(60):
        made = bench.list
        assert made is not None
        if made.mirrors[0].key != NODE:  # The other one, at once.
            signed += 1
            other = a_list(bench, seq=made.record.seq + 1, at=int(bench.clock.time()))
            assert bench.state.lists.put(other)
        await bench.run(60)
    assert 3 < signed < 10


# Keeping and sharing.


async def test_a_list_that_nobody_else_took_is_told_again_and_then_ever_more_seldom(bench: Bench) -> None:
    bench.network.copies = 1
    bench.passes("one")
    await bench.run(10 * RETRY)
    assert 3 <= len(bench.network.puts) <= 6
    bench.network.copies = 20
    await bench.run(10 * RETRY)
    told = len(bench.network.puts)
    await bench.run(HEAD_ROUND / 2)
    assert len(bench.network.puts) == told


async def test_it_is_refreshed_by_everybody_who_has_it(bench: Bench) -> None:
    bench.state.lists.put(a_list(bench))
    (tree,) = bench.state.trees.by_archive(bench.archive)
    tree.role = "mirror"
    bench.state.trees.update(tree)
    await bench.run(3 * HEAD_ROUND)
    assert len(bench.network.puts) == 1 and bench.network.refreshed >= 2


async def test_an_older_list_or_another_archives_or_one_from_the_future_is_not_kept(bench: Bench) -> None:
    now = int(time.time())
    newest = a_list(bench, seq=5, at=now)
    assert await keep_list(bench.state, bench.archive, (newest.record.raw, newest.body))
    for other in (a_list(bench, seq=4, at=now), newest):
        assert not await keep_list(bench.state, bench.archive, (other.record.raw, other.body))
    ahead = a_list(bench, seq=6, at=int(bench.clock.time()) + CLOCK_SKEW + 60)
    assert not await keep_list(bench.state, bench.archive, (ahead.record.raw, ahead.body))
    assert not await keep_list(bench.state, bytes(32), (newest.record.raw, newest.body))
    assert not await keep_list(bench.state, bench.archive, None)
    with pytest.raises((FormatError, TrustError)):
        await keep_list(bench.state, bench.archive, (newest.record.raw, b"\x92\x01\x90"))
    assert bench.list == newest


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    write(tmp_path / "t" / "f", b"content")
    async with served(tmp_path, tmp_path / "t") as made:
        yield made


def list_of(node: Served, *mirrors: Mirror, seq: int = 1) -> MirrorList:
    root = node.state.keys.root(node.archive)
    assert root is not None
    now = int(time.time())
    return sign_list(root, node.archive, mirrors, epoch=0, seq=seq, signed_at=now, fresh_until=now + 60)


async def test_a_node_hands_out_the_list_that_it_has(node: Served, tmp_path: Path) -> None:
    peer = PeerSource(node.address)
    assert await peer.mirrors(node.archive) is None
    made = list_of(node, Mirror(NODE, (Endpoint("192.0.2.9", 8730),)))
    node.state.lists.put(made)
    assert await peer.mirrors(node.archive) == (made.record.raw, made.body)
    assert await peer.mirrors(bytes(32)) is None
    await peer.close()
    with State.open(tmp_path / "mirror") as state:
        assert await recommend.take_list(state, node.address, node.archive, made.record)
        assert state.lists.newest(node.archive) == made
        assert not await recommend.take_list(state, node.address, node.archive)


async def test_nonsense_in_place_of_a_list_is_no_list(node: Served, tmp_path: Path) -> None:
    with State.open(tmp_path / "mirror") as state:
        for body in (b"\x90", b"abc", b"\x92\xc4\x01a\xc4\x01b", b"\x92\xa1a\xa1b"):
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            async with scripted(says(answer)) as liar:
                assert not await recommend.take_list(state, liar.address, node.archive)


# Following it.


def test_standings_begin_with_the_archives_own_word() -> None:
    assert list(Standing) == sorted(Standing)
    assert Standing.NEAR < Standing.RECOMMENDED < Standing.DELIVERED < Standing.PROVED < Standing.TOLD


async def following(
    node: Served, monkeypatch: pytest.MonkeyPatch, own: str | None, *mirrors: Mirror
) -> Recommended:
    """Who fetches, at an address of its own, and has the list."""

    async def local_address(_: str) -> str | None:
        return own

    monkeypatch.setattr(recommended, "local_address", local_address)
    made = Recommended(node.state, node.archive)
    signed = list_of(node, *mirrors)
    assert await made.take((signed.record.raw, signed.body))
    return made


def network(text: str) -> IpNetwork:
    return ipaddress.ip_network(text)


async def test_mirrors_of_ones_own_network_come_first_and_those_of_other_sites_not_at_all(
    node: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [bytes([number]) * 32 for number in range(4)]
    place = (Endpoint("203.0.113.1", 8730),)
    mirrors = (
        Mirror(keys[0], place),
        Mirror(keys[1], place, networks=(network("198.51.100.0/24"),)),
        Mirror(keys[2], place, networks=(network("198.51.100.0/24"),), site=True),
        Mirror(keys[3], place, networks=(network("192.0.2.0/24"),), site=True, weight=7),
    )
    known = dict.fromkeys([*keys, b"other"], Standing.TOLD)
    inside = await following(node, monkeypatch, "198.51.100.77", *mirrors)
    assert inside.standings(known) == {
        keys[0]: Standing.RECOMMENDED,
        keys[1]: Standing.NEAR,
        keys[2]: Standing.NEAR,
        keys[3]: Standing.TOLD,
        b"other": Standing.TOLD,
    }
    assert {each.record.node_key for each, _ in inside.found("203.0.113.1")} == set(keys[:3])
    outside = await following(node, monkeypatch, None, *mirrors)
    assert outside.standings(known)[keys[1]] == Standing.RECOMMENDED
    assert outside.standings(known)[keys[2]] == Standing.TOLD


async def test_behind_a_nat_a_machine_is_where_others_see_it_once_they_have_told(
    node: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def local_address(_: str) -> str | None:
        return "192.168.1.9"

    seen: dict[socket.AddressFamily, str] = {}
    monkeypatch.setattr(recommended, "local_address", local_address)
    follower = Recommended(node.state, node.archive, seen.get)
    mirror = Mirror(
        NODE, (Endpoint("203.0.113.1", 8730),), networks=(network("198.51.100.0/24"),), site=True, weight=7
    )
    signed = list_of(node, mirror)
    assert await follower.take((signed.record.raw, signed.body))
    assert follower.found("203.0.113.1") == [] and list(follower.web("h:1")) == []
    seen[socket.AF_INET] = "198.51.100.20"
    ((_, standing),) = follower.found("203.0.113.1")
    assert standing == Standing.NEAR
    assert follower.weight(NODE) == 7


async def test_a_list_from_far_away_names_nobody_inside_our_network(
    node: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = [Endpoint(ip, 8730) for ip in ("127.0.0.1", "10.9.8.7", "fd00::9")]
    mirrors = [Mirror(bytes([number]) * 32, (place,)) for number, place in enumerate(inside)]
    urls = [Mirror(b"", (Endpoint(url=f"http://{host}/pub/"),)) for host in ("127.0.0.1:9", "[::1]")]
    good = Mirror(b"", (Endpoint(url="https://mirror.example.org/pub/"),))
    follower = await following(node, monkeypatch, None, *mirrors, *urls, good)
    assert follower.found("203.0.113.1") == []
    assert list(follower.web("8.8.8.8:8730")) == ["https://mirror.example.org/pub/"]
    assert bytes(32) in [each.record.node_key for each, _ in follower.found("127.0.0.1")]


async def test_an_older_list_is_refused_and_the_newest_is_remembered(
    node: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = await following(node, monkeypatch, None, Mirror(NODE, (Endpoint("203.0.113.1", 8730),)))
    newer = list_of(node, seq=3)
    assert await follower.take((newer.record.raw, newer.body))
    old = list_of(node, Mirror(NODE, (Endpoint("203.0.113.1", 8730),)), seq=2)
    assert not await follower.take((old.record.raw, old.body))
    again = Recommended(node.state, node.archive)
    await again.load()
    assert again.found("203.0.113.1") == []
    assert not await again.take((old.record.raw, old.body))


async def test_weights_decide_who_is_asked_first() -> None:

    rng = random.Random(4)
    first = 0
    for _ in range(2000):
        candidates = Candidates(rng.random)
        for number, weight in ((1, 100), (2, 300), (3, 0)):
            record = HolderRecord(bytes([number]) * 32, b"", (), 0, 0, HolderRole.MIRROR, b"", b"")
            found = Found(record, Coverage(True, 0, 1))
            candidates.add(f"{number}.0.0.1:8730", found, Standing.RECOMMENDED, weight)
        chosen = candidates.next(0.0)
        assert chosen is not None and chosen.name != "3.0.0.1:8730"
        first += chosen.name == "2.0.0.1:8730"
    assert 1400 < first < 1600


async def test_a_node_at_rest_looks_into_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.passes("one")
    await bench.run(PAUSE + AGAIN)
    asked: list[float] = []

    def archives() -> list[bytes]:
        asked.append(bench.clock.now)
        return []

    monkeypatch.setattr(bench.state.checks, "archives", archives)
    await bench.run(2 * AGAIN)
    assert len(asked) <= 3

"""Holders that leave say so: who ends well is listed nowhere, and nobody takes it for failing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.node.announce_bench import START, Bench, Told, announcing
from tests.node.simulator import identity
from tests.node.wire_support import Served, served

from p2psync.content.library import HOLDERS_PER_ADDRESS_MAX
from p2psync.daemon import company as daemon_company
from p2psync.daemon import withdrawals
from p2psync.daemon.company import Company, company
from p2psync.daemon.gossip import Gossip
from p2psync.daemon.losses import Loss
from p2psync.errors import NetworkError
from p2psync.events import Teller
from p2psync.fetch.holders import Holder
from p2psync.format.coverage import Coverage
from p2psync.sources.interfaces import Source
from p2psync.sources.node import PeerSource
from p2psync.sources.opening import SourceSettings, open_source
from p2psync.sources.swarm import Member, Swarm
from p2psync.sources.wire import HOLDERS_MAX
from p2psync.state import State
from p2psync.supply import sharing
from p2psync.supply.sharing import Sharing
from p2psync_dht import Endpoint, HolderRecord, HolderRole, Identity, holders_key

NOW = int(time.time())
PLACE = Endpoint("192.0.2.1", 8730)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    yield from announcing(tmp_path, monkeypatch)


def sent(bench: Bench) -> list[tuple[bool, int]]:
    """Of the holder records in the DHT: whether each takes back, and when it was issued, from the start."""
    records = [HolderRecord.decode(raw) for raw in bench.dht.holders]
    return [(record.withdrawn, record.issued - START) for record in records]


def told(bench: Bench) -> list[tuple[str, bool]]:
    """Who was handed a holder record, and whether it takes back."""
    return [(to, HolderRecord.decode(raw).withdrawn) for to, what, raw in Told.log if what == "holder"]


class TestNodes:
    async def test_who_ends_takes_back_what_it_said_where_it_said_it(self, bench: Bench) -> None:
        bench.knows(bench.holder("a", "192.0.2.1"))
        bench.tree("mirror", bench.publish())
        await bench.announcer.round()
        await bench.announcer.leave()
        assert sent(bench) == [(False, 0), (True, 1)]
        assert told(bench) == [("192.0.2.1:8730", False), ("192.0.2.1:8730", True)]
        own = bench.state.holders.of_node(bench.publisher.archive, bench.identity.public_key)
        assert own is not None
        assert own.withdrawn

    async def test_who_returns_within_the_same_second_is_believed(self, bench: Bench) -> None:
        bench.tree("mirror", bench.publish())
        await bench.announcer.round()
        await bench.announcer.leave()
        await bench.build().round()
        assert sent(bench) == [(False, 0), (True, 1), (False, 2)]

    async def test_who_has_said_nothing_takes_nothing_back(self, bench: Bench) -> None:
        bench.dht.observed = None  # It does not know where it is.
        bench.tree("mirror", bench.publish())
        await bench.announcer.round()
        await bench.announcer.leave()
        assert sent(bench) == []

    async def test_nobody_waits_long_for_a_network_that_is_silent(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench.tree("mirror", bench.publish())
        await bench.announcer.round()

        async def never(raw: bytes) -> int:
            await asyncio.Event().wait()
            return 0

        monkeypatch.setattr(bench.dht, "put_holder", never)
        monkeypatch.setattr(withdrawals, "LEAVE", 0.01)
        await bench.announcer.leave()

    async def test_what_is_here_no_more_is_taken_back_in_the_next_round(self, bench: Bench) -> None:
        bench.tree("mirror", bench.publish())
        await bench.announcer.round()
        (tree,) = bench.state.trees.all()
        bench.state.trees.remove(tree)
        await bench.announcer.round()
        await bench.announcer.round()
        assert [withdrawn for withdrawn, _ in sent(bench)] == [False, True]

    async def test_a_disk_that_is_gone_is_taken_back_and_announced_when_it_returns(
        self, bench: Bench
    ) -> None:
        tree = bench.tree("mirror", bench.publish())
        await bench.announcer.round()
        bench.losses[tree.id] = Loss(gone=True)
        await bench.announcer.round()
        await bench.announcer.round()
        assert [withdrawn for withdrawn, _ in sent(bench)] == [False, True]
        bench.losses.clear()
        await bench.announcer.round()
        assert [withdrawn for withdrawn, _ in sent(bench)] == [False, True, False]

    async def test_a_withdrawal_that_nobody_took_is_tried_again_until_the_record_ends(
        self, bench: Bench
    ) -> None:
        bench.tree("mirror", bench.publish())
        await bench.announcer.round()
        (tree,) = bench.state.trees.all()
        bench.state.trees.remove(tree)
        bench.dht.copies = 1  # Our own.
        assert await bench.announcer.round() == withdrawals.RETRY
        bench.clock.now += withdrawals.RETRY
        assert await bench.announcer.round() == 2 * withdrawals.RETRY
        bench.dht.copies = 20
        bench.clock.now += 2 * withdrawals.RETRY
        await bench.announcer.round()
        bench.clock.now += withdrawals.RETRY * 9
        await bench.announcer.round()
        assert [withdrawn for withdrawn, _ in sent(bench)] == [False, True, True, True]

    async def test_what_is_being_said_is_taken_back_once_it_has_been_said(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put, begun, may_go_on = bench.dht.put_holder, asyncio.Event(), asyncio.Event()

        async def slow(raw: bytes) -> int:
            begun.set()
            if not HolderRecord.decode(raw).withdrawn:
                await may_go_on.wait()
            return await put(raw)

        monkeypatch.setattr(bench.dht, "put_holder", slow)
        bench.tree("mirror", bench.publish())
        saying = asyncio.ensure_future(bench.announcer.nominate(bench.publisher.archive))
        await begun.wait()
        (tree,) = bench.state.trees.all()
        bench.state.trees.remove(tree)
        taking_back = asyncio.ensure_future(bench.announcer.round())
        await asyncio.wait([taking_back], timeout=0.2)  # It would be over, if it did not wait.
        may_go_on.set()
        await asyncio.gather(saying, taking_back)
        assert [withdrawn for withdrawn, _ in sent(bench)] == [False, True]

    async def test_nobody_takes_back_an_archive_that_was_published_again_meanwhile(
        self, bench: Bench
    ) -> None:
        bench.tree("mirror", bench.publish())
        await bench.announcer.round()
        (tree,) = bench.state.trees.all()
        bench.state.trees.remove(tree)
        bench.dht.copies = 1
        await bench.announcer.round()
        bench.tree("mirror", bench.publish())
        bench.clock.now += withdrawals.RETRY * 9
        await bench.announcer.round()
        await bench.announcer.round()
        assert [withdrawn for withdrawn, _ in sent(bench)] == [False, True, False]

    async def test_a_record_that_a_wrong_clock_dated_ahead_is_not_gone_on_from(self, bench: Bench) -> None:
        bench.tree("mirror", bench.publish())
        bench.clock.now = 365 * 86400.0
        await bench.announcer.round()
        bench.clock.now = 0.0
        await bench.build().round()
        assert sent(bench)[-1] == (False, 0)

    async def test_what_a_killed_node_said_is_taken_back_when_it_returns_without_it(
        self, bench: Bench
    ) -> None:
        bench.knows(bench.holder("a", "192.0.2.1"))
        bench.tree("mirror", bench.publish())
        await bench.announcer.round()
        (tree,) = bench.state.trees.all()
        bench.state.trees.remove(tree)
        await bench.build().round()
        assert [withdrawn for withdrawn, _ in sent(bench)] == [False, True]
        assert told(bench)[-1] == ("192.0.2.1:8730", True)

    async def test_holders_that_have_left_are_not_told_and_not_counted_as_silent(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        archive = bench.publisher.archive
        gone = bench.holder("gone", "192.0.2.1")
        for record in (gone, bench.holder("there", "192.0.2.2"), bench.holder("dead", "192.0.2.3")):
            bench.knows(record)
        bench.knows(gone.withdraw(identity("gone"), START))

        async def put_head(self: Told, archive: bytes, raw: bytes) -> bool:
            self.log.append((self.address, "head", raw))
            if self.address.startswith("192.0.2.3"):
                raise NetworkError("silent")
            return True

        monkeypatch.setattr(Told, "put_head", put_head)
        bench.tree("publish", bench.publish())
        await bench.announcer.round()
        assert {to for to, what, _ in Told.log if what == "head"} == {"192.0.2.2:8730", "192.0.2.3:8730"}
        # The announcement of the record reached both again; the stand-in answers that.
        assert bench.announcer.others.company == Company(present=2, silent=0, withdrawn=1)
        said = company(
            bench.state, [archive], bench.identity.public_key, {"192.0.2.3:8730", "192.0.2.1:8730"}, START
        )
        assert said == Company(present=1, silent=1, withdrawn=1)
        assert str(said) == "1 other holder, 1 silent, 1 withdrawn"

    async def test_who_has_left_and_who_is_silent_is_known_though_there_is_nothing_to_tell(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench.tree("publish", bench.publish())
        gone = bench.holder("gone", "192.0.2.1")
        for record in (gone, bench.holder("there", "192.0.2.2"), bench.holder("dead", "192.0.2.3")):
            bench.knows(record)
        await bench.announcer.round()
        others = bench.announcer.others
        assert others.company == Company(present=3, silent=0, withdrawn=0)

        async def holders(self: Told, archive: bytes) -> list[bytes]:
            if self.address.startswith("192.0.2.3"):
                raise NetworkError("silent")
            return [gone.withdraw(identity("gone"), START).raw]

        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(Told, "holders", holders)
            await others.meet()
        assert others.company == Company(present=1, silent=1, withdrawn=1)
        await others.meet()
        assert others.company == Company(present=2, silent=0, withdrawn=1)

    async def test_those_who_hold_very_many_archives_ask_for_some_of_them_each_time(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(daemon_company, "MET_MAX", 2)
        asked: list[bytes] = []

        async def tell(self: Gossip, archive: bytes, head: bytes | None, record: HolderRecord | None) -> None:
            asked.append(archive)

        monkeypatch.setattr(Gossip, "tell", tell)
        for number in range(5):
            bench.state.trees.ensure(b"/srv/%d" % number, "mirror", bytes([number]) * 32)
        await bench.announcer.others.meet()
        assert len(set(asked)) == 2


class TestLists:
    @pytest.fixture
    async def node(self, tmp_path: Path) -> AsyncIterator[Served]:
        (tmp_path / "t").mkdir()
        async with served(tmp_path, tmp_path / "t", callback_timeout=0.5) as made:
            yield made

    def record(self, node: Served, signer: Identity, issued: int = NOW - 5) -> HolderRecord:
        return HolderRecord.sign(
            signer,
            holders_key(node.archive),
            endpoints=[PLACE],
            issued=issued,
            expires=NOW + 3600,
            role=HolderRole.PEER,
            payload=Coverage(True, 0, 1).encode(),
        )

    async def test_a_listed_holder_leaves_from_wherever_it_is(self, node: Served, peer: PeerSource) -> None:
        signer = identity("leaving")
        listed = self.record(node, signer)
        node.state.holders.keep_proved(node.archive, listed, PLACE, NOW)
        await peer.nominate(node.archive, listed.withdraw(signer, NOW).raw)
        (told,) = map(HolderRecord.decode, await peer.holders(node.archive))
        assert told.withdrawn
        assert told.expires == listed.expires
        await peer.nominate(node.archive, told.raw)
        assert node.state.holders.present(node.archive, NOW) == []

    async def test_nobody_leaves_for_another(self, node: Served, peer: PeerSource) -> None:
        listed = self.record(node, identity("victim"))
        node.state.holders.keep_proved(node.archive, listed, PLACE, NOW)
        forged = listed.withdraw(identity("attacker"), NOW)  # Its own word, and nothing of the other's.
        await peer.nominate(node.archive, forged.raw)
        body, signature = listed.withdraw(identity("victim"), NOW).raw[:-64], forged.raw[-64:]
        with pytest.raises(NetworkError, match="400"):
            await peer.nominate(node.archive, body + signature)
        assert await peer.holders(node.archive) == [listed.raw]

    async def test_who_is_not_listed_does_not_fill_the_list_by_leaving(
        self, node: Served, peer: PeerSource
    ) -> None:
        stranger = identity("stranger")
        await peer.nominate(node.archive, self.record(node, stranger).withdraw(stranger, NOW).raw)
        assert await peer.holders(node.archive) == []

    async def test_one_address_does_not_fill_the_list_by_coming_and_leaving_under_new_names(
        self, node: Served
    ) -> None:
        for number in range(3 * HOLDERS_PER_ADDRESS_MAX):
            signer = identity(str(number))
            listed = self.record(node, signer, NOW - 100 + number)
            assert node.library.keep_holder(node.archive, listed, PLACE)
            assert node.library.keep_holder(node.archive, listed.withdraw(signer, NOW), None)
        assert len(node.library.holders(node.archive)) == HOLDERS_PER_ADDRESS_MAX

    async def test_who_is_there_is_told_of_before_who_has_left(self, node: Served, peer: PeerSource) -> None:
        for number in range(HOLDERS_MAX + 20):
            signer = identity(str(number))
            listed = self.record(node, signer)
            told = listed if number % 2 else listed.withdraw(signer, NOW)
            node.state.holders.keep_proved(node.archive, told, PLACE, NOW)
        answer = [HolderRecord.decode(raw) for raw in await peer.holders(node.archive)]
        assert len(answer) == HOLDERS_MAX
        assert sum(not record.withdrawn for record in answer) == (HOLDERS_MAX + 20) // 2

    async def test_our_own_withdrawal_of_yesterday_is_not_taken_from_another(
        self, node: Served, peer: PeerSource
    ) -> None:
        old = self.record(node, node.identity).withdraw(node.identity, NOW)
        with pytest.raises(NetworkError, match="400"):
            await peer.nominate(node.archive, old.raw)

    async def test_an_older_word_does_not_bring_back_who_has_left(self, node: Served) -> None:
        signer = identity("leaving")
        listed = self.record(node, signer)
        node.state.holders.keep(node.archive, listed.withdraw(signer, NOW))
        assert not node.state.holders.keep(node.archive, listed)
        assert Holder.of(node.state.holders.records(node.archive, NOW)[0]).state == "withdrawn"


class TestFetches:
    @pytest.fixture
    async def node(self, tmp_path: Path) -> AsyncIterator[Served]:
        (tmp_path / "t").mkdir()
        async with served(tmp_path, tmp_path / "t") as made:
            yield made

    async def sharing(self, node: Served, state: State) -> tuple[Sharing, Source]:
        """The sharing of a fetch whose only source is the node, and has listed it."""
        made = Sharing(state, state.identity(), node.archive, b"/dest")
        await made.start("127.0.0.1", 0)
        before = self.listed(node)
        swarm = Swarm(time.monotonic, pytest.fail)
        source = open_source(node.address, SourceSettings(memoryview(b"")))
        swarm.add(Member(source, whole=True, given=True))
        telling = asyncio.ensure_future(made.nominate(swarm, Coverage(False, 0, 1), Teller()))
        async with asyncio.timeout(20):
            while self.listed(node) == before:  # noqa: ASYNC110 - what other processes write sets no event
                await asyncio.sleep(0.01)
        telling.cancel()
        await asyncio.wait([telling])
        return made, source

    @staticmethod
    def listed(node: Served) -> list[HolderRecord]:
        return node.state.holders.present(node.archive, time.time())

    async def test_a_fetch_that_ends_is_listed_no_more(self, node: Served, tmp_path: Path) -> None:
        with State.open(tmp_path / "reader") as state:
            made, source = await self.sharing(node, state)
            await made.close()
            assert self.listed(node) == []
            (left,) = node.state.holders.records(node.archive, time.time())
            assert left.withdrawn
            await source.close()

    async def test_a_fetch_that_ends_does_not_speak_for_another_that_goes_on(
        self, node: Served, tmp_path: Path
    ) -> None:
        with State.open(tmp_path / "reader") as state:
            first, one = await self.sharing(node, state)
            second, two = await self.sharing(node, state)
            await first.close()
            assert len(self.listed(node)) == 1
            await second.close()
            assert self.listed(node) == []
            await one.close()
            await two.close()

    async def test_a_fetch_that_ends_waits_for_no_source_that_is_silent(
        self, node: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sharing, "LEAVE", 0.01)

        async def never(self: PeerSource, archive: bytes, raw: bytes) -> None:
            await asyncio.Event().wait()

        with State.open(tmp_path / "reader") as state:
            made, source = await self.sharing(node, state)
            monkeypatch.setattr(PeerSource, "nominate", never)
            await made.close()
            assert len(self.listed(node)) == 1  # It has not heard; the record ends by itself.
            await source.close()

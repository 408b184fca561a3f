"""Defects of the kademlia package in how it looks up and stores; see `package`. Time is virtual."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kademlia.crawling import ValueSpiderCrawl
from kademlia.node import Node, NodeHeap
from kademlia.utils import digest

from p2psync_dht import head_key
from p2psync_dht.contact import COMPACT_SIZE, Address, Contact
from p2psync_dht.keys import ID_SIZE
from p2psync_dht.lookup import MAX_QUERIES, MAX_SEEN, MAX_SHORTLIST, Lookup
from p2psync_dht.routing import K
from p2psync_dht.testing.virtual import VirtualNetwork, run_virtual
from p2psync_dht.wire import Kind, Message, Status

from .conftest import identity
from .package import PEER, PEER_ID, ROOT, SEEN, SILENCE, OurNode, PackageNode, answer_of, both, head


def at(number: int) -> Address:
    return f"127.0.{number // 250}.{1 + number % 250}", 4000


def near(target: bytes, number: int) -> bytes:
    """The id at distance `number`."""
    return (int.from_bytes(target, "big") ^ number).to_bytes(ID_SIZE, "big")


@both
def test_rounds_wait_for_the_slowest(ours: bool) -> None:
    """`SpiderCrawl._find` gathers a round of three, and the silent one takes five seconds; a fifth is silent
    here.
    """
    count, silent = 20, {2, 7, 11, 16}
    key = head_key(ROOT.public_key)

    async def run() -> float:
        loop = asyncio.get_running_loop()
        if ours:
            ours_ids = sorted(
                (identity(number) for number in range(2, count + 2)),
                key=lambda one: int.from_bytes(one.node_id, "big") ^ int.from_bytes(key, "big"),
            )
            peers = {at(number): one for number, one in enumerate(ours_ids)}
            dead = {at(number) for number in silent}
            node = OurNode(
                lambda query, to: None if to in dead else answer_of(query, peers[to]),
                [(one, address) for address, one in peers.items()],
            )
            began = loop.time()
            found = await node.node.get_head(ROOT.public_key)
            assert (found.best, found.answered) == (None, count - len(silent))
            return loop.time() - began
        target = digest("key")
        dead = {at(number) for number in silent}
        package = PackageNode(
            lambda _name, _args, to: SILENCE if to in dead else [],
            [(near(target, number), at(number)) for number in range(1, count + 1)],
        )
        began = loop.time()
        assert await package.server.get("key") is None
        return loop.time() - began

    seconds = run_virtual(run)
    assert seconds < 2 if ours else seconds >= 10


class _Counted(Node):  # type: ignore[misc]  # kademlia has no type hints, so its classes are Any
    """A node of the package that counts how often its id is looked at."""

    looked = 0

    @property
    def id(self) -> bytes:
        _Counted.looked += 1
        return self._id

    @id.setter
    def id(self, value: bytes) -> None:
        self._id = value


@both
def test_a_shortlist_grows_without_bound_and_is_searched_linearly(ours: bool) -> None:
    """`NodeHeap` keeps all that it is told of, and `in` compares with each: n contacts cost n * n / 2."""
    told = 600
    target = head_key(ROOT.public_key)

    async def run() -> None:
        if ours:
            node = OurNode()
            lookup = Lookup(node.protocol, node.protocol.families()[0], target)
            teller = node.node.contacts()[0]
            size = COMPACT_SIZE[teller.family]
            for batch in range(told):
                blob = b"".join(
                    Contact(near(target, 10**6 - 100 * batch - number), *at(batch)).pack()
                    for number in range(20)
                )
                assert len(blob) == 20 * size
                lookup._take_contacts(blob, teller)
            assert len(lookup._entries) <= MAX_SHORTLIST * K
            assert len(lookup._seen) <= MAX_SEEN
            return
        heap = NodeHeap(Node(target), 20)
        _Counted.looked = 0
        heap.push([_Counted(near(target, 10**6 - number), *PEER) for number in range(told)])
        assert len(heap) == 20
        assert len(heap.heap) == told
        assert _Counted.looked > told * (told - 1) / 2

    run_virtual(run)


@both
def test_one_liar_inventing_nearer_ids_is_followed_for_ever(ours: bool) -> None:
    """Each answer names a nearer contact, at which the liar answers again; `find` calls itself for each
    round.
    """
    invented = 0

    def nearer(target: bytes) -> tuple[bytes, Address]:
        nonlocal invented
        invented += 1
        return near(target, 10**9 - invented), at(invented)

    async def run() -> None:
        if ours:

            def answer(query: Message, _to: Address) -> list[Any]:
                return answer_of(query, contacts=Contact(*_flat(nearer(query.body[0]))).pack())

            node = OurNode(answer)
            assert (await node.node.get_head(ROOT.public_key)).best is None
            # Whoever answers there is the liar again, and cannot prove the id that it was asked by.
            assert len(node.calls()) == 2
            return
        package = PackageNode(lambda _name, arguments, _to: [_flat(nearer(arguments[1]))], [(PEER_ID, PEER)])
        with pytest.raises(RecursionError):
            await package.server.get("key")
        assert len(package.calls()) > MAX_QUERIES

    run_virtual(run)


def _flat(contact: tuple[bytes, Address]) -> tuple[bytes, str, int]:
    return contact[0], *contact[1]


@both
def test_the_first_round_with_a_value_wins_and_the_value_is_stored_elsewhere(ours: bool) -> None:
    """`_handle_found_values` asks no further, compares no age, and hands a stale or forged value on."""

    async def run() -> None:
        old, new = head(1), head(2)
        if ours:
            network = VirtualNetwork(3, loss=0.0)
            await network.grow(12)
            *stale, fresh, reader = network.nodes
            for one in stale:
                one.storage.put(old.raw)
            fresh.storage.put(new.raw)
            found = await reader.get_head(ROOT.public_key)
            assert found.best is not None
            assert (found.best.seq, found.older > 0) == (2, True)
            await asyncio.sleep(1)
            # What is handed on is the newest, to those that gave an older one.
            handed = [one for one in stale if one.storage.get(old.key) == [new.raw]]
            assert len(handed) == min(found.older, 8)
            await network.close()
            return
        target = digest("key")
        values: dict[Address, Any] = {at(1): [], at(2): {"value": old.raw}, at(3): {"value": old.raw}}
        package = PackageNode(
            lambda name, _args, to: True if name == "store" else values.get(to, {"value": new.raw}),
            [(near(target, number), at(number)) for number in range(1, 11)],
        )
        assert await package.server.get("key") == old.raw
        asked = [to for name, _, to in package.calls() if name == "find_value"]
        assert len(asked) == 3  # seven others have the newest value
        assert [(args[2], to) for name, args, to in package.calls() if name == "store"] == [(old.raw, at(1))]

    run_virtual(run)


@both
def test_a_forged_value_is_believed(ours: bool) -> None:
    """`ValueSpiderCrawl` takes whatever stands under "value"."""
    forged = head().raw[:-1] + b"?"

    async def run() -> None:
        if ours:
            node = OurNode(lambda query, _: answer_of(query, value=[forged, 0]))
            found = await node.node.get_head(ROOT.public_key)
            assert (found.best, found.answered) == (None, 1)
            assert node.node.counters.events["bad_head"] == 1
            return
        package = PackageNode(lambda *_: {"value": forged})
        peers = [Node(PEER_ID, *PEER)]
        assert await ValueSpiderCrawl(package.protocol, Node(b"k" * 20), peers, 20, 3).find() == forged

    run_virtual(run)


@pytest.mark.parametrize("refusal", ["silence", "refused"])
@both
def test_a_store_that_failed_everywhere_is_reported_as_done(ours: bool, refusal: str) -> None:
    """`Server.set_digest` takes `any` of pairs (answered, result), and a pair is true whatever it says."""

    async def run() -> None:
        if ours:

            def answer(query: Message, _to: Address) -> list[Any] | None:
                if query.kind == Kind.FIND:
                    return answer_of(query)
                return None if refusal == "silence" else [SEEN, b"t" * 8, bytes([Status.REFUSED])]

            node = OurNode(answer)
            assert await node.node.put_head(head().raw) == 0
            assert [query.kind for query, _ in node.calls()].count(Kind.STORE) >= 1
            return
        package = PackageNode(
            lambda name, _args, _to: (
                [] if name == "find_node" else SILENCE if refusal == "silence" else False
            ),
            [(PEER_ID, PEER)],
        )
        assert await package.server.set("key", b"value") is True
        assert [name for name, _, _ in package.calls()].count("store") == 1

    run_virtual(run)

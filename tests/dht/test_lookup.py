"""In which order a lookup asks, and when it has heard enough."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from p2psync_dht import DhtNode
from p2psync_dht.contact import Contact
from p2psync_dht.density import Density
from p2psync_dht.lookup import Lookup
from p2psync_dht.shortlist import MIN_OWN, Entry, State
from p2psync_dht.testing.virtual import VirtualNetwork, run_virtual
from p2psync_dht.wire import Want

from .conftest import head_of, truly_closest

NODES = 150
IPV4 = socket.AF_INET


class Watched(Lookup):
    """Keeps whom it asked, in that order."""

    made: list[Watched]

    def __init__(self, *args: Any, **options: Any) -> None:
        self.asked: list[Entry] = []
        self.own_last = options.get("own_last", False)
        super().__init__(*args, **options)
        Watched.made.append(self)

    def _ask(self, entry: Entry) -> None:
        self.asked.append(entry)
        super()._ask(entry)


@pytest.fixture(autouse=True)
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    Watched.made = []
    for place in ("heads", "server"):
        monkeypatch.setattr(f"p2psync_dht.{place}.Lookup", Watched)


def in_a_network(test: Callable[[VirtualNetwork, DhtNode], Awaitable[None]]) -> None:
    """Run a test with a network without loss, and a client in it."""

    async def run() -> None:
        network = VirtualNetwork(1, loss=0)
        await network.grow(NODES)
        client = network.add(server=False)
        await client.join([node.address for node in network.nodes[:3]])
        Watched.made.clear()
        await test(network, client)

    run_virtual(run)


def own_heard(lookup: Watched) -> int:
    return sum(entry.teller is None and entry.state == State.ANSWERED for entry in lookup.asked)


@pytest.mark.parametrize("quorum", [1, 3])
def test_nothing_is_found_only_after_enough_contacts_of_our_own_were_heard(quorum: int) -> None:
    async def test(network: VirtualNetwork, client: DhtNode) -> None:
        for _ in range(5):
            found = await client.get_head(network.rng.randbytes(32), quorum=quorum)
            assert found.best is None
        assert [lookup.own_last for lookup in Watched.made] == 5 * [quorum == 1]
        assert min(map(own_heard, Watched.made)) >= MIN_OWN

    in_a_network(test)


def test_contacts_of_our_own_that_come_last_wait_for_the_nearest() -> None:
    async def test(network: VirtualNetwork, client: DhtNode) -> None:
        told = 0
        for _ in range(5):
            target = network.rng.randbytes(20)
            first = Watched(client.protocol, IPV4, target, Want.HEAD)
            await first.run()
            last = Watched(client.protocol, IPV4, target, Want.HEAD, own_last=True)
            await last.run()
            assert all(entry.teller is None for entry in first.asked[:MIN_OWN])
            told += sum(entry.teller is not None for entry in last.asked[:MIN_OWN])
            # Both end with the same nodes.
            near = [
                sorted(one.distance for one in lookup.asked if one.state == State.ANSWERED)[:20]
                for lookup in (first, last)
            ]
            assert near[0] == near[1]
        assert told

    in_a_network(test)


@pytest.mark.parametrize("is_sparse", [False, True])
def test_a_quorum_read_whose_nearest_stand_too_wide_asks_all_k_nearest(
    monkeypatch: pytest.MonkeyPatch, is_sparse: bool
) -> None:
    async def test(network: VirtualNetwork, client: DhtNode) -> None:
        if is_sparse:  # here, were there as many nodes as units of distance elsewhere
            monkeypatch.setattr(Density, "per_distance", lambda _density: 1.0)
        heard_all = []
        for _ in range(5):
            head = head_of(network)
            assert await network.nodes[0].put_head(head.raw) == 20
            Watched.made.clear()
            found = await client.get_head(head.root)
            assert found.best is not None
            (lookup,) = Watched.made
            heard = {entry.contact.id for entry in lookup.asked if entry.state == State.ANSWERED}
            heard_all.append(len(heard & {node.node_id for node in truly_closest(network, head.key)}) >= 19)
        assert all(heard_all) == is_sparse

    in_a_network(test)


def test_contacts_of_earlier_runs_are_asked_before_others_of_our_own() -> None:
    async def test(network: VirtualNetwork, client: DhtNode) -> None:
        earlier = [Contact(node.node_id, *node.address) for node in network.nodes[50:62]]
        client.protocol.acquaintances.note_earlier(earlier)
        silent = network.nodes[50]
        network.kill(silent)
        ids = {contact.id for contact in earlier}
        for quorum in (3, 3, 1):
            await client.get_head(network.rng.randbytes(32), quorum=quorum)
            await asyncio.sleep(2)  # until the silent are given up
        first, again, last = Watched.made
        assert {entry.contact.id for entry in first.asked[:8]} <= ids
        # Who was silent is not preferred any more.
        assert silent.node_id in {entry.contact.id for entry in first.asked}
        assert silent.node_id not in {entry.contact.id for entry in again.asked[:8]}
        # Where the first record is enough, the near ones go first.
        assert not {entry.contact.id for entry in last.asked[:4]} <= ids
        assert own_heard(last) >= MIN_OWN

    in_a_network(test)


@pytest.mark.parametrize("is_server", [False, True])
def test_a_client_goes_where_each_contact_of_its_own_points(is_server: bool) -> None:
    async def test(network: VirtualNetwork, client: DhtNode) -> None:
        asker = network.nodes[0] if is_server else client
        nodes = {node.node_id: node for node in network.nodes}
        followed = 0
        for _ in range(5):
            Watched.made.clear()
            await asker.get_head(network.rng.randbytes(32))
            (lookup,) = Watched.made
            asked = {entry.contact.id for entry in lookup.asked}
            own = [entry for entry in lookup.asked if entry.teller is None]
            for entry in (entry for entry in own if entry.state == State.ANSWERED):
                told = nodes[entry.contact.id].protocol.tables[IPV4].closest(lookup._target_id, 2)
                assert is_server or {contact.id for contact in told} <= asked
            followed += len(lookup._leads)
        assert bool(followed) != is_server

    in_a_network(test)


def test_a_client_that_knows_enough_goes_on_joining() -> None:
    async def test(network: VirtualNetwork, client: DhtNode) -> None:
        hasty, patient = network.add(server=False), network.add(server=False)
        began = network.loop.time()
        assert 12 <= await hasty.join([network.nodes[0].address], enough=12) < 20
        early = network.loop.time() - began
        assert (await hasty.get_head(bytes(32))).answered >= 20
        began = network.loop.time()
        known = await patient.join([network.nodes[0].address])
        assert early < network.loop.time() - began
        assert len(hasty.contacts()) >= known / 2
        ended = network.add(server=False)
        await ended.join([network.nodes[0].address], enough=1)
        await ended.close()
        assert not ended._joining

    in_a_network(test)


def test_a_bucket_that_is_full_enough_is_not_filled_any_further() -> None:
    async def test(network: VirtualNetwork, client: DhtNode) -> None:
        node = network.add()
        await node.join([network.nodes[0].address])
        table = node.protocol.tables[IPV4]
        fills = [lookup for lookup in Watched.made if lookup._target != node.node_id]
        for lookup in fills:
            assert len(table.bucket_of(lookup._target_id)) >= 3
        Watched.made.clear()
        for lookup in fills:
            await node._server._fill(IPV4, lookup._target)
        # The first answer is heard, and what was asked at once with it.
        assert all(len(again.asked) <= 2 for again in Watched.made)

    in_a_network(test)

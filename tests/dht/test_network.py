"""Nodes on real sockets: small networks, dead nodes, clients, caches."""

from __future__ import annotations

import asyncio
import random
import socket
from pathlib import Path

import pytest

from p2psync_dht import (
    TAG_MIRRORS,
    DhtNode,
    Endpoint,
    Head,
    HolderRole,
    Identity,
    RecordError,
    head_key,
    holders_key,
    rtt,
)
from p2psync_dht.join import JoinLookup
from p2psync_dht.server import MAX_OF_NAME
from p2psync_dht.sockets import has_ipv6
from p2psync_dht.testing.loopback import loopback_network, start_node

from .conftest import NOW, HeadMaker, HolderMaker, identity


@pytest.mark.parametrize("count", [1, 2, 3, 10, 20])
async def test_small_networks_find_what_was_stored(count: int, root: Identity, make_head: HeadMaker) -> None:
    async with loopback_network(count) as nodes:
        head = make_head()
        assert await nodes[-1].put_head(head.raw) == count
        for node in nodes:
            found = await node.get_head(root.public_key)
            assert found.best is not None
            assert found.best.raw == head.raw
            assert found.copies == min(count, found.copies) >= min(count, 3)
        assert (await nodes[0].get_head(identity(9).public_key)).best is None
        # The first of them came to know all that joined after it.
        assert await nodes[0].put_head(make_head(2).raw) == count


async def test_first_valid_record_is_enough_when_asked_for(root: Identity, make_head: HeadMaker) -> None:
    async with loopback_network(6) as nodes:
        await nodes[1].put_head(make_head().raw)
        client = await start_node(99, server=False)
        await client.join([nodes[0].address])
        found = await client.get_head(root.public_key, quorum=1)
        assert found.best is not None
        assert found.copies >= 1
        await client.close()


async def test_half_of_ten_nodes_die_without_a_word(root: Identity, make_head: HeadMaker) -> None:
    async with loopback_network(10) as nodes:
        head = make_head()
        await nodes[0].put_head(head.raw)
        for node in nodes[:5]:
            node.protocol.close()  # as with kill -9: the sockets are gone, nobody was told
        for node in nodes[5:]:
            found = await node.get_head(root.public_key)
            assert found.best is not None
            assert found.copies >= 3
        newer = make_head(2)
        assert await nodes[7].put_head(newer.raw) == 5


async def test_forty_percent_of_thirty_nodes_die(root: Identity, make_head: HeadMaker) -> None:
    async with loopback_network(30) as nodes:
        head = make_head()
        assert await nodes[3].put_head(head.raw) == 20
        for node in random.Random(1).sample(nodes[4:], 12):
            node.protocol.close()
        alive = [node for node in nodes if not node.protocol.closed]
        found = [await node.get_head(root.public_key) for node in alive]
        assert all(one.best is not None and one.best.raw == head.raw for one in found)


async def test_a_quorum_read_prefers_the_newest_and_hands_it_on(root: Identity, make_head: HeadMaker) -> None:
    async with loopback_network(8) as nodes:
        old, new = make_head(1), make_head(2)
        for node in nodes[:6]:
            node.storage.put(old.raw)
        nodes[7].storage.put(new.raw)
        found = await nodes[6].get_head(root.public_key, quorum=8)
        assert found.best is not None
        assert found.best.seq == 2
        assert (found.copies, found.older, found.answered) == (1, 6, 7)
        async with asyncio.timeout(60):
            # Only the other nodes know when they have stored it.
            while (again := await nodes[6].get_head(root.public_key, quorum=8)).older:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert again.copies == 7


async def test_heads_never_go_back(root: Identity, make_head: HeadMaker) -> None:
    async with loopback_network(5) as nodes:
        old, new = make_head(1), make_head(2)
        assert await nodes[0].put_head(new.raw) == 5
        assert await nodes[1].put_head(old.raw) == 0
        found = await nodes[2].get_head(root.public_key)
        assert found.best is not None
        assert found.best.seq == 2


async def test_equal_numbers_the_greater_hash_wins_everywhere(root: Identity, make_head: HeadMaker) -> None:
    async with loopback_network(4) as nodes:
        heads = [make_head(1, payload=bytes([number])) for number in range(6)]
        greatest = max(heads, key=lambda head: head.order)
        for number in random.Random(3).sample(range(6), 6):
            await nodes[number % 4].put_head(heads[number].raw)
        for node in nodes:
            found = await node.get_head(root.public_key)
            assert found.best is not None
            assert found.best.raw == greatest.raw


async def test_an_invalid_record_is_not_even_sent(make_head: HeadMaker) -> None:
    async with loopback_network(2) as nodes:
        with pytest.raises(RecordError):
            await nodes[0].put_head(make_head().raw[:-1] + b"x")
        with pytest.raises(RecordError):
            await nodes[0].put_holder(b"nothing")


async def test_holders_of_one_key_are_all_found(root: Identity, make_holder: HolderMaker) -> None:
    async with loopback_network(5) as nodes:
        key = holders_key(root.public_key)
        records = [
            make_holder(identity(number), endpoints=[Endpoint("127.0.0.1", number)])
            for number in range(1, 61)
        ]
        for record in records:
            assert await nodes[0].put_holder(record.raw) == 5
        client = await start_node(99, server=False)
        await client.join([nodes[1].address])
        found = await client.get_holders(key)
        assert {one.node_key for one in found} == {one.node_key for one in records}
        some = await client.get_holders(key, limit=10)
        assert len(some) == 10
        assert await client.get_holders(holders_key(b"nobody")) == []
        await client.close()


async def test_a_later_holder_record_replaces_the_earlier(root: Identity, make_holder: HolderMaker) -> None:
    async with loopback_network(3) as nodes:
        first = make_holder(identity(1), issued=NOW - 10, role=HolderRole.PEER)
        second = make_holder(identity(1), issued=NOW, role=HolderRole.MIRROR)
        assert await nodes[0].put_holder(second.raw) == 3
        assert await nodes[0].put_holder(first.raw) == 0
        (found,) = await nodes[1].get_holders(holders_key(root.public_key))
        assert found.role == HolderRole.MIRROR


async def test_somebody_elses_address_cannot_be_announced(root: Identity, make_holder: HolderMaker) -> None:
    async with loopback_network(3) as nodes:
        forged = make_holder(identity(1), endpoints=[Endpoint("192.0.2.1", 80)])
        client = await start_node(99, server=False)
        await client.join([nodes[0].address])
        assert await client.put_holder(forged.raw) == 0
        assert await client.get_holders(holders_key(root.public_key)) == []
        web = make_holder(identity(2), endpoints=[Endpoint(url="https://mirror.example/")])
        assert await client.put_holder(web.raw) == 3
        await client.close()


async def test_a_client_asks_but_answers_nobody_and_enters_no_table(
    root: Identity, make_head: HeadMaker
) -> None:
    async with loopback_network(4) as nodes:
        client = await start_node(99, server=False)
        assert await client.join([nodes[0].address]) == 4
        assert await client.put_head(make_head().raw) == 4
        other = await start_node(98, server=False)
        assert await other.join([client.address]) == 0
        assert client.counters.drops["client"]
        for node in nodes:
            assert client.node_id not in {contact.id for contact in node.contacts()}
        assert (await client.get_head(root.public_key)).copies >= 3
        await client.close()
        await other.close()


async def test_dead_bootstrap_addresses_are_no_obstacle() -> None:
    async with loopback_network(3) as nodes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            dead = [
                silent.getsockname(),
                ("127.0.0.1", 1),
                ("no-such-name.invalid", 80),
                ("nul\0", 80),
                ("", 0),
                ("localhost", 10**9),
                ("127.0.0.1", 99999),
            ]
            newcomer = await start_node(99)
            assert await newcomer.join([*dead, nodes[1].address]) == 3
            lonely = await start_node(98)
            assert await lonely.join(dead[:2]) == 0
            await newcomer.close()
            await lonely.close()


async def test_the_cache_of_contacts_replaces_bootstrap(
    tmp_path: Path, root: Identity, make_head: HeadMaker
) -> None:
    async with loopback_network(5) as nodes:
        await nodes[0].put_head(make_head().raw)
        first = await start_node(99, server=False)
        await first.join([nodes[0].address])
        assert first.save_contacts(tmp_path / "contacts") == 5
        await first.close()
        nodes[0].protocol.close()
        second = await start_node(99, server=False)
        assert second.load_contacts(tmp_path / "contacts") == 5
        assert await second.join() == 4
        assert (await second.get_head(root.public_key)).best is not None
        await second.close()


async def test_who_is_given_and_known_from_before_is_asked_once_to_join(tmp_path: Path) -> None:
    async with loopback_network(1) as (node,):
        asked = []
        for _ in range(2):
            client = await start_node(99, server=False)
            client.load_contacts(tmp_path / "contacts")
            before = node.counters.requests_served
            assert await client.join([node.address]) == 1
            asked.append(node.counters.requests_served - before)
            client.save_contacts(tmp_path / "contacts")
            await client.close()
        assert asked[1] == asked[0]


async def test_records_survive_a_restart(
    tmp_path: Path, root: Identity, make_head: HeadMaker, make_holder: HolderMaker
) -> None:
    async with loopback_network(1) as (node,):
        head = make_head()
        await node.put_head(head.raw)
        await node.put_holder(make_holder(identity(1)).raw)
        assert node.save_records(tmp_path / "records") == 2
    async with loopback_network(1) as (node,):
        assert await node.load_records(tmp_path / "records") == 2
        assert node.storage.get(head_key(root.public_key)) == [head.raw]
        assert len(await node.get_holders(holders_key(root.public_key))) == 1


async def test_a_network_restarts_from_its_records(root: Identity, make_head: HeadMaker) -> None:
    """A node that comes back at its address with its key is a contact again."""
    async with loopback_network(4) as nodes:
        await nodes[0].put_head(make_head().raw)
        port = nodes[3].address[1]
        await nodes[3].close()
        again = await DhtNode.start(nodes[3].identity, "127.0.0.1", port)
        await again.join([nodes[0].address])
        assert (await again.get_head(root.public_key)).copies >= 3
        await again.close()


async def test_other_networks_are_strangers() -> None:
    async with loopback_network(2) as nodes:
        stranger = await start_node(99, network_id=b"test")
        assert await stranger.join([nodes[0].address]) == 0
        assert nodes[0].counters.drops["network"]
        await stranger.close()


async def test_a_node_learns_its_address_from_others() -> None:
    async with loopback_network(3) as nodes:
        assert nodes[2].observed_address() == nodes[2].address


async def test_closing_ends_lookups() -> None:
    async with loopback_network(3) as nodes:
        for node in nodes[:2]:
            node.protocol.close()
        lookup = asyncio.ensure_future(nodes[2].get_head(bytes(32)))
        await asyncio.sleep(0)
        await nodes[2].close()
        assert (await lookup).best is None


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine speaks no IPv6")
async def test_both_families_have_their_own_table(root: Identity, make_head: HeadMaker) -> None:
    try:
        nodes = [await DhtNode.start(identity(number), "::", 0) for number in range(1, 4)]
    except OSError:
        pytest.skip("this machine has no IPv6 address")
    ports = [node.address[1] for node in nodes]
    for node in nodes[1:]:
        assert await node.join([("127.0.0.1", ports[0]), ("::1", ports[0])]) >= 2
    assert await nodes[2].put_head(make_head().raw) >= 3
    six = await DhtNode.start(identity(9), "::1", 0, server=False)
    assert await six.join([("::1", ports[1])]) == 3
    assert (await six.get_head(root.public_key)).best is not None
    assert all(":" in contact.ip for contact in six.contacts())
    for node in [*nodes, six]:
        await node.close()


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 address")
async def test_a_family_in_which_nobody_answers_holds_up_no_join_in_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """IPv6 that leads nowhere is common, and names have addresses of both kinds."""
    monkeypatch.setattr(rtt, "FIRST_SOFT", 3600.0)  # Whoever waited for the silent one would wait for hours.
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as mute:
        mute.bind(("::1", 0))
        silent = ("::1", mute.getsockname()[1])
        async with (
            await DhtNode.start(Identity.generate(), "127.0.0.1", 0) as there,
            await DhtNode.start(Identity.generate(), "::", 0) as node,
            asyncio.timeout(60),
        ):
            assert await node.join([silent, there.address]) == 1
            assert list(node.unheard) == [silent]


async def test_a_name_with_thousands_of_addresses_aims_a_node_at_few_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever runs a name among somebody's bootstrap nodes could have all who join by it send to others."""
    asked: list[str] = []

    async def resolve(host: str, port: int, **_: object) -> list[object]:
        kind = socket.SOCK_DGRAM
        four = [(socket.AF_INET, kind, 17, "", (f"127.1.{n >> 8}.{n & 255}", port)) for n in range(2000)]
        six = [(socket.AF_INET6, kind, 17, "", (f"::1:{n:x}", port, 0, 0)) for n in range(2000)]
        return [*four, *six]

    def ask(lookup: JoinLookup, address: tuple[str, int], heard: object = None) -> None:
        asked.append(address[0])

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    monkeypatch.setattr(JoinLookup, "ask_address", ask)
    async with await DhtNode.start(Identity.generate(), "127.0.0.1", 0, server=False) as node:
        await node.join([("crowd.example", 8730)])
    assert len(asked) == MAX_OF_NAME


async def test_the_head_of_the_mirrors_is_found_beside_that_of_the_archive(
    root: Identity, make_head: HeadMaker
) -> None:
    async with loopback_network(6) as nodes:
        head = make_head()
        listed = Head.sign(
            root,
            root.public_key,
            epoch=0,
            seq=1,
            payload=b"l",
            signed_at=NOW,
            fresh_until=NOW,
            tag=TAG_MIRRORS,
        )
        assert await nodes[0].put_head(listed.raw) == 6
        assert (await nodes[3].get_head(root.public_key)).best is None
        await nodes[1].put_head(head.raw)
        found = await nodes[4].get_mirrors_head(root.public_key)
        assert found.best is not None and found.best.raw == listed.raw
        kept = await nodes[4].get_head(root.public_key)
        assert kept.best is not None and kept.best.raw == head.raw
        assert await nodes[2].refresh_head(listed.raw) == 0

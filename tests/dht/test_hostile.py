"""Hostile datagrams: whatever arrives, nothing is raised, the socket lives, nobody unproved is believed."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest

from p2psync_dht import DhtNode, Head, Identity, head_key
from p2psync_dht.codec import pack
from p2psync_dht.contact import Contact
from p2psync_dht.keys import DOMAIN_CONTACT
from p2psync_dht.testing.loopback import loopback_network, start_node
from p2psync_dht.wire import (
    AMPLIFICATION,
    DEFAULT_NETWORK,
    HEADER_SIZE,
    MAX_DATAGRAM,
    REPLY_BIT,
    Kind,
    Message,
    Want,
    WireError,
    decode,
    encode,
)

from .conftest import HeadMaker, HolderMaker, identity

ATTACKER = ("127.0.0.9", 4000)
BODIES: list[Any] = [
    [],
    [None] * 6,
    [b"x" * 20, 0, None, None, None],
    [b"x" * 20, 1, b"n" * 16, 0, b"t" * 8],
    [b"x" * 20, 2, b"n" * 16, 2**31, None],
    [b"x" * 20, 2, None, -1, None],
    [b"x" * 19, 0, None, None, None],
    ["x" * 20, "1", 2.5, {}, []],
    [b"n" * 16, None],
    [b"t" * 8, [b"r" * 100] * 16],
    [b"t" * 8, [b"r"] * 1000],
    [b"t" * 8, [1, None]],
    [b"t" * 8, b"\x98\x03", b"", b"r" * 84],
    [b"t" * 8, b"", b"", b"r" * 83],
    [b"\0" * 6, b"t" * 8, b"c" * 26, None, b"p" * 96],
    [b"\0" * 5, b"t" * 8, b"c" * 25, [1], b"p" * 96],
    [{}] * 5,
]


def catch(node: DhtNode, instead: Callable[[bytes, Any], None]) -> None:
    """Have a node's datagrams passed to `instead`."""
    node.protocol.__dict__["send"] = instead


async def lone_node(**options: Any) -> tuple[DhtNode, list[tuple[bytes, Any]]]:
    """A node whose datagrams are caught instead of sent."""
    node = await start_node(1, **options)
    sent: list[tuple[bytes, Any]] = []
    # Type: ignore[method-assign].
    catch(node, lambda datagram, address: sent.append((datagram, address)))
    return node, sent


async def test_a_flood_of_anything_raises_nothing_and_is_counted() -> None:
    node, sent = await lone_node()
    rng = random.Random(7)
    valid = [
        encode(DEFAULT_NETWORK, kind, rng.randbytes(8), rng.randbytes(20), body, is_reply=reply, pad_to=400)
        for kind in Kind
        for reply in (False, True)
        for body in BODIES
        if HEADER_SIZE + len(pack(body)) <= MAX_DATAGRAM
    ]
    count = 10_000
    for _ in range(count):
        kind = rng.randrange(4)
        if kind == 0:
            datagram = rng.randbytes(rng.randrange(1500))
        else:
            mutable = bytearray(rng.choice(valid))
            for _ in range(kind - 1):
                mutable[rng.randrange(len(mutable))] = rng.randrange(256)
            datagram = bytes(mutable[: rng.randrange(len(mutable)) if rng.random() < 0.2 else None])
        source = (f"127.{rng.randrange(256)}.{rng.randrange(256)}.1", rng.randrange(1, 65536))
        node.protocol.datagram_received(datagram, source)
    assert node.counters.datagrams_in == count
    assert sum(node.counters.drops.values()) > count / 4
    assert not node.contacts()
    assert len(node.storage) == 0
    for reply, _ in sent:
        assert len(reply) <= MAX_DATAGRAM
    await node.close()


async def test_a_node_survives_hostile_datagrams_on_its_socket(root: Identity, make_head: HeadMaker) -> None:
    async with loopback_network(3) as nodes:
        rng = random.Random(5)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
            for _ in range(2000):
                head = DEFAULT_NETWORK + bytes([1, rng.randrange(1, 8) | rng.choice([0, REPLY_BIT])])
                attacker.sendto(head + rng.randbytes(rng.randrange(400)), nodes[0].address)
        assert await nodes[1].put_head(make_head().raw) == 3
        assert (await nodes[0].get_head(root.public_key)).best is not None


async def test_no_reply_exceeds_three_times_its_request_before_the_address_is_proved(
    make_head: HeadMaker, make_holder: HolderMaker
) -> None:
    async with loopback_network(25) as nodes:
        node = nodes[0]
        head = make_head()
        node.storage.put(head.raw)
        for number in range(1, 40):
            node.storage.put(make_holder(identity(number)).raw)
        sent: list[bytes] = []
        catch(node, lambda datagram, _address: sent.append(datagram))
        keys = [head_key(head.root), make_holder(identity(1)).key]
        for key in keys:
            for want in Want:
                for nonce in (None, b"n" * 16):
                    for pad in (0, 100, 200, 300, 400, 1000):
                        body = [key, int(want), nonce, None, None]
                        query = encode(DEFAULT_NETWORK, Kind.FIND, b"12345678", b"s" * 20, body, pad_to=pad)
                        before = len(sent)
                        node.protocol.datagram_received(query, ATTACKER)
                        replies = [one for one in sent[before:] if one[5] & REPLY_BIT]
                        assert all(
                            len(one) <= min(AMPLIFICATION * len(query), MAX_DATAGRAM) for one in replies
                        )
                        assert replies or pad == 0
        ping = encode(DEFAULT_NETWORK, Kind.PING, b"12345678", b"s" * 20, [b"n" * 16, None])
        before = len(sent)
        node.protocol.datagram_received(ping, ATTACKER)
        assert len(next(one for one in sent[before:] if one[5] & REPLY_BIT)) <= AMPLIFICATION * len(ping)


async def test_storing_without_a_token_of_that_address_is_refused(make_head: HeadMaker) -> None:
    node, sent = await lone_node()
    other = node.protocol.tokens.make(("127.0.0.8", 4000), node.protocol.now())
    for token in (other, bytes(8)):
        body = [token, [make_head().raw]]
        node.protocol.datagram_received(
            encode(DEFAULT_NETWORK, Kind.STORE, b"1" * 8, b"s" * 20, body), ATTACKER
        )
    assert len(node.storage) == 0
    assert node.counters.drops["token"] == 2
    right = node.protocol.tokens.make(ATTACKER, node.protocol.now())
    query = encode(
        DEFAULT_NETWORK, Kind.STORE, b"1" * 8, b"s" * 20, [right, [make_head().raw]], is_client=True
    )
    node.protocol.datagram_received(query, ATTACKER)
    assert len(node.storage) == 1
    assert decode(sent[-1][0], DEFAULT_NETWORK).body[2] == b"\0"
    await node.close()


async def test_twenty_thousand_ids_from_one_socket_fill_no_table() -> None:
    node, _sent = await lone_node()
    rng = random.Random(1)
    for _ in range(20_000):
        ping = encode(DEFAULT_NETWORK, Kind.PING, rng.randbytes(8), rng.randbytes(20), [b"n" * 16, None])
        node.protocol.datagram_received(ping, ATTACKER)
    assert not node.contacts()
    assert node.counters.queries_sent <= 16
    await node.close()


Answerer = Callable[[Message], list[Any]]


async def ask_a_liar(answer: Answerer, *, claimed: Identity | None = None) -> tuple[DhtNode, Any]:
    """A client whose only contact answers every FIND with `answer`; what the read of a head gave."""
    node = await start_node(1, server=False)
    liar = identity(66)
    contact = Contact((claimed or liar).node_id, *ATTACKER)
    node.protocol.tables[socket.AF_INET].add_verified(contact)

    def caught(datagram: bytes, address: tuple[str, int]) -> None:
        query = decode(datagram, DEFAULT_NETWORK)
        body = answer(query)
        reply = encode(DEFAULT_NETWORK, query.kind, query.transaction, liar.node_id, body, is_reply=True)
        asyncio.get_running_loop().call_soon(node.protocol.datagram_received, reply, address)

    catch(node, caught)
    found = await node.get_head(identity(200).public_key)
    await node.close()
    return node, found


def proof(query: Message) -> bytes:
    liar = identity(66)

    nonce = query.body[2] or b""
    return liar.public_key + liar.sign(DEFAULT_NETWORK + nonce + query.sender, domain=DOMAIN_CONTACT)


SEEN = bytes([127, 0, 0, 1, 1, 1])


@pytest.mark.parametrize(
    "contacts",
    [
        b"x" * 25,
        b"x" * 20 + bytes([0, 0, 0, 0, 1, 1]),
        b"x" * 20 + bytes([127, 0, 0, 1, 0, 0]),
        b"x" * 20 + bytes([224, 0, 0, 1, 1, 1]),
        b"x" * 20 + bytes([255, 255, 255, 255, 255, 255]),
        ["127.0.0.1", 99999],
        [[b"x" * 20, "127.0.0.1", 99999]],
        {"a": 1},
        7,
        None,
    ],
)
async def test_contacts_that_cannot_be_are_dropped(contacts: Any) -> None:
    node, found = await ask_a_liar(lambda query: [SEEN, b"t" * 8, contacts, None, proof(query)])
    assert found.best is None
    assert sum(node.counters.drops.values()) >= 1


async def test_one_liar_inventing_nearer_ids_is_asked_after_a_few() -> None:
    rng = random.Random(2)
    target = head_key(identity(200).public_key)

    def invent(query: Message) -> list[Any]:
        near = [target[:10] + rng.randbytes(10) + bytes([127, 1, 1, 1, 0, 9]) for _ in range(40)]
        return [SEEN, b"t" * 8, b"".join(near), None, proof(query)]

    node, found = await ask_a_liar(invent)
    assert found.best is None
    # Whoever answers at those addresses is the liar again, and proves another id than it was asked for.
    assert found.answered == 1
    assert node.counters.queries_sent <= 20


@pytest.mark.parametrize("wrong", ["none", "short", "key", "signature", "nonce"])
async def test_an_id_without_its_proof_is_not_believed(wrong: str) -> None:
    def answer(query: Message) -> list[Any]:
        made: bytes | None = proof(query)
        assert made is not None
        if wrong == "none":
            made = None
        elif wrong == "short":
            made = made[:-1]
        elif wrong == "key":
            made = identity(67).public_key + made[32:]
        elif wrong == "signature":
            made = made[:-1] + bytes([made[-1] ^ 1])
        else:
            liar = identity(66)
            made = liar.public_key + liar.sign(DEFAULT_NETWORK + b"another nonce...", domain=b"")
        return [SEEN, b"t" * 8, b"", None, made]

    node, found = await ask_a_liar(answer)
    assert found.answered == 0
    assert node.counters.events["bad_reply"] == 1


async def test_an_impostor_at_a_contacts_address_is_removed() -> None:
    node, found = await ask_a_liar(
        lambda query: [SEEN, b"t" * 8, b"", None, proof(query)], claimed=identity(67)
    )
    assert found.answered == 0
    assert node.counters.drops["impostor"] == 1
    assert not node.contacts()


@pytest.mark.parametrize(
    "value",
    [[], [None], [b"junk", 0], [1, 2], [b"x" * 450, b"y"], [[[]]], [10**9, [b"x"] * 3], [-1, None]],
)
async def test_values_that_are_no_records_are_not_believed(value: Any) -> None:
    _node, found = await ask_a_liar(lambda query: [SEEN, b"t" * 8, b"", value, proof(query)])
    assert found.best is None
    assert found.answered == 1


async def test_a_forged_head_is_not_believed(make_head: HeadMaker) -> None:
    raw = make_head(9).raw
    forged = raw[:-64] + identity(66).sign(raw[:-64])
    node, found = await ask_a_liar(lambda query: [SEEN, b"t" * 8, b"", [forged, 0], proof(query)])
    assert found.best is None
    assert node.counters.events["bad_head"] == 1


async def test_a_valid_head_of_another_archive_is_not_believed(make_head: HeadMaker) -> None:
    stranger = identity(33)

    other = Head.sign(stranger, stranger.public_key, epoch=0, seq=9, payload=b"", signed_at=1, fresh_until=1)
    _node, found = await ask_a_liar(lambda query: [SEEN, b"t" * 8, b"", [other.raw, 0], proof(query)])
    assert found.best is None


async def test_a_reply_from_another_address_is_dropped() -> None:
    node, sent = await lone_node(server=False)
    node.protocol.tables[socket.AF_INET].add_verified(Contact(identity(66).node_id, *ATTACKER))
    lookup = asyncio.get_running_loop().create_task(node.get_head(bytes(32)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    query = decode(sent[0][0], DEFAULT_NETWORK)
    body = [SEEN, b"t" * 8, b"", None, proof(query)]
    reply = encode(DEFAULT_NETWORK, query.kind, query.transaction, identity(66).node_id, body, is_reply=True)
    node.protocol.datagram_received(reply, ("127.0.0.10", 4000))
    assert node.counters.drops["address"] == 1
    node.protocol.datagram_received(reply, ATTACKER)
    assert (await lookup).answered == 1
    node.protocol.datagram_received(reply, ATTACKER)
    assert node.counters.drops["unexpected"] == 1
    await node.close()


async def test_one_address_is_answered_only_so_often() -> None:
    node, sent = await lone_node()
    for number in range(3000):
        ping = encode(
            DEFAULT_NETWORK, Kind.PING, number.to_bytes(8, "big"), b"s" * 20, [None, None], is_client=True
        )
        node.protocol.datagram_received(ping, ATTACKER)
    assert node.counters.drops["rate"] > 2000
    assert len(sent) < 1000
    await node.close()


def test_the_wire_has_one_exception() -> None:
    rng = random.Random(4)
    for _ in range(20_000):
        with pytest.raises(WireError):
            decode(DEFAULT_NETWORK + b"\x01\x02" + rng.randbytes(rng.randrange(60)), DEFAULT_NETWORK)

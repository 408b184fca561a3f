"""Pings and lookups as operators see them: who answered, who proved what, which way a lookup took."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from p2psync_dht import DhtNode, Head, Identity, head_key, holders_key
from p2psync_dht.contact import Address, pack_address
from p2psync_dht.lookup import Lookup
from p2psync_dht.service import MAX_AGENT
from p2psync_dht.testing.liars import tell_lies
from p2psync_dht.testing.loopback import loopback_network, start_node
from p2psync_dht.testing.virtual import VirtualNetwork, run_virtual
from p2psync_dht.tokens import TOKEN_SIZE
from p2psync_dht.trace import Outcome, Trace, ping_address, trace_lookup
from p2psync_dht.wire import DEFAULT_NETWORK, NONCE_SIZE, PROOF_SIZE, Kind, Want, decode, encode

from .conftest import NOW, HeadMaker, HolderMaker, identity

AGENT = "example/1.2.3"

Answer = Callable[[list[Any], Address], list[Any]]


class FakeNode(asyncio.DatagramProtocol):
    """Answers every query with the body that `answer` makes, under the id of `identity(66)`."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        query = decode(data, DEFAULT_NETWORK)
        body = self._answer(query.body, addr)
        sender = identity(66).node_id
        self.transport.sendto(
            encode(DEFAULT_NETWORK, query.kind, query.transaction, sender, body, is_reply=True), addr
        )


async def ping_fake(answer: Answer) -> Any:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: FakeNode(answer), local_addr=("127.0.0.1", 0))
    client = await start_node(99, server=False)
    try:
        return await ping_address(client, transport.get_extra_info("sockname"), count=1)
    finally:
        await client.close()
        transport.close()


async def test_a_ping_says_who_answers_and_how_it_sees_us() -> None:
    async with loopback_network(1, agent=AGENT) as (node,):
        client = await start_node(99, server=False)
        report = await ping_address(client, node.address, count=3)
        assert len(report.rtts) == len(report.pongs) == 3
        assert all(pong.verified and not pong.bad for pong in report.pongs)
        assert report.last is not None
        assert (report.last.node_id, report.last.agent) == (node.node_id, AGENT)
        assert report.last.observed is not None
        assert report.last.observed[1] == client.address[1]
        await client.close()


async def test_nobody_there_is_silence_and_nothing_bad() -> None:
    async with loopback_network(1) as (node,):
        client = await start_node(99, server=False)
        address = node.address
        node.protocol.close()
        report = await ping_address(client, address, count=1)
        assert report.last is None
        assert report.rtts == []
        (pong,) = report.pongs
        assert pong.resent
        assert not pong.bad
        await client.close()


async def test_a_client_answers_nobody() -> None:
    silent = await start_node(1, server=False)
    client = await start_node(99, server=False)
    assert (await ping_address(client, silent.address, count=1)).last is None
    await client.close()
    await silent.close()


async def test_an_id_without_its_key_is_told_from_silence() -> None:
    def forged(body: list[Any], asker: Address) -> list[Any]:
        return [pack_address(asker), bytes(TOKEN_SIZE), bytes(PROOF_SIZE) if body[0] else None]

    report = await ping_fake(forged)
    (pong,) = report.pongs
    assert pong.bad
    assert not pong.verified
    assert report.last is not None
    assert report.last.node_id == identity(66).node_id


async def test_an_answer_without_sense_is_bad_and_names_nobody() -> None:
    report = await ping_fake(lambda _body, _asker: ["nothing", 7])
    assert report.last is None
    assert report.pongs[0].bad


@pytest.mark.parametrize("agent", [b"\x1b[2J", "ünï".encode(), b"x" * (MAX_AGENT + 1), 7, [b"x"]])
async def test_a_hostile_name_of_a_software_is_no_name(agent: object) -> None:
    def named(body: list[Any], asker: Address) -> list[Any]:
        return [pack_address(asker), bytes(TOKEN_SIZE), None if body[0] is None else b"no proof", agent]

    report = await ping_fake(named)
    assert report.last is not None
    assert report.last.agent == ""


@pytest.mark.parametrize("agent", ["x" * (MAX_AGENT + 1), "tab\t", "ünï"])
def test_a_node_has_a_name_that_others_can_print(agent: str) -> None:
    async def make() -> None:
        with pytest.raises(ValueError, match="agent"):
            DhtNode(identity(1), agent=agent)

    asyncio.run(make())


@pytest.mark.parametrize("pad", [0, 128])
async def test_the_name_of_a_software_never_amplifies(pad: int) -> None:
    async with loopback_network(1, agent="x" * MAX_AGENT) as (node,):
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        class Asker(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                answered.set_result(data)

        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            Asker, local_addr=("127.0.0.1", 0)
        )
        query = encode(
            DEFAULT_NETWORK, Kind.PING, b"8 bytes!", bytes(20), [bytes(NONCE_SIZE), None], pad_to=pad
        )
        transport.sendto(query, node.address)
        reply = await asyncio.wait_for(answered, 60)
        transport.close()
        assert len(reply) <= 3 * len(query)
        assert len(decode(reply, DEFAULT_NETWORK).body) == (4 if pad else 3)


def head_of(root: Identity) -> Head:
    return Head.sign(
        root, root.public_key, epoch=0, seq=9, payload=b"", signed_at=NOW, fresh_until=NOW + 3600
    )


def check_path(trace: Trace) -> None:
    """What holds for every trace: the way to each node, and that nobody is asked twice."""
    asked = {step.contact.id: step for step in trace.steps}
    assert len(asked) == len(trace.steps)
    key = int.from_bytes(trace.key, "big")
    for step in trace.steps:
        assert step.distance == int.from_bytes(step.contact.id, "big") ^ key
        assert step.bits == step.distance.bit_length()
        if step.teller is None:
            assert step.hop == 1
        else:
            teller = asked[step.teller]
            assert step.hop == teller.hop + 1
            assert teller.answered_at is not None
            assert teller.answered_at <= step.asked_at
        assert (step.rtt is not None) == (step.outcome is Outcome.ANSWERED) or step.outcome is Outcome.BAD
        assert 0 <= step.new <= step.told
    assert sum(trace.count(outcome) for outcome in Outcome) == len(trace.steps)


async def test_a_lookup_shows_every_copy_and_its_way(root: Identity, make_head: HeadMaker) -> None:
    async with loopback_network(30) as nodes:
        head = make_head(3)
        assert await nodes[3].put_head(head.raw) == 20
        client = await start_node(99, server=False)
        await client.join([nodes[0].address])
        seen: list[bytes] = []
        trace = await trace_lookup(
            client, head_key(root.public_key), on_step=lambda step: seen.append(step.contact.id)
        )
        check_path(trace)
        assert trace.best is not None
        assert (trace.best.epoch, trace.best.seq) == (0, 3)
        holding = {node.node_id for node in nodes if node.storage.head(head.key)}
        assert {step.contact.id for step in trace.heads} == holding
        assert set(seen) == {s.contact.id for s in trace.steps if s.outcome is not Outcome.OPEN}
        assert trace.datagrams_out >= len(trace.steps) >= trace.count(Outcome.ANSWERED) >= 20
        assert trace.datagrams_in >= trace.count(Outcome.ANSWERED)
        await client.close()


async def test_a_lookup_takes_the_way_that_all_lookups_take() -> None:
    async with loopback_network(25) as nodes:
        target = bytes(range(20))
        plain = await Lookup(nodes[0].protocol, nodes[0].protocol.families()[0], target).run()
        trace = await trace_lookup(nodes[0], target, Want.NODES)
        check_path(trace)
        answered = sorted(
            (step for step in trace.steps if step.outcome is Outcome.ANSWERED),
            key=lambda step: step.distance,
        )
        assert [step.contact.id for step in answered[:20]] == [answer.contact.id for answer in plain]


async def test_the_dead_are_silent_and_the_old_are_seen(root: Identity, make_head: HeadMaker) -> None:
    async with loopback_network(10) as nodes:
        old, new = make_head(1), make_head(2)
        for node in nodes[:4]:
            node.storage.put(old.raw)
        for node in nodes[4:8]:
            node.storage.put(new.raw)
        client = await start_node(99, server=False)
        await client.join([nodes[0].address])
        nodes[7].protocol.close()
        trace = await trace_lookup(client, head_key(root.public_key))
        check_path(trace)
        assert [step.head.seq for step in trace.heads if step.head].count(1) == 4
        assert [step.head.seq for step in trace.heads if step.head].count(2) == 3
        assert trace.best is not None
        assert trace.best.seq == 2
        dead = next(step for step in trace.steps if step.contact.id == nodes[7].node_id)
        assert dead.outcome in (Outcome.SILENT, Outcome.OPEN)
        assert dead.resent
        await client.close()


async def test_what_does_not_verify_is_no_copy(root: Identity, make_head: HeadMaker) -> None:
    async with loopback_network(4) as nodes:
        key = head_key(root.public_key)
        head = make_head()
        await nodes[0].put_head(head.raw)
        other = head_of(identity(201)).raw
        answers: list[Any] = [head.raw[:-1] + b"x", other, 7]
        for node, answer in zip(nodes[1:], answers, strict=True):
            tell_lies(node, lambda _key, _value, answer=answer: ((), [answer, 0]))  # type: ignore[misc]  # bound now
        client = await start_node(99, server=False)
        await client.join([nodes[0].address])
        trace = await trace_lookup(client, key)
        assert len(trace.heads) == 1
        assert sum(step.invalid for step in trace.steps) == 3
        assert trace.best is not None
        assert trace.best.raw == head.raw
        await client.close()


async def test_holders_are_counted_where_they_are_kept(root: Identity, make_holder: HolderMaker) -> None:
    async with loopback_network(6) as nodes:
        records = [make_holder(identity(number)) for number in range(1, 4)]
        for node in nodes:
            for record in records:
                node.storage.put(record.raw)
        client = await start_node(99, server=False)
        await client.join([nodes[0].address])
        trace = await trace_lookup(client, holders_key(root.public_key), Want.HOLDERS)
        check_path(trace)
        assert {step.kept for step in trace.steps} == {3}
        assert {record.node_key for record in trace.holders} == {record.node_key for record in records}
        await client.close()


async def test_a_lookup_of_nothing_ends_with_nothing() -> None:
    client = await start_node(99, server=False)
    trace = await trace_lookup(client, bytes(20))
    assert (trace.steps, trace.best, trace.holders) == ([], None, [])
    with pytest.raises(ValueError, match="20 bytes"):
        await trace_lookup(client, bytes(19))
    await client.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_paths_in_a_lossy_network_with_forty_percent_dead(seed: int) -> None:
    async def run() -> None:
        network = VirtualNetwork(seed, loss=0.02)
        await network.grow(60)
        client = network.add(server=False)
        await client.join([node.address for node in network.nodes[:3]])
        for node in network.rng.sample(network.nodes[3:-1], 24):
            network.kill(node)
        alive = {node.node_id for node in network.nodes}
        given_up = 0
        for _ in range(4):
            trace = await trace_lookup(client, network.rng.randbytes(20))
            check_path(trace)
            answered = {step.contact.id for step in trace.steps if step.outcome is Outcome.ANSWERED}
            assert answered <= alive
            # A read may end before it has given up the last of the dead that it asked.
            dead = [step.outcome for step in trace.steps if step.contact.id not in alive]
            assert set(dead) <= {Outcome.SILENT, Outcome.OPEN}
            assert not trace.count(Outcome.BAD)
            given_up += trace.count(Outcome.SILENT)
        assert given_up
        await network.close()

    run_virtual(run)

"""Defects of the kademlia package in how it serves requests; see `package`."""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack
import rpcudp.protocol
import umsgpack

from p2psync_dht import codec
from p2psync_dht.ratelimit import PER_SOURCE_BURST
from p2psync_dht.testing.virtual import run_virtual
from p2psync_dht.wire import AMPLIFICATION, DEFAULT_NETWORK, Kind, Status, Want, decode, encode

from .package import PEER, PEER_ID, OurNode, PackageNode, both, head, package_request

KEY = bytes(range(20))


@both
def test_each_datagram_costs_two_tasks(ours: bool) -> None:
    """`RPCProtocol.datagram_received` makes a task for the datagram, and that one for the request, without a
    bound.
    """
    count = 100

    async def run() -> None:
        made: list[Any] = []
        loop = asyncio.get_running_loop()

        def factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
            made.append(work)
            return asyncio.Task(work, loop=loop, **options)

        loop.set_task_factory(factory)
        if ours:
            node = OurNode(contacts=(), server=True)
            for _ in range(count):
                assert node.receive(Kind.PING, [None, None]) is not None
            assert made == []
            return
        package = PackageNode()
        for _ in range(count):
            package.protocol.datagram_received(package_request("ping", PEER_ID), PEER)
        assert len(made) == count
        await asyncio.sleep(0.001)
        assert len(made) == 2 * count

    run_virtual(run)


@both
def test_one_address_is_answered_without_limit(ours: bool) -> None:
    """`RPCProtocol` has no rate limit, by address or overall."""
    count = 3 * int(PER_SOURCE_BURST)

    async def run() -> None:
        if ours:
            node = OurNode(contacts=(), server=True)
            answers = sum(node.receive(Kind.PING, [None, None]) is not None for _ in range(count))
            assert answers == PER_SOURCE_BURST
            assert node.node.counters.drops["rate"] == count - PER_SOURCE_BURST
            assert node.receive(Kind.PING, [None, None], sender=("127.0.0.66", 1)) is not None
            return
        package = PackageNode()
        for _ in range(count):
            package.protocol.datagram_received(package_request("ping", PEER_ID), PEER)
        await asyncio.sleep(0.001)
        assert len(package.wire.sent) == count

    run_virtual(run)


@both
def test_datagrams_are_coded_in_pure_python(ours: bool) -> None:
    """`rpcudp` uses umsgpack, which is Python; ours is the extension of msgpack, which is C."""
    if ours:
        assert vars(codec)["msgpack"] is msgpack
        assert "cmsgpack" in msgpack.Packer.__module__
    else:
        assert rpcudp.protocol.umsgpack is umsgpack
        assert umsgpack.packb.__code__.co_filename.endswith(".py")


@both
def test_a_small_request_draws_a_large_reply_to_a_forged_address(ours: bool) -> None:
    """There is no write token, and nothing else that proves an address: 78 bytes draw 8,076."""

    async def run() -> None:
        if ours:
            node = OurNode(contacts=(), server=True)
            one = head()
            node.node.storage.put(one.raw)
            for pad in (0, 100, 400, 1200):
                request = encode(
                    DEFAULT_NETWORK, Kind.FIND, bytes(8), PEER_ID, [one.key, int(Want.HEAD), None, None, None]
                ).ljust(pad, b"\0")
                node.protocol.datagram_received(request, PEER)
                assert all(len(raw) <= AMPLIFICATION * len(request) for raw, _ in node.wire.sent)
                node.wire.sent.clear()
            return
        package = PackageNode()
        package.protocol.storage[KEY] = b"x" * 8000
        request = package_request("find_value", PEER_ID, KEY)
        reply = await package.receive("find_value", PEER_ID, KEY)
        assert len(reply) > 90 * len(request)

    run_virtual(run)


@both
def test_a_store_needs_no_proof_of_the_senders_address(ours: bool) -> None:
    """A single datagram with a forged source address stores."""

    async def run() -> None:
        if ours:
            node = OurNode(contacts=(), server=True)
            for token in (bytes(8), node.token(("127.0.0.66", 1))):
                reply = node.receive(Kind.STORE, [token, [head().raw]])
                assert reply is not None
                assert decode(reply, DEFAULT_NETWORK).body[2] is None
            assert len(node.node.storage) == 0
            reply = node.receive(Kind.STORE, [node.token(), [head().raw]])
            assert reply is not None
            assert decode(reply, DEFAULT_NETWORK).body[2] == bytes([Status.STORED])
            return
        package = PackageNode()
        package.protocol.datagram_received(package_request("store", PEER_ID, KEY, b"value"), PEER)
        await asyncio.sleep(0.001)
        assert package.protocol.storage.get(KEY) == b"value"

    run_virtual(run)

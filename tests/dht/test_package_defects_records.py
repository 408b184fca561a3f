"""Defects of the kademlia package in what it stores, refreshes and saves; see `package`. Time is virtual."""

from __future__ import annotations

import asyncio
import os
import pickle
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kademlia.network import Server
from kademlia.storage import ForgetfulStorage

from p2psync_dht import Endpoint, HolderRecord, HolderRole, Identity, RecordError
from p2psync_dht.announce import refresh_head
from p2psync_dht.maintenance import TICK, Maintenance
from p2psync_dht.persistence import load_contacts, load_records
from p2psync_dht.storage import MAX_SOURCE_SHARE, RecordStore
from p2psync_dht.testing.virtual import EPOCH, VirtualNetwork, run_virtual
from p2psync_dht.wire import Kind, Status, decode

from .conftest import identity
from .package import NOW, PEER, PEER_ID, OurNode, PackageNode, both, head

KEY = bytes(range(20))


def holder(who: Identity, **fields: Any) -> HolderRecord:
    values: dict[str, Any] = {
        "endpoints": [Endpoint(PEER[0], 1)],
        "issued": NOW,
        "expires": NOW + 60,
        "role": HolderRole.PEER,
    } | fields
    return HolderRecord.sign(who, KEY, **values)


def store_here(node: OurNode, raw: bytes, **options: Any) -> Status:
    """What becomes of a record that a stranger with a valid token stores."""
    reply = node.receive(Kind.STORE, [node.token(), [raw]], **options)
    assert reply is not None
    return Status(decode(reply, reply[:4]).body[2][0])


async def package_stores(value: Any, key: Any = KEY) -> PackageNode:
    package = PackageNode()
    await package.receive("store", PEER_ID, key, value)
    assert package.protocol.storage.get(key) == value
    return package


@both
def test_anyone_overwrites_anything(ours: bool) -> None:
    """`rpc_store` replaces a value by whatever comes next."""

    async def run() -> None:
        if ours:
            node = OurNode(server=True)
            new, old = head(2), head(1)
            forged = head(3).raw[:-1] + bytes([head(3).raw[-1] ^ 1])
            assert store_here(node, new.raw) == Status.STORED
            assert store_here(node, forged) == Status.REFUSED
            assert store_here(node, old.raw) == Status.OLDER
            assert node.node.storage.get(new.key) == [new.raw]
            return
        package = await package_stores(b"the publisher's")
        await package.receive("store", b"x" * 20, KEY, b"a stranger's", sender=("127.0.0.66", 1))
        assert package.protocol.storage.get(KEY) == b"a stranger's"

    run_virtual(run)


@pytest.mark.parametrize(
    "value", [b"x" * 8000, [[1]] * 500, {"a": {}}, None, b""], ids=lambda one: type(one).__name__
)
@both
def test_values_have_no_size_and_no_type(ours: bool, value: Any) -> None:
    """`rpc_store` keeps whatever fits a datagram; `Server.set` alone looks at types, on the sender's side."""

    async def run() -> None:
        if ours:
            node = OurNode(server=True)
            if type(value) is bytes and len(value) < 1000:
                assert store_here(node, value) == Status.REFUSED
            elif type(value) is not bytes:
                assert node.receive(Kind.STORE, [node.token(), [value]]) is None
                assert node.node.counters.drops["field"] == 1
            else:
                # A record of that size fits no datagram, and the store refuses it all the same.
                assert node.node.storage.put(value) == Status.REFUSED
            assert len(node.node.storage) == 0
            return
        package = PackageNode()
        await package.receive("store", PEER_ID, KEY, value)
        assert dict(package.protocol.storage)[KEY] == value

    run_virtual(run)


@both
def test_one_sender_fills_the_store(ours: bool) -> None:
    """`rpc_store` knows no quota."""
    count = 200

    async def run() -> None:
        rng = random.Random(6)
        if ours:
            store = RecordStore(lambda: EPOCH, rng, max_records=count // 2)
            for number in range(count):
                raw = HolderRecord.sign(
                    identity(5),
                    number.to_bytes(20, "big"),
                    endpoints=[Endpoint(*PEER)],
                    issued=NOW,
                    expires=NOW + 60,
                    role=HolderRole.PEER,
                ).raw
                store.put(raw, source=1, sender_ip=PEER[0])
            assert len(store) == count // 2 // MAX_SOURCE_SHARE
            assert store.put(head().raw, source=2) == Status.STORED
            return
        package = PackageNode()
        for _ in range(count):
            await package.receive("store", PEER_ID, rng.randbytes(20), b"junk")
        assert len(list(package.protocol.storage)) == count

    run_virtual(run)


@both
def test_storing_again_moves_the_expiry(ours: bool) -> None:
    """`ForgetfulStorage` counts from the last store: so anybody keeps it alive, and nobody can end it."""

    async def run() -> None:
        if ours:
            now = [EPOCH]
            store = RecordStore(lambda: now[0], random.Random(1))
            record = holder(identity(5))
            for _ in range(5):
                now[0] += 10
                assert store.put(record.raw) in (Status.STORED, Status.SAME)
            now[0] = record.expires
            assert store.put(record.raw) == Status.REFUSED or store.get(KEY) is None
            assert store.get(KEY) is None
            return
        store_of_package = ForgetfulStorage(ttl=100)
        store_of_package[KEY] = b"value"
        for _ in range(5):
            moved = time.monotonic() - 99
            store_of_package.data[KEY] = (moved, b"value")  # 99 of its 100 seconds pass
            store_of_package[KEY] = b"value"
            assert store_of_package.data[KEY][0] > moved + 90

    run_virtual(run)


@both
def test_a_key_has_one_value(ours: bool) -> None:
    """`IStorage` of the package maps a key to a value: the second holder replaces the first."""

    async def run() -> None:
        if ours:
            node = OurNode(server=True)
            raws = [holder(identity(number)).raw for number in (5, 6, 7)]
            assert [store_here(node, raw) for raw in raws] == [Status.STORED] * 3
            assert sorted(node.node.storage.get(KEY)) == sorted(raws)
            return
        package = await package_stores(b"first holder")
        await package.receive("store", PEER_ID, KEY, b"second holder")
        assert package.protocol.storage.get(KEY) == b"second holder"

    run_virtual(run)


@both
def test_one_odd_key_stops_all_republishing(ours: bool) -> None:
    """`Server._refresh_table` raises at a key that is no id, which any stranger stores."""

    async def run() -> None:
        if ours:
            node = OurNode(server=True)
            with pytest.raises(RecordError):
                node.node.storage[b""] = b"odd"
            assert store_here(node, b"odd") == Status.REFUSED
            assert store_here(node, head().raw) == Status.STORED
            assert [key for key, _ in node.node.storage.iter_older_than(0)] == [head().key]
            await Maintenance(node.node._server, lambda: asyncio.sleep(0)).round()
            assert node.node.storage.get(head().key) == [head().raw]
            return
        package = await package_stores(b"odd", key=b"")
        package.protocol.storage[KEY] = b"good"
        store = package.server.storage
        assert store is package.protocol.storage or not store.data  # an empty store is false: it was replaced
        package.server.storage = package.protocol.storage
        for key, (_, value) in list(package.protocol.storage.data.items()):
            package.protocol.storage.data[key] = (-1e9, value)
        package.protocol.storage.ttl = 1e12
        republished: list[bytes] = []
        real = package.server.set_digest

        async def noted(key: bytes, value: Any) -> Any:
            await real(key, value)
            republished.append(key)

        package.server.set_digest = noted
        with pytest.raises(ValueError, match="invalid literal"):
            await package.server._refresh_table()
        assert republished == []

    run_virtual(run)


@both
def test_every_holder_republishes_everything(ours: bool) -> None:
    """`Server._refresh_table` stores each old value at twenty nodes, although twenty others do the same."""
    others = 20

    async def run() -> None:
        if ours:
            network = VirtualNetwork(12, loss=0.0)
            await network.grow(others)
            one = head()
            await network.nodes[0].put_head(one.raw)
            assert sum(node.storage.head(one.key) is not None for node in network.nodes) == others
            stores = 0
            for node in network.nodes:
                stores += await refresh_head(node.protocol, node.protocol.families(), one.raw, others)
            assert stores == 0
            await network.close()
            return
        stores = 0
        for _ in range(3):  # of the holders
            package = PackageNode(
                lambda name, _args, _to: [] if name == "find_node" else True,
                [(bytes([number]) * 20, ("127.0.0.9", number)) for number in range(1, others + 1)],
            )
            package.server.storage = package.protocol.storage
            package.protocol.storage.data[KEY] = (time.monotonic() - 3601, b"value")
            await package.server._refresh_table()
            stores += sum(name == "store" for name, _, _ in package.calls())
        assert stores == 3 * others

    run_virtual(run)


@both
def test_refreshing_has_no_jitter(ours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Server.refresh_table` runs every 3,600 s exactly: nodes that were started together stay together."""

    async def run() -> None:
        if ours:
            pauses: list[float] = []
            for seed in range(5):
                node = OurNode(server=True)
                node.protocol.rng = random.Random(seed)
                rounds = Maintenance(node.node._server, lambda: asyncio.sleep(0))
                real = asyncio.sleep

                async def noted(seconds: float, real: Callable[..., Any] = real) -> None:
                    pauses.append(seconds)
                    await real(0)
                    raise asyncio.CancelledError

                with monkeypatch.context() as patched, pytest.raises(asyncio.CancelledError):
                    patched.setattr("p2psync_dht.maintenance.asyncio.sleep", noted)
                    await rounds.run()
            assert len(set(pauses)) == 5
            assert all(0.75 * TICK <= pause <= 1.25 * TICK for pause in pauses)
            return
        handles = []
        for _ in range(5):
            package = PackageNode()
            package.server.refresh_table()
            handles.append(package.server.refresh_loop)
        assert len({handle.when() for handle in handles}) == 1
        await asyncio.sleep(0)

    run_virtual(run)


class _Command:
    """What unpickles to a call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@both
async def test_loading_state_runs_what_the_file_says(ours: bool, tmp_path: Path) -> None:
    """`Server.load_state` unpickles."""
    file, made = tmp_path / "state", tmp_path / "made by the file"
    file.write_bytes(pickle.dumps(_Command(made)))
    if ours:
        assert load_contacts(file) == []
        assert await load_records(file, RecordStore(lambda: EPOCH, random.Random(1))) == 0
        assert not made.exists()
        return
    with pytest.raises(TypeError):
        await Server.load_state(str(file), 0)
    assert made.exists()

"""Nominations: who is listed as a holder, and who is not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.help.waiting import PATIENCE
from tests.node.wire_support import Served, says, scripted, served

from p2psync.content import nominate
from p2psync.content.debts import Debts
from p2psync.content.library import HOLDERS_PER_ADDRESS_MAX
from p2psync.content.nominate import CALLBACKS_PER_NETWORK
from p2psync.content.server import ContentServer
from p2psync.content.threads import Threads
from p2psync.errors import NetworkError
from p2psync.network.here import plain_ip
from p2psync.sources.node import PeerSource
from p2psync.sources.source import Busy, NotHere
from p2psync_dht import Endpoint, HolderRecord, HolderRole, Identity, holders_key

NOW = int(time.time())


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    (tmp_path / "t").mkdir()
    async with served(tmp_path, tmp_path / "t", callback_timeout=0.5) as made:
        yield made


@pytest.fixture
async def other(node: Served) -> AsyncIterator[tuple[Identity, ContentServer]]:
    """Another node, which wants to be listed."""
    identity = Identity.generate()
    server = await ContentServer.start(node.library, "127.0.0.1", 0, node_key=identity.public_key)
    yield identity, server
    await server.close()


def record(
    identity: Identity,
    archive: bytes,
    *endpoints: Endpoint,
    issued: int = NOW - 1,
    expires: int = NOW + 3600,
) -> bytes:
    return HolderRecord.sign(
        identity,
        holders_key(archive),
        endpoints=endpoints,
        issued=issued,
        expires=expires,
        role=HolderRole.PEER,
    ).raw


async def test_a_reachable_node_is_listed(
    node: Served, peer: PeerSource, other: tuple[Identity, ContentServer]
) -> None:
    identity, server = other
    raw = record(identity, node.archive, Endpoint(*server.address))
    for _ in range(2):  # the second time the bytes are known, and nobody is called back
        await peer.nominate(node.archive, raw)
        assert await peer.holders(node.archive) == [raw]
    assert server.counters.requests == 1


async def test_records_that_are_not_right(
    node: Served, peer: PeerSource, other: tuple[Identity, ContentServer]
) -> None:
    identity, server = other
    here = Endpoint(*server.address)
    good = record(identity, node.archive, here)
    wrong = {
        "damaged": good[:-1] + bytes([good[-1] ^ 1]),
        "cut": good[:50],
        "of another archive": record(identity, b"\2" * 32, here),
        "expired": record(identity, node.archive, here, issued=NOW - 7200, expires=NOW - 3600),
        "of the future": record(identity, node.archive, here, issued=NOW + 3600, expires=NOW + 7200),
        "of this node itself": record(node.identity, node.archive, here),
    }
    for raw in wrong.values():
        with pytest.raises(NetworkError, match="400"):
            await peer.nominate(node.archive, raw)
    elsewhere = (
        Endpoint("192.0.2.1", 8730),
        Endpoint("127.0.0.2", server.address[1]),
        Endpoint(url="http://127.0.0.1/"),
    )
    for endpoint in elsewhere:
        with pytest.raises(NetworkError, match="refuses"):
            await peer.nominate(node.archive, record(identity, node.archive, here, endpoint))
    with pytest.raises(NotHere, match="does not have this archive"):
        await peer.nominate(b"\2" * 32, record(identity, b"\2" * 32, here))
    with pytest.raises(NetworkError, match="413"):
        await peer.nominate(node.archive, b"x" * 1000)
    assert await peer.holders(node.archive) == []


async def test_one_address_more_may_be_of_the_other_family(
    node: Served, peer: PeerSource, other: tuple[Identity, ContentServer]
) -> None:
    """It may not be reachable from here; where the request came from is tried all the same."""
    identity, server = other
    here = Endpoint(*server.address)
    raw = record(identity, node.archive, here, Endpoint("::1", 9))
    await peer.nominate(node.archive, raw)
    assert await peer.holders(node.archive) == [raw]
    for far in ("2001:db8::1", "fd00::1"):
        with pytest.raises(NetworkError, match="refuses"):
            await peer.nominate(node.archive, record(identity, node.archive, here, Endpoint(far, 9)))
    with pytest.raises(NetworkError, match="refuses"):
        await peer.nominate(node.archive, record(identity, node.archive, Endpoint("::1", 9)))


async def test_whoever_answers_with_another_key_is_not_listed(
    node: Served, peer: PeerSource, other: tuple[Identity, ContentServer]
) -> None:
    raw = record(Identity.generate(), node.archive, Endpoint(*other[1].address))
    with pytest.raises(NetworkError, match="refuses"):
        await peer.nominate(node.archive, raw)
    assert await peer.holders(node.archive) == []


async def test_whoever_does_not_answer_is_not_listed(node: Served, peer: PeerSource) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    for talk in (silent, says(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), says()):
        async with scripted(talk) as server:
            raw = record(Identity.generate(), node.archive, Endpoint(server.host, server.port))
            with pytest.raises(NetworkError, match="refuses"):
                await peer.nominate(node.archive, raw)
    assert await peer.holders(node.archive) == []


async def test_one_address_cannot_have_many_checked_at_once(node: Served) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with scripted(silent) as server:
        raws = [
            record(Identity.generate(), node.archive, Endpoint(server.host, server.port)) for _ in range(4)
        ]
        peers = [PeerSource(node.address) for _ in raws]  # One would ask for them one after another.
        calls = [peer.nominate(node.archive, raw) for peer, raw in zip(peers, raws, strict=True)]
        errors = await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.gather(*(peer.close() for peer in peers))
        assert server.connections == 1
        assert sum(isinstance(error, Busy) for error in errors) == 3


async def test_one_address_cannot_fill_the_list(node: Served) -> None:
    for port in range(1, HOLDERS_PER_ADDRESS_MAX + 5):
        place = Endpoint("127.0.0.1", port)
        raw = record(Identity.generate(), node.archive, place)
        kept = node.library.keep_holder(node.archive, HolderRecord.decode(raw), place)
        assert kept is (port <= HOLDERS_PER_ADDRESS_MAX)
    assert len(node.library.holders(node.archive)) == HOLDERS_PER_ADDRESS_MAX


async def test_what_was_only_heard_is_handed_out_to_nobody(
    node: Served, peer: PeerSource, other: tuple[Identity, ContentServer]
) -> None:
    """99 fakes for one who was called back; and whoever was heard of is called back all the same."""
    identity, server = other
    real = record(identity, node.archive, Endpoint(*server.address))
    fakes = [record(Identity.generate(), node.archive, Endpoint(f"{n}.8.8.8", 8730)) for n in range(100, 199)]
    heard = [HolderRecord.decode(raw) for raw in (*fakes, real) if b"\x7f\x08\x08\x08" not in raw]
    node.state.holders.hear(node.archive, heard, NOW)
    assert len(node.state.holders.present(node.archive, NOW)) > 90
    assert await peer.holders(node.archive) == []
    await peer.nominate(node.archive, real)
    assert await peer.holders(node.archive) == [real]
    assert server.counters.requests == 1


@pytest.mark.parametrize(
    ("pattern", "at_once"),
    [("8.8.8.{n}", CALLBACKS_PER_NETWORK.site), ("2a01:4f8:{n:x}::1", CALLBACKS_PER_NETWORK.provider)],
)
async def test_somebody_with_a_whole_provider_keeps_nobody_from_being_checked(
    node: Served, monkeypatch: pytest.MonkeyPatch, pattern: str, at_once: int
) -> None:
    calling: list[str] = []
    other_called = asyncio.Event()

    class Silent:
        def __init__(self, name: str, **settings: float) -> None:
            calling.append(name)
            if name == "9.9.9.9:8730":
                other_called.set()

        async def info(self) -> None:
            await asyncio.Event().wait()

        async def close(self) -> None:
            return

    monkeypatch.setattr(nominate, "PeerSource", Silent)
    threads = Threads(Debts())
    nominations = nominate.Nominations(node.library, threads, own_key=bytes(32), callback_timeout=60)
    ips = [pattern.format(n=n) for n in range(1, 50)] + ["9.9.9.9"]
    raws = [record(Identity.generate(), node.archive, Endpoint(ip, 8730)) for ip in ips]
    tried = [
        asyncio.ensure_future(nominations.consider(node.archive, raw, ip))
        for raw, ip in zip(raws, ips, strict=True)
    ]
    waiting = set(tried)
    while len(waiting) > at_once + 1:
        _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
    async with asyncio.timeout(PATIENCE):
        await other_called.wait()
    assert len(calling) == at_once + 1
    for task in tried:
        task.cancel()
    await asyncio.gather(*tried, return_exceptions=True)
    await threads.close()


def test_one_spelling_per_address() -> None:
    assert plain_ip("::ffff:192.0.2.1") == "192.0.2.1"
    assert plain_ip("fe80::1%eth0") == "fe80::1"
    assert plain_ip("2001:DB8::0:1") == "2001:db8::1"

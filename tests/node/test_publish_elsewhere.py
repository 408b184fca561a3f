"""Before it signs, a publisher asks who is known to have the archive: by the DHT, and by HTTP where UDP is
silent.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.node.wire_support import Served, says, scripted, served

from p2psync import Client
from p2psync.format.url import ArchiveUrl
from p2psync.publish import publish
from p2psync.sources.finders import before
from p2psync.sources.finders.before import heads_elsewhere
from p2psync.state import State
from p2psync.state.keys import to_pem
from p2psync_dht import Endpoint, HolderRecord, HolderRole, Identity, holders_key


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "f").write_bytes(b"one")
    async with served(tmp_path, tmp_path / "t") as made:
        yield made


def knows(state: State, archive: bytes, who: Identity, ip: str, port: int) -> None:
    """A state directory has heard of a holder."""
    now = int(time.time())
    record = HolderRecord.sign(
        who,
        holders_key(archive),
        endpoints=[Endpoint(ip, port)],
        issued=now,
        expires=now + 3600,
        role=HolderRole.MIRROR,
    )
    state.holders.put(
        archive, record.raw, node_key=who.public_key, issued=record.issued, expires=record.expires
    )


async def test_a_head_that_a_known_holder_has_is_gone_on_from(node: Served, tmp_path: Path) -> None:
    """As after a backup was put back: this state directory knows of no snapshot, and others have three."""
    root = node.state.keys.root(node.archive)
    assert root is not None
    for content in (b"two", b"three"):
        (node.tree / "f").write_bytes(content)
        newest = publish(node.state, node.tree)
    async with Client(tmp_path / "elsewhere") as client:
        client.state.keys.import_root(to_pem(root))
        host, _, port = node.address.rpartition(":")
        knows(client.state, node.archive, node.identity, host, int(port))
        (tmp_path / "again").mkdir()
        done = await client.publish(tmp_path / "again", archive=node.archive, accept_shrink=True)
        assert newest.head.seq == 3
        assert done.head.seq == 4


async def test_who_was_given_for_a_mirror_is_asked(node: Served, tmp_path: Path) -> None:
    async with Client(tmp_path / "m") as client:
        url = ArchiveUrl(node.archive, peers=(node.address,))
        await client.mirror(url, tmp_path / "copy")
        (node.tree / "f").write_bytes(b"two")
        newest = publish(node.state, node.tree)
        found = await heads_elsewhere(client.state, node.archive, ())
        assert [head.seq for head in found] == [newest.head.seq]


async def test_silence_and_nonsense_cost_seconds_and_no_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    monkeypatch.setattr(before, "PATIENCE", 0.3)
    archive = os.urandom(32)
    nonsense = says(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
    with State.open(tmp_path / "state") as state:
        async with scripted(silent) as one, scripted(nonsense) as two:
            for place in (one, two):
                knows(state, archive, Identity.generate(), place.host, place.port)
            knows(state, archive, Identity.generate(), "127.0.0.1", 9)
            assert await heads_elsewhere(state, archive, ()) == []
            assert one.connections == two.connections == 1


async def test_a_victim_that_is_named_as_a_holder_is_asked_who_it_is_and_nothing_else(
    node: Served, tmp_path: Path
) -> None:
    """It even has the archive; but its key is not that of the record."""
    host, _, port = node.address.rpartition(":")
    with State.open(tmp_path / "state") as state:
        knows(state, node.archive, Identity.generate(), host, int(port))
        assert await heads_elsewhere(state, node.archive, ()) == []
        state.holders.drop(node.archive, state.holders.records(node.archive, 0)[0].node_key)
        knows(state, node.archive, node.identity, host, int(port))
        assert len(await heads_elsewhere(state, node.archive, ())) == 1


async def test_nobody_is_asked_of_an_archive_that_has_just_been_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    async def ask(state: State, archive: bytes, bootstrap: object) -> list[object]:
        asked.append(archive)
        return []

    monkeypatch.setattr(before, "heads_elsewhere", ask)
    (tmp_path / "new").mkdir()
    async with Client(tmp_path / "state") as client:
        done = await client.publish(tmp_path / "new")
        assert asked == []
        await client.publish(tmp_path / "new")
        assert asked == [done.archive]

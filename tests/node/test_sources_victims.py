"""What a stranger's server, that a thousand records name as a holder, sees of a client: real sockets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from tests.node.wire_support import Served, scripted, served

from p2psync.fetch.options import FetchOptions
from p2psync.format.coverage import Coverage
from p2psync.format.url import ArchiveUrl
from p2psync.network.protocols import Network
from p2psync.network.way import Way
from p2psync.sources import wire
from p2psync.sources.finders.discovery import Discovery
from p2psync.sources.swarm import Swarm
from p2psync.state import State
from p2psync_dht import Endpoint, HolderRecord, HolderRole, Identity, holders_key


class Told:
    """A DHT in which only liars tell of holders."""

    reachable = True
    way = Way()

    def __init__(self, records: list[HolderRecord]) -> None:
        self._records = records

    def observed(self, family: socket.AddressFamily) -> str | None:
        return None

    async def get_head(self, archive: bytes) -> None:
        return None

    async def get_holders(self, key: bytes) -> list[HolderRecord]:
        return self._records


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "f").write_bytes(b"one")
    async with served(tmp_path, tmp_path / "t") as made:
        yield made


@pytest.mark.parametrize(
    "says", [None, b"", b"ERROR\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"]
)
async def test_a_victim_in_a_thousand_records_gets_one_connection_and_the_question_who_it_is(
    node: Served, tmp_path: Path, says: bytes | None
) -> None:
    asked: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Silent, or it says something and hangs up."""
        asked.append((await reader.readuntil(b"\r\n\r\n")).splitlines()[0])
        if says is None:
            asked.append(await reader.read())
        else:
            writer.write(says)

    async with scripted(talk) as victim:
        now = int(time.time())
        records = [
            HolderRecord.sign(
                Identity.generate(),
                holders_key(node.archive),
                endpoints=[Endpoint(victim.host, victim.port)],
                issued=now,
                expires=now + 3600,
                role=HolderRole.MIRROR,
                payload=Coverage(True, 0, 1).encode(),
            )
            for _ in range(1000)
        ]
        with State.open(tmp_path / "reader") as state:
            options = FetchOptions(ArchiveUrl(node.archive), b"", sources=(node.address,))
            swarm = Swarm(time.monotonic, lambda text: None)
            network = cast(Network, Told(records))
            discovery = Discovery(state, options.search(), network, swarm, lambda text: None)
            await discovery.newest_head()
            await discovery.start()
            for _ in range(3):
                await discovery.look_around()
            await discovery.close()
        assert victim.connections == 1
        assert [line for line in asked if line] == [f"GET {wire.INFO_PATH} HTTP/1.1".encode()]
        assert [member.name for member in swarm.members] == [node.address]

"""A bench for announcers: a state directory, a clock set by hand, stand-ins for the DHT and other holders."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.node.simulator import Publisher, identity

from p2psync.daemon import announce, company, gossip, place, reached, withdrawals
from p2psync.daemon.announce import Announcer
from p2psync.daemon.losses import Loss
from p2psync.errors import NetworkError
from p2psync.format.coverage import Coverage
from p2psync.format.head import ArchiveHead
from p2psync.format.url import host_port
from p2psync.network.over_dht import DhtNetwork
from p2psync.sources import withdrawal
from p2psync.sources.source import Unreachable
from p2psync.sources.wire import Info
from p2psync.state import State
from p2psync.state.trees import Role, Tree
from p2psync_dht import DhtNode, Endpoint, Head, HeadLookup, HolderRecord, HolderRole, Identity, holders_key

START = 1_800_000_000


class FakeTime:
    """The module ``time``, set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return 5_000.0 + self.now

    def time(self) -> float:
        return START + self.now


def local_to(ip: str | None) -> Callable[[str], Awaitable[str | None]]:
    """Stands in for `here.local_address`: our address on the way to anybody."""

    async def local_address(_: str) -> str | None:
        return ip

    return local_address


class FakeDht:
    """A DHT of records in two dictionaries."""

    def __init__(self, clock: FakeTime) -> None:
        self.clock = clock
        self.heads: list[bytes] = []
        self.holders: list[bytes] = []
        self.newest: dict[bytes, bytes] = {}
        self.records: dict[bytes, list[HolderRecord]] = {}
        self.copies = 20
        self.sweeps = 0
        self.observed: tuple[str, int] | None = ("192.0.2.7", 4000)

    def contacts(self) -> list[Any]:
        return [object()] * 20

    async def get_head(self, root: bytes) -> HeadLookup:
        raw = self.newest.get(root)
        return HeadLookup(None if raw is None else Head.decode(raw), 3, 3, 0)

    async def put_head(self, raw: bytes) -> int:
        self.heads.append(raw)
        self.newest[Head.decode(raw).root] = raw
        return self.copies

    async def refresh_head(self, raw: bytes, *, holders: int = 1) -> int:
        self.heads.append(raw)
        return 0

    async def announce_sweep(self, records: Iterable[bytes]) -> dict[bytes, int]:
        self.sweeps += 1
        return {raw: await self.put_holder(raw) for raw in records}

    async def get_holders(self, key: bytes) -> list[HolderRecord]:
        return self.records.get(key, [])

    async def put_holder(self, raw: bytes) -> int:
        self.holders.append(raw)
        return self.copies

    def observed_address(self, family: socket.AddressFamily = socket.AF_INET) -> tuple[str, int] | None:
        return self.observed if family == socket.AF_INET else None


class Told:
    """Stands in for the client that talks to other holders."""

    log: list[tuple[str, str, bytes]] = []  # noqa: RUF012 - emptied by the fixture
    lists: list[bytes] = []  # noqa: RUF012
    keys: dict[str, bytes] = {}  # noqa: RUF012
    """Which node is at an address: the first whose record named it, or else one by itself."""
    refuses = False
    cannot_reach_us = False

    def __init__(self, address: str, **settings: float) -> None:
        self.address = self.name = address

    async def info(self) -> Info:
        return Info("", self.keys.get(self.address, self.address.encode().ljust(32)), "1", ())

    async def put_head(self, archive: bytes, raw: bytes) -> bool:
        if self.refuses:
            raise NetworkError("refused")
        self.log.append((self.address, "head", raw))
        return True

    async def nominate(self, archive: bytes, raw: bytes) -> None:
        if self.cannot_reach_us:
            raise Unreachable("no way")
        self.log.append((self.address, "holder", raw))

    async def mirrors(self, archive: bytes) -> None:
        return None

    async def holders(self, archive: bytes) -> list[bytes]:
        return self.lists

    async def close(self) -> None:
        self.log.append((self.address, "closed", b""))


class Bench:
    """A state directory with an announcer."""

    def __init__(self, folder: Path, clock: FakeTime) -> None:
        self.clock = clock
        self.folder = folder
        self.state = State.open(folder / "state")
        self.dht = FakeDht(clock)
        self.publisher = Publisher(now=START)
        self.identity = self.state.identity()
        self.warnings: list[str] = []
        self.losses: dict[int, Loss] = {}
        self.closed = False
        """Whether the node's own test has found that nobody reaches it."""
        self.announcer = self.build()

    def build(
        self, listen: tuple[str, int] = ("0.0.0.0", 8730), advertise: tuple[str, int] | None = None
    ) -> Announcer:
        network = DhtNetwork(cast(DhtNode, self.dht))
        warn = self.warnings.append
        observed = network.observed
        return Announcer(
            self.state,
            self.identity,
            network,
            observed,
            listen,
            advertise,
            warn,
            lambda: self.losses,
            lambda: self.closed,
        )

    def publish(self) -> ArchiveHead:
        head = self.publisher.publish({b"f": b"%d" % len(self.publisher.heads)})
        self.state.heads.put(head, "test")
        return head

    def tree(self, role: Role, head: ArchiveHead | None = None) -> Tree:
        tree = self.state.trees.ensure(bytes(self.folder / role), role, self.publisher.archive)
        if head is not None:
            tree.epoch, tree.seq, tree.snapshot = head.epoch, head.seq, head.snapshot
        self.state.trees.update(tree)
        return tree

    def holder(self, name: str, *ips: str, expires: int = START + 3600) -> HolderRecord:
        key: Identity = identity(name)
        for ip in ips:
            Told.keys.setdefault(host_port(ip, 8730), key.public_key)
        return HolderRecord.sign(
            key,
            holders_key(self.publisher.archive),
            endpoints=[Endpoint(ip, 8730) for ip in ips],
            issued=START - 10,
            expires=expires,
            role=HolderRole.MIRROR,
            payload=Coverage(True, 0, 1).encode(),
        )

    def knows(self, record: HolderRecord) -> None:
        """The node has been dealt with."""
        now = self.clock.time()
        self.state.holders.keep_proved(self.publisher.archive, record, record.endpoints[0], now)

    @property
    def said(self) -> list[tuple[HolderRole, Coverage]]:
        records = [HolderRecord.decode(raw) for raw in self.dht.holders]
        return [(record.role, Coverage.decode(record.payload)) for record in records]


def announcing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A bench, for as long as the generator lasts."""
    clock = FakeTime()
    monkeypatch.setattr(announce, "time", clock)
    monkeypatch.setattr(gossip, "time", clock)
    monkeypatch.setattr(withdrawals, "time", clock)
    monkeypatch.setattr(company, "time", clock)
    monkeypatch.setattr(reached, "time", clock)
    monkeypatch.setattr(gossip, "PeerSource", Told)
    monkeypatch.setattr(withdrawal, "PeerSource", Told)
    monkeypatch.setattr(gossip, "local_address", local_to("192.0.2.7"))
    monkeypatch.setattr(place, "own_address", lambda _: None)
    monkeypatch.setattr(Told, "log", [])
    monkeypatch.setattr(Told, "lists", [])
    monkeypatch.setattr(Told, "keys", {})
    made = Bench(folder, clock)
    yield made
    made.state.close()

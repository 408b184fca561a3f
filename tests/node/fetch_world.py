"""An archive, its sources and a client, for tests of whole fetches over a swarm in memory."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.node.simulator import Link, Publisher, Tree, content
from tests.node.swarm_sim import SimSource, Watcher, virtual

from p2psync.events import Teller
from p2psync.fetch.ahead import LookAhead
from p2psync.fetch.engine import Host, run_fetch
from p2psync.fetch.options import FetchOptions, FetchSummary
from p2psync.format.url import ArchiveUrl
from p2psync.network.protocols import Network
from p2psync.network.way import Way
from p2psync.sources.finders import discovery
from p2psync.sources.opening import SourceSettings
from p2psync.state import State
from p2psync.supply.control import Control
from p2psync.supply.share import Nothing

Run = Callable[[Coroutine[Any, Any, Any]], Any]
BIG = content("big", 400_000)
TREE: Tree = {
    b"pool": {b"%03d.deb" % n: content(f"deb {n}", 2_000 + 900 * n) for n in range(100)},
    b"big": BIG,
    b"link": Link(b"big"),
    b"notes": {b"a": b"one", b"b": b"two"},
}
SIZE = sum(2_000 + 900 * n for n in range(100)) + len(BIG) + 6


class Nobody:
    """A network in which nobody is known."""

    reachable = False
    received = 0
    way = Way()

    def observed(self, family: socket.AddressFamily) -> str | None:
        return None


class World:
    """An archive, its sources by name, and a client with a state directory and a DEST."""

    def __init__(self, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run = run
        self.folder = folder
        self.dest = folder / "dest"
        self.state = State.open(folder / "state")
        self.publisher = Publisher(now=1_800_000_000)
        self.sources = {"a": SimSource("a", self.publisher), "b": SimSource("b", self.publisher)}
        self.watcher = Watcher()
        monkeypatch.setattr(discovery, "open_source", self.open_source)

    def open_source(self, name: str, settings: SourceSettings) -> SimSource:
        source = self.sources[name]
        source.memory = settings.memory
        return source

    async def fetching(
        self,
        dest: Path | bytes | None = None,
        path: bytes = b"",
        *,
        control: Control | None = None,
        ahead: LookAhead | None = None,
        tell: Teller | None = None,
        **options: Any,
    ) -> FetchSummary:
        url = ArchiveUrl(self.publisher.archive, path.rstrip(b"/"), inside=path.endswith(b"/"))
        host = Host(cast(Network, Nobody()), lambda _: Nothing())
        asked = FetchOptions(
            url, os.fsencode(dest or self.dest), sources=tuple(self.sources), **{"share": False} | options
        )
        return await run_fetch(
            asked, self.state, tell or Teller(self.watcher), host, control, writer="inline", ahead=ahead
        )

    def fetch(self, dest: Path | bytes | None = None, path: bytes = b"", **options: Any) -> FetchSummary:
        self.watcher = Watcher()
        for source in self.sources.values():
            source._born, source._free_at, source.received = None, 0.0, 0
        return cast(FetchSummary, self.run(self.fetching(dest, path, **options)))

    def fresh_state(self) -> None:
        self.state.close()
        self.state = State.open(self.folder / f"state {os.urandom(4).hex()}")

    def differs(self) -> list[bytes]:
        wrong: list[bytes] = []
        expected = {b""}
        for path, entry, data in self.publisher.read(self.publisher.head):
            expected.add(path)
            place = Path(os.fsdecode(bytes(self.dest) + path))
            try:
                found = place.lstat()
                same = found.st_mtime_ns == entry.mtime_ns
                if entry.target:
                    same = same and os.readlink(bytes(place)) == entry.target
                elif stat.S_ISREG(found.st_mode):
                    same = same and place.read_bytes() == data and stat.S_IMODE(found.st_mode) == entry.mode
            except OSError:
                same = False
            if not same:
                wrong.append(path)
        return wrong


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path, virtual(monkeypatch), monkeypatch)
    made.publisher.publish(TREE)
    yield made
    made.state.close()


def changed(**changes: Any) -> Tree:
    return {**TREE, **{name.encode(): value for name, value in changes.items() if value is not None}}

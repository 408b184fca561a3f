"""libtorrent 2 with v2 torrents (BEP 52): a seed and a peer, each a process of `torrent_peer`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from bench.contestants.contestant import Contestant, Server, free_port
from bench.processes import HERE, BenchError, Place, Running, serve

PEER = (sys.executable, "-m", "bench.contestants.torrent_peer")


class Torrent(Contestant):
    """libtorrent. All copies of a tree have the same name, since it is part of a torrent."""

    name: ClassVar[str] = "libtorrent"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        if find_spec("libtorrent") is None:
            raise BenchError("libtorrent is not here: pip install -e '.[bench]'")
        self.torrent = home / "tree.torrent"
        self._name = ""

    def hold(self, tree: Path) -> None:
        if not self._name:
            self._name = tree.name
            self.run(self.making(tree, self.torrent), "make")

    def making(self, tree: Path, torrent: Path) -> list[str]:
        """The command that hashes a tree into a torrent."""
        return [*PEER, "make", os.fspath(tree), os.fspath(torrent)]

    def serve(self, stack: ExitStack, tree: Path, place: Place = HERE) -> Server:
        port = free_port()
        argv = [*PEER, "seed", os.fspath(self.torrent), os.fspath(tree), f"{place.address}:{port}"]
        running = serve(stack, [*place.before, *argv], self.log("seed"))
        running.listens(port)
        return Server(running, place.address, port)

    def command(self, servers: Sequence[Server], dest: Path) -> list[str]:
        return [*PEER, "fetch", os.fspath(self.torrent), os.fspath(dest), *(one.address for one in servers)]

    def result(self, dest: Path) -> Path:
        """Below the name of its directory; libtorrent leaves that out where there is but one file."""
        return dest / self._name if (dest / self._name).is_dir() else dest


class TorrentSharing(Torrent):
    """libtorrent as one of many, who are all told of each other, since there is no tracker."""

    port: ClassVar[int] = 6881

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.others: list[str] = []
        """HOST:PORT of all clients."""

    def start(self, servers: Sequence[Server], dest: Path, place: Place = HERE) -> Running:
        mine = f"{place.address}:{self.port}"
        others = [other for other in self.others if other != mine]
        argv = [*place.before, *self.command(servers, dest), *others, "--listen", mine]
        return Running(argv, self.log("fetch"), self.environment())

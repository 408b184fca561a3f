"""What every contestant of a download can do: hold a tree, serve it, fetch it."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bench.processes import HERE, Cost, Place, Running, need, run


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs, and the address by which clients reach it."""

    running: Running
    host: str
    port: int

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


class Contestant(ABC):
    """One way to get a tree from a server: ``hold`` it, ``serve`` it, then ``fetch`` as often as wanted."""

    name: ClassVar[str]
    keeps_times: ClassVar[bool] = False
    """Whether times and modes arrive as well, or only names and bytes."""
    programs: ClassVar[tuple[str, ...]] = ()
    """What has to be installed."""

    def __init__(self, home: Path) -> None:
        """``home``: an own directory for logs, configurations and state; it need not be there."""
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self._logs = 0
        for program in self.programs:
            need(program)

    def hold(self, tree: Path) -> None:  # noqa: B027 (most need nothing)
        """Prepare to serve a tree. Each further one must be a copy of the first."""

    @abstractmethod
    def serve(self, stack: ExitStack, tree: Path, place: Place = HERE) -> Server:
        """Serve a tree that is held, until ``stack`` ends."""

    @abstractmethod
    def command(self, servers: Sequence[Server], dest: Path) -> list[str]:
        """The command that makes ``dest`` equal to what the servers have."""

    def result(self, dest: Path) -> Path:
        """Where the tree is after a fetch into ``dest``."""
        return dest

    def forget(self) -> None:  # noqa: B027 (most keep nothing)
        """Forget what a client remembered of earlier fetches."""

    def environment(self) -> dict[str, str] | None:
        """Of its processes; None: as ours."""
        return None

    def start(self, servers: Sequence[Server], dest: Path, place: Place = HERE) -> Running:
        """Begin a fetch."""
        return Running([*place.before, *self.command(servers, dest)], self.log("fetch"), self.environment())

    def fetch(self, servers: Sequence[Server], dest: Path, place: Place = HERE) -> Cost:
        """Fetch, and wait for the end."""
        return self.start(servers, dest, place).finish()

    def run(self, argv: Sequence[str], what: str) -> Cost:
        return run(argv, self.log(what), self.environment())

    def log(self, what: str) -> Path:
        """A file for the output of one more process."""
        self._logs += 1
        return self.home / f"{self._logs:04}-{what}.log"


def free_port() -> int:
    """A TCP port of loopback that nobody has now; for programs that cannot pick one themselves."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port

"""p2psync itself: a ``p2psync node`` process that serves, a ``p2psync fetch`` process for each fetch."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

from bench.contestants.contestant import Contestant, Server
from bench.data import clear
from bench.figures import OURS
from bench.processes import HERE, POLL, READY_DEADLINE, TOLD_MAX, BenchError, Cost, Place, Running, serve

PROGRAM = (sys.executable, "-m", "p2psync")


class Ours(Contestant):
    """p2psync. The first tree held is published, each further one is a mirror of it."""

    name: ClassVar[str] = OURS
    keeps_times: ClassVar[bool] = True
    forgets: ClassVar[bool] = True
    sharing: ClassVar[tuple[str, ...]] = ("--no-share",)

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.url = ""
        self.options: list[str] = []
        """Further words for each fetch."""
        self._states: dict[Path, Path] = {}
        self._client = home / "client"

    def environment(self) -> dict[str, str]:
        """Ours without what the person who runs this has configured."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("P2PSYNC_")}
        plain.pop("STATE_DIRECTORY", None)
        return plain | {"XDG_CONFIG_HOME": os.fspath(self.home / "config")}

    def words(self, command: str, *words: object, state: Path) -> list[str]:
        """A command with JSON output on a state directory."""
        return [*PROGRAM, command, *map(str, words), "--json", "--state", os.fspath(state)]

    def hold(self, tree: Path) -> None:
        state = self._states.setdefault(tree, self.home / f"state{len(self._states)}")
        if not self.url:
            published = self.run(self.words("publish", tree, state=state), "publish")
            self.url = last_event(published.output)["archive"]
            return
        with ExitStack() as stack:
            origin = self.serve(stack, next(iter(self._states)))
            words = self.words("mirror", self.url, tree, "--once", "--source", origin.address, state=state)
            self.run([*words, "--listen", "127.0.0.1:0"], "mirror")

    def serve(self, stack: ExitStack, tree: Path, place: Place = HERE) -> Server:
        argv = self.words(
            "node", "--listen", f"{place.address}:0", "--role", "server", state=self._states[tree]
        )
        running = serve(stack, [*place.before, *argv], self.log("node"), self.environment())
        host, _, port = ready(running).rpartition(":")
        return Server(running, host, int(port))

    def command(self, servers: Sequence[Server], dest: Path) -> list[str]:
        peers = "&".join(f"peer={server.address}" for server in servers)
        return self.words(
            "fetch", f"{self.url}?{peers}", dest, *self.sharing, *self.options, state=self._client
        )

    def forget(self) -> None:
        if self.forgets:
            clear(self._client)


class OursKnown(Ours):
    """p2psync with the state directory of an earlier fetch: it knows network and archive; DEST is new."""

    name: ClassVar[str] = f"{OURS}, known network"
    forgets: ClassVar[bool] = False


class OursSharing(Ours):
    """p2psync as one of many: it serves others what it has while it fetches."""

    sharing: ClassVar[tuple[str, ...]] = ()

    def command(self, servers: Sequence[Server], dest: Path) -> list[str]:
        """With a state directory for each DEST, since several run at once."""
        peers = "&".join(f"peer={server.address}" for server in servers)
        state = self.home / "clients" / dest.name
        return self.words("fetch", f"{self.url}?{peers}", dest, *self.options, state=state)

    def forget(self) -> None:
        clear(self.home / "clients")


def ready(running: Running) -> str:
    """Wait for the address, HOST:PORT, that a node says it listens on."""
    deadline = time.monotonic() + READY_DEADLINE
    while time.monotonic() < deadline and running.process.poll() is None:
        for event in events(running.output):
            if event["event"] == "ready":
                return str(event["listen"])
        time.sleep(POLL)
    raise BenchError(f"{' '.join(running.argv)} is not ready: {running.output[-TOLD_MAX:]}")


def events(output: str) -> list[dict[str, Any]]:
    """The JSON objects among complete lines of output; what a program says for people is passed over."""
    lines = output.rpartition("\n")[0].splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def last_event(output: str) -> dict[str, Any]:
    found = events(output)
    if not found:
        raise BenchError(f"p2psync wrote no JSON: {output[-TOLD_MAX:]}")
    return found[-1]


def received(cost: Cost) -> float:
    """Bytes that a fetch received."""
    return float(last_event(cost.output)["received"])

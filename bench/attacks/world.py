"""A node that serves large directories, and an honest client of it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import msgpack

from bench.contestants.ours import Ours, events, last_event
from bench.data import Noise, clear
from bench.processes import BenchError, Running

FILE_BYTES: Final = 256 << 20
SMALL_FILES: Final = 400
SMALL_BYTES: Final = 25_000
MIDDLE: Final = 5
"""The directory of middling size has so many times fewer names than the large one."""


class World:
    """One archive with what is attacked, and one that is fetched meanwhile, on one node."""

    def __init__(self, folder: Path, names: int, stack: ExitStack) -> None:
        tree = folder / "tree"
        for name, count in (("large", names), ("middle", names // MIDDLE)):
            (tree / name).mkdir(parents=True)
            for number in range(count):
                (tree / name / f"file{number}").write_bytes(b"%s %d" % (name.encode(), number))
        noise = Noise(1)
        honest = tree / "honest"
        honest.mkdir()
        (honest / "file").write_bytes(noise.read(FILE_BYTES))
        for number in range(SMALL_FILES):
            (honest / f"small{number}").write_bytes(noise.read(SMALL_BYTES))
        self._ours = Ours(folder / "home")
        self._ours.hold(tree)
        self._dest = folder / "dest"
        server = self._ours.serve(stack, tree)
        self.node = server.running
        host, _, port = server.address.rpartition(":")
        self.place = host, int(port)
        self.archive = self._ours.url.removeprefix("p2psync://")
        self.path = f"/{self.archive}"
        self.listings = self._listings(folder)
        self._server = server

    def _listings(self, folder: Path) -> dict[str, bytes]:
        """The ids of the large listings, by name."""
        state = folder / "home" / "state0"
        done = self._ours.run(self._ours.words("ls", self._ours.url, state=state), "ls")
        found = {one["path"]: one for one in events(done.output) if one["event"] == "entry"}
        return {name: bytes.fromhex(found[name]["id"]) for name in ("large", "middle")}

    def fetch(self, seconds: float) -> float:
        """Bytes a second of a fetch of what is not attacked, as an honest client makes it; one that takes
        longer is ended, and has the rate of what came.
        """
        clear(self._dest)
        self._ours.forget()
        peer = f"{self._ours.url}/honest/?peer={self._server.address}"
        words = self._ours.words("fetch", peer, self._dest, "--no-share", state=self._ours.home / "client")
        began = time.monotonic()
        running = Running(words, self._ours.log("fetch"), self._ours.environment())
        while running.process.poll() is None and time.monotonic() - began < max(seconds, 1.0):
            time.sleep(0.01)
        took = time.monotonic() - began
        if running.process.poll() is None:
            running.stop()
            told = [one["bytes"] for one in events(running.output) if one["event"] == "progress"]
            return (told[-1] if told else 0) / took
        if running.process.returncode:
            raise BenchError(f"the honest fetch failed: {running.output[-2000:]}")
        return float(last_event(running.output)["received"]) / took


@contextmanager
def flood(
    place: tuple[str, int], requests: Sequence[bytes], connections: int, slow: int, network: int = 1
) -> Iterator[None]:
    """Attackers (`flood`) for as long as the block runs. Raises BenchError if they ended by themselves."""
    numbers = map(str, (place[1], connections, slow, network))
    argv = [sys.executable, "-m", "bench.attacks.flood", place[0], *numbers]
    attackers = subprocess.Popen(argv, stdin=subprocess.PIPE)
    try:
        if attackers.stdin is None:
            raise BenchError("the attackers cannot be told what to do")
        attackers.stdin.write(msgpack.packb(requests))
        attackers.stdin.close()
        yield
        if attackers.poll() is not None:
            raise BenchError(f"the attackers ended with {attackers.returncode}")
    finally:
        attackers.kill()
        attackers.wait()

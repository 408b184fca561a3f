"""Fetch among fake holders: a thousand in fifty networks, who are silent, refuse, drip or lie, beside three
honest ones.

    python -m bench.attacks.fakes [--fakes 1000] [--networks 50] [--runs 5] [--known]

All runs in a network namespace of its own, in which every address of 11/8 is this machine's: so the fakes
have public addresses in as many networks as they like. They stand in the DHT beside the honest.
``--known``: they know their own keys, and lie, drip or are silent only when asked for more than who they
are. Each fetch is by a new client, with one of the honest given as its source, and with none. Aim: all
complete, and the median is at most three seconds over that of a fetch without fakes. A victim, which no
record names rightly, counts what it is asked. Needs root.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from bench.contestants.ours import Ours, ready
from bench.data import Noise, clear
from bench.processes import BenchError, Running, need, serve
from p2psync.format.coverage import Coverage
from p2psync.format.url import parse_archive_text
from p2psync.sources import wire
from p2psync_dht import DhtNode, Endpoint, HolderRecord, HolderRole, Identity, holders_key

OVER_MAX: Final = 3.0
"""Seconds that fakes may cost."""
PORT: Final = 8730
HONEST: Final = ("11.201.0.1", "11.202.0.1", "11.203.0.1")
ENTRY: Final = "11.204.0.1"
CLIENT: Final = "11.255.0.1"
VICTIM: Final = "11.205.0.1"
FILE_BYTES: Final = 32 << 20
SMALL_FILES: Final = 400
SMALL_BYTES: Final = 25_000
READY_SECONDS: Final = 60.0
FETCH_SECONDS: Final = 120.0
DRIP: Final = 0.1
"""Seconds between two pieces of a dripping answer, ``DRIP_BYTES`` each."""
DRIP_BYTES: Final = 30
KINDS: Final = ("silent", "refusing", "dripping", "lying")


class Fake:
    """One fake holder."""

    def __init__(self, kind: str, ip: str, knows_itself: bool) -> None:
        self.kind = kind
        self.ip = ip
        self.identity = Identity.generate()
        self._knows_itself = knows_itself
        self._serving: set[asyncio.Task[Any] | None] = set()
        """Whoever waits for ever is else forgotten by the loop."""

    async def begin(self) -> None:
        if self.kind != "refusing":
            await asyncio.start_server(self._serve, self.ip, PORT)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.current_task())
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = [line for line in head.split("\r\n") if line.startswith("content-length:")]
                await reader.readexactly(int(length[0].partition(":")[2]) if length else 0)
                await self._answer(head.split()[1], writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            self._serving.discard(asyncio.current_task())
            writer.close()

    async def _answer(self, target: str, writer: asyncio.StreamWriter) -> None:
        own = self.identity if self._knows_itself else Identity.generate()
        is_info = target == wire.INFO_PATH
        body = random.randbytes(1 << 16)
        if is_info:
            body = wire.encode_info(wire.Info(own.node_id.hex(), own.public_key, "0", ()))
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        if self.kind == "lying" or (is_info and self._knows_itself):
            writer.write(answer)
        elif self.kind == "dripping":
            for start in range(0, len(answer), DRIP_BYTES):
                writer.write(answer[start : start + DRIP_BYTES])
                await writer.drain()
                await asyncio.sleep(DRIP)
        else:
            await asyncio.Event().wait()
        await writer.drain()


class Victim:
    """A server that has nothing to do with any of it, and counts."""

    def __init__(self) -> None:
        self.dialled: list[float] = []
        self.asked: list[str] = []

    async def begin(self) -> None:
        await asyncio.start_server(self._serve, VICTIM, PORT)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.dialled.append(time.monotonic())
        try:
            while line := await reader.readline():
                if b"HTTP/1" in line:
                    self.asked.append(line.decode("latin-1").strip())
        except OSError:
            return
        finally:
            writer.close()


class Around:
    """What is around the honest: the entry into the DHT, the fakes and the victim, in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.entry: DhtNode = self.call(DhtNode.start(Identity.generate(), ENTRY, PORT, server=True))
        self.victim = Victim()
        self.call(self.victim.begin())

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(READY_SECONDS)

    def known(self, key: bytes) -> int:
        """How many holders are stored under a key."""
        return self.entry.protocol.storage.holders(key, 1)[0]

    def close(self) -> None:
        """End all that goes on."""
        self.call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def _store(self, raws: list[bytes]) -> None:
        for raw in raws:
            self.entry.protocol.storage.put(raw)

    def surround(self, archive: bytes, count: int, networks: int, *, knows_itself: bool) -> int:
        """Let as many fakes come, and a tenth as many records that name the victim; how many of all are
        stored.
        """
        fakes = [
            Fake(
                KINDS[number % 4],
                f"11.{number % networks}.{number % networks}.{1 + number // networks}",
                knows_itself,
            )
            for number in range(count)
        ]
        for fake in fakes:
            self.call(fake.begin())
        raws = [record(archive, fake.identity, fake.ip) for fake in fakes]
        raws += [record(archive, Identity.generate(), VICTIM) for _ in range(count // 10)]
        random.shuffle(raws)
        self.call(self._store(raws))
        return self.known(holders_key(archive))


def address(number: int, networks: int) -> str:
    """Of a fake, in one of so many networks that have not even a /16 in common."""
    network = number % networks
    return f"11.{network}.{network}.{1 + number // networks}"


def record(archive: bytes, who: Identity, ip: str) -> bytes:
    now = int(time.time())
    return HolderRecord.sign(
        who,
        holders_key(archive),
        endpoints=[Endpoint(ip, PORT)],
        issued=now,
        expires=now + 3600,
        role=HolderRole.MIRROR,
        payload=Coverage(True, 0, 1).encode(),
    ).raw


class World:
    """Three honest holders of one archive."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._ours = Ours(folder / "home")
        tree = folder / "tree"
        tree.mkdir()
        noise = Noise(1)
        (tree / "large").write_bytes(noise.read(FILE_BYTES))
        for number in range(SMALL_FILES):
            (tree / f"small{number}").write_bytes(noise.read(SMALL_BYTES))
        self.around = Around()
        stack.callback(self.around.close)
        self._ours.hold(tree)
        self.archive = parse_archive_text(self._ours.url.removeprefix("p2psync://"))
        self._node(stack, 0, HONEST[0])
        for number, address in enumerate(HONEST[1:], 1):
            words = [
                self._ours.url,
                folder / f"mirror{number}",
                "--once",
                "--source",
                f"{HONEST[0]}:{PORT}",
            ]
            state = folder / "home" / f"state{number}"
            listen = ("--listen", f"{address}:{PORT}")
            self._ours.run(self._ours.words("mirror", *words, *listen, state=state), "mirror")
            self._node(stack, number, address)
        self._until_announced()

    def _node(self, stack: ExitStack, number: int, address: str) -> None:
        state = self._folder / "home" / f"state{number}"
        where = ("--listen", f"{address}:{PORT}", "--bootstrap", f"{ENTRY}:{PORT}", "--role", "server")
        argv = self._ours.words("node", *where, state=state)
        ready(serve(stack, argv, self._ours.log("node"), self._ours.environment()))

    def _until_announced(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while self.around.known(holders_key(self.archive)) < len(HONEST):
            if time.monotonic() > deadline:
                raise BenchError("the honest holders did not announce themselves in time: run again")
            time.sleep(0.1)

    def fetch(self, given: str | None) -> float:
        """Seconds that a new client takes; ``FETCH_SECONDS`` if it is not done by then."""
        dest, state = self._folder / "dest", self._folder / "client"
        clear(dest)
        clear(state)
        words = [self._ours.url, dest, "--no-share", "--bootstrap", f"{ENTRY}:{PORT}"]
        words += [] if given is None else ["--source", f"{given}:{PORT}"]
        log = self._ours.log("fetch")
        began = time.monotonic()
        running = Running(self._ours.words("fetch", *words, state=state), log, self._ours.environment())
        while running.process.poll() is None and time.monotonic() - began < FETCH_SECONDS:
            time.sleep(0.01)
        took = time.monotonic() - began
        if running.process.poll() is None:
            running.stop()
            return FETCH_SECONDS
        if running.process.returncode:
            raise BenchError(f"a fetch failed: {running.output[-2000:]}")
        return took


def measure(options: argparse.Namespace, folder: Path, stack: ExitStack) -> bool:
    """Print what was measured; whether it is as it should be."""
    world = World(folder, stack)
    cases: dict[str, str | None] = {"no source": None, "an honest source": HONEST[0]}
    before = {name: [world.fetch(given) for _ in range(options.runs)] for name, given in cases.items()}
    stored = world.around.surround(world.archive, options.fakes, options.networks, knows_itself=options.known)
    print(
        f"{options.fakes} fakes in {options.networks} networks; {stored} records stored with the honest",
        flush=True,
    )
    good = True
    for name, given in cases.items():
        times = [world.fetch(given) for _ in range(options.runs)]
        over = statistics.median(times) - statistics.median(before[name])
        good = good and over <= OVER_MAX and max(times) < FETCH_SECONDS
        shown = " ".join(f"{seconds:.1f}" for seconds in times)
        print(
            f"{name}: {statistics.median(before[name]):.1f} s without, {shown} with: {over:+.1f} s",
            flush=True,
        )
    victim = world.around.victim
    others = [line for line in victim.asked if not line.startswith(f"GET {wire.INFO_PATH} ")]
    most = len(victim.dialled) / (2 * options.runs)
    print(f"the victim was dialled {most:.1f} times in a fetch, and asked for {len(others)} other things")
    return good and not others and most <= 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.attacks.fakes", description=__doc__)
    parser.add_argument("--fakes", type=int, default=1000)
    parser.add_argument("--networks", type=int, default=50)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--known", action="store_true", help="the fakes know their own keys")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.inside:
        again = [sys.executable, "-m", "bench.attacks.fakes", "--inside", *sys.argv[1:]]
        return subprocess.run([need("unshare"), "--net", *again], check=False).returncode
    ip = need("ip")
    for words in (
        "link set lo up",
        f"addr add {CLIENT}/32 dev lo",
        f"route add local 11.0.0.0/8 dev lo src {CLIENT}",
    ):
        subprocess.run([ip, *words.split()], check=True)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 1 << 16), most))
    with tempfile.TemporaryDirectory(prefix="p2psync-fakes-") as folder, ExitStack() as stack:
        return 0 if measure(options, Path(folder), stack) else 1


if __name__ == "__main__":
    sys.exit(main())

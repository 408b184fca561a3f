"""Attack a node on this machine with small requests, and see how it answers others meanwhile.

    python -m bench.attacks [--seconds 60] [--connections 128] [--names 100000] [KIND ...]

Kinds are those of ``requests``. For each, a client that means no harm fetches the same archive again and
again, and a probe asks for /info twenty times a second. Aims: 99 of 100 probes within 0.2 s, at most 300 MB
of resident memory, and at least half the rate of a fetch without attack.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from bench.attacks import requests
from bench.attacks.world import World, flood
from bench.memory import Sampler, memory_of

PROBE_EVERY: Final = 0.05
PROBE_TIMEOUT: Final = 30.0
WARM_UP: Final = 2.0
"""Seconds after which the attack counts as begun."""
P99_MAX: Final = 0.2
RSS_MAX: Final = 300e6
RATE_MIN: Final = 0.5


class Seen(NamedTuple):
    """What became of one attack. Seconds, bytes, and the share of the undisturbed rate."""

    kind: str
    probes: list[float]
    rss: int
    rate: float

    @property
    def p99(self) -> float:
        return statistics.quantiles(self.probes, n=100)[98] if len(self.probes) > 1 else PROBE_TIMEOUT

    @property
    def good(self) -> bool:
        return self.p99 <= P99_MAX and self.rss <= RSS_MAX and self.rate >= RATE_MIN


def probe(place: tuple[str, int], stop: threading.Event, took: list[float]) -> None:
    """Ask for /info by a connection of one's own each time, until told to stop."""
    raw = f"GET /p2psync/v1/info HTTP/1.1\r\nHost: {place[0]}\r\nConnection: close\r\n\r\n".encode()
    while not stop.is_set():
        began = time.monotonic()
        try:
            with socket.create_connection(place, PROBE_TIMEOUT) as sock:
                sock.sendall(raw)
                while sock.recv(65536):
                    pass
        except OSError:
            took.append(PROBE_TIMEOUT)
            continue
        took.append(time.monotonic() - began)
        stop.wait(max(0.0, PROBE_EVERY - took[-1]))


def watch(world: World, kind: requests.Kind, connections: int, seconds: float, calm: float) -> Seen:
    """One attack. ``calm``: bytes a second of a fetch without one."""
    took: list[float] = []
    stop = threading.Event()
    with (
        flood(world.place, kind.requests(world), connections, kind.slow),
        Sampler({"node": world.node.pid}) as sampler,
    ):
        time.sleep(WARM_UP)
        probing = threading.Thread(target=probe, args=(world.place, stop, took), daemon=True)
        probing.start()
        until = time.monotonic() + seconds
        rates = []
        while time.monotonic() < until:
            rates.append(world.fetch(until - time.monotonic()))
        stop.set()
        probing.join(PROBE_TIMEOUT)
    return Seen(kind.name, took, sampler.rss["node"], statistics.median(rates) / calm)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.attacks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--connections", type=int, default=128)
    parser.add_argument("--names", type=int, default=100_000, help="names in the large directory")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(requests.KINDS))
    options = parser.parse_args(argv)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="p2psync-attacks-"))
        world = World(Path(folder), options.names, stack)
        print(f"memory before: {memory_of(world.node.pid)[1] / 1e6:.0f} MB", flush=True)
        bad = 0
        for name in options.kinds or requests.KINDS:
            calm = statistics.median(world.fetch(options.seconds) for _ in range(3))
            seen = watch(world, requests.KINDS[name], options.connections, options.seconds, calm)
            bad += not seen.good
            print(
                f"{seen.kind:<12} /info p50 {statistics.median(seen.probes) * 1000:6.0f} ms  p99 "
                f"{seen.p99 * 1000:6.0f} ms ({len(seen.probes)})  memory {seen.rss / 1e6:5.0f} MB  fetch at "
                f"{seen.rate:.2f} of {calm / 1e6:.0f} MB/s  {'' if seen.good else 'TOO BAD'}",
                flush=True,
            )
        return 1 if bad else 0


if __name__ == "__main__":
    os.environ.pop("STATE_DIRECTORY", None)
    sys.exit(main())

"""A node for an hour under a mixed load of honest and hostile clients.

    python -m bench.attacks.soak [--minutes 60] [--names 20000]

Attackers of every kind come and go, each kind for a while and two at a time; a client that means no harm
fetches all the while. At the end the node's memory is to be within a tenth of what it was after a sixth of
the time, no descriptor may be left over, and the node has nothing to say: a warning for what a stranger
does would fill its log.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.attacks.requests import KINDS, Kind
from bench.attacks.world import World, flood
from bench.memory import memory_of
from bench.processes import TOLD_MAX

TURN: Final = 20.0
"""Seconds for which two kinds attack together."""
CONNECTIONS: Final = 48
"""Of each kind."""
SETTLED: Final = 15.0
"""Seconds after which nothing is open for clients that have ended."""
WARM_UP: Final = 10.0
GROWTH_MAX: Final = 1.1


def descriptors(pid: int) -> int:
    """How many a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def calm(pid: int) -> int:
    """How many it has when its clients are gone."""
    fewest = descriptors(pid)
    deadline = time.monotonic() + SETTLED
    while time.monotonic() < deadline:
        time.sleep(1)
        fewest = min(fewest, descriptors(pid))
    return fewest


def attack(world: World, kinds: Sequence[Kind], seconds: float) -> tuple[int, float]:
    """Let kinds attack while others fetch: memory at the end in bytes, and the rate of fetches."""
    until = time.monotonic() + seconds
    rates = []
    with ExitStack() as stack:
        for network, kind in enumerate(kinds, 1):
            stack.enter_context(flood(world.place, kind.requests(world), CONNECTIONS, kind.slow, network))
        while time.monotonic() < until:
            rates.append(world.fetch(until - time.monotonic()))
    return memory_of(world.node.pid)[1], sum(rates) / len(rates)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.attacks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--names", type=int, default=20_000, help="names in the large directory")
    options = parser.parse_args(argv)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="p2psync-soak-"))
        world = World(Path(folder), options.names, stack)
        attack(
            world, list(KINDS.values()), WARM_UP
        )  # each thread has a connection to the index, once it exists
        before = calm(world.node.pid)
        began = time.monotonic()
        ends = began + options.minutes * 60
        early = 0
        for first, second in itertools.cycle(itertools.combinations(KINDS.values(), 2)):
            memory, rate = attack(world, (first, second), min(TURN, max(1.0, ends - time.monotonic())))
            now = time.monotonic()
            kinds = f"{first.name} and {second.name}"
            print(
                f"{(now - began) / 60:5.1f} min  {kinds:<24} {memory / 1e6:5.0f} MB  "
                f"{descriptors(world.node.pid):4} descriptors  fetches at {rate / 1e6:.0f} MB/s",
                flush=True,
            )
            if now - began <= (ends - began) / 6 or not early:
                early = max(early, memory)
            if now >= ends:
                break
        left = calm(world.node.pid) - before
        said = [line for line in world.node.output.splitlines() if not line.startswith("{")]
        print(
            f"memory {early / 1e6:.0f} MB, then {memory / 1e6:.0f} MB; {left} descriptors left; "
            f"the node said {len(said)} lines"
        )
        for line in said:
            print(line[:TOLD_MAX])
        return 1 if memory > GROWTH_MAX * early or left > 0 or said else 0


if __name__ == "__main__":
    os.environ.pop("STATE_DIRECTORY", None)
    sys.exit(main())

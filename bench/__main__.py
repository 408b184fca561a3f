"""``make bench``: publish and fetch beside reading, find and rsync. Trust the ratios, not the seconds.

Everything happens on this machine over loopback, in a temporary directory, with warm caches. Each figure is
the median of a few runs of a whole process, start-up included; the runs of the two sides alternate, so that
whatever else the machine does meanwhile meets both.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

from tests.e2e.harness import Network, need

Work = Callable[[], object]


class Result(NamedTuple):
    """Medians of one comparison, in seconds."""

    name: str
    peer: str
    theirs: float
    ours: float


def main() -> None:
    """Run all comparisons and print a table."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--files", type=int, default=20_000, help="files in the tree (20000)")
    parser.add_argument("--megabytes", type=int, default=500, help="size of the tree (500)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, of which the median counts (3)")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2psync-bench-")))
        network = stack.enter_context(closing(Network(folder)))
        print(f"{options.files:,} files, {options.megabytes:,} MB, median of {options.runs}", flush=True)
        tree = make_tree(folder / "tree", options.files, options.megabytes * 1_000_000)
        for result in compare(network, stack, folder, tree, options.runs):
            ratio = result.ours / result.theirs
            sides = f"p2psync {result.ours:7.2f} s   {result.peer:<16} {result.theirs:7.2f} s"
            print(f"{result.name:<28} {sides}   {ratio:5.2f}", flush=True)


def make_tree(root: Path, files: int, size: int) -> Path:
    """Files of random bytes whose sizes spread as those of real trees do: many small ones, a few large
    ones.
    """
    chance = random.Random(1)
    weights = [chance.lognormvariate(0, 1.5) for _ in range(files)]
    scale = size / sum(weights)
    for number, weight in enumerate(weights):
        folder = root / f"{number // 1000:03}" / f"{number // 100 % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file{number}").write_bytes(chance.randbytes(int(weight * scale)))
    return root


def compare(network: Network, stack: ExitStack, folder: Path, tree: Path, runs: int) -> list[Result]:
    """All comparisons, one after the other."""
    copies = folder / "copies"
    copies.mkdir()

    def fresh(name: str) -> None:
        shutil.rmtree(copies / name, ignore_errors=True)
        shutil.rmtree(network.state(name), ignore_errors=True)

    def publish(state: str) -> None:
        network.run("publish", tree, state=state)

    results = [
        alternate("publish", "read", read_all(tree), lambda: publish("p"), runs, lambda: fresh("p")),
        alternate("publish, nothing changed", "find -printf", find_all(tree), lambda: publish("p"), runs),
    ]
    url = network.publish(tree, state="origin")
    node = network.node("origin")
    module = rsync_daemon(stack, folder, tree)

    def fetch() -> None:
        network.run("fetch", url, copies / "ours", "--source", node.address, "--no-share", state="ours")

    def rsync() -> None:
        subprocess.run([need("rsync"), "-a", f"{module}/", f"{copies}/theirs/"], check=True)

    def both_fresh() -> None:
        fresh("ours")
        fresh("theirs")

    results.append(alternate("fetch, cold, one source", "rsync -a", rsync, fetch, runs, both_fresh))
    results.append(alternate("fetch, nothing changed", "rsync -a", rsync, fetch, runs))
    return results


def alternate(
    name: str, peer: str, theirs: Work, ours: Work, runs: int, before: Work = lambda: None
) -> Result:
    """Run both sides in turn and take medians; `before` is not counted."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        before()
        for work, noted in zip((theirs, ours), times, strict=True):
            started = time.perf_counter()
            work()
            noted.append(time.perf_counter() - started)
    return Result(name, peer, statistics.median(times[0]), statistics.median(times[1]))


def read_all(tree: Path) -> Work:
    """Reading every byte with tar, which writes to /dev/null through a pipe: GNU tar would skip the
    reading.
    """
    script = 'tar -cf - -C "$0" . | cat > /dev/null'
    return lambda: subprocess.run(["sh", "-c", script, os.fspath(tree)], check=True)


def find_all(tree: Path) -> Work:
    argv = [need("find"), os.fspath(tree), "-printf", "%s %T@ %p\\n"]
    return lambda: subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def rsync_daemon(stack: ExitStack, folder: Path, tree: Path) -> str:
    """Start an rsync daemon that serves `tree` on loopback; returns the URL of its module."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = folder / "rsyncd.conf"
    config.write_text(f"use chroot = no\n[tree]\npath = {tree}\nread only = yes\n")
    argv = [
        need("rsync"),
        "--daemon",
        "--no-detach",
        "--address=127.0.0.1",
        f"--port={port}",
        f"--config={config}",
    ]
    daemon = subprocess.Popen(argv)
    stack.callback(daemon.wait)
    stack.callback(daemon.terminate)
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return f"rsync://127.0.0.1:{port}/tree"
        except OSError:
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


if __name__ == "__main__":
    main()

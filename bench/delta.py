"""Updates: bytes on the wire in both directions, and time, beside rsync.

    python -m bench.delta [--rate MBIT ...] [--runs N] PAIR ...

PAIR is OLD:NEW, two directories; or pypi:NAME:OLD:NEW, two versions of a source package, fetched by pip; or
`inserts`, 200 insertions of 150 bytes into 512 MiB. A client that has OLD fetches NEW over a wire of so many
Mbit/s. Needs root, for the wire. Medians; all contestants take turns.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from bench import wires
from bench.contestants.contestant import Contestant, Server
from bench.contestants.ours import Ours
from bench.contestants.rsync import Rsync
from bench.data import assert_equal
from bench.processes import BenchError, Place, need
from bench.session import MEMORY

DEVICE: Final = "wire"
INSERTS: Final = 200
INSERTED: Final = 150
"""Bytes of each insertion."""
INTO: Final = 512 << 20


class Archive(Rsync):
    """``rsync -a --delete``"""

    name: ClassVar[str] = "rsync -a"
    words: ClassVar[tuple[str, ...]] = ("--delete",)

    def command(self, servers: Sequence[Server], dest: Path) -> list[str]:
        program, *rest = super().command(servers, dest)
        return [program, *self.words, *rest]


class Compressed(Archive):
    """``rsync -az --delete``"""

    name: ClassVar[str] = "rsync -az"
    words: ClassVar[tuple[str, ...]] = ("--delete", "-z")


class Plain(Ours):
    """p2psync that fetches whole chunks."""

    name: ClassVar[str] = "p2psync --compress off"
    compress: ClassVar[str] = "off"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.options = ["--delete", "--compress", self.compress]

    def hold(self, tree: Path) -> None:
        """Also what has changed in a tree that is held."""
        self.url = ""
        super().hold(tree)


class Automatic(Plain):
    """p2psync as it is used."""

    name: ClassVar[str] = "p2psync"
    compress: ClassVar[str] = "auto"


class Most(Plain):
    """p2psync that saves all bytes that it can."""

    name: ClassVar[str] = "p2psync --compress max"
    compress: ClassVar[str] = "max"


KINDS: Final[Sequence[type[Contestant]]] = (Archive, Compressed, Plain, Automatic, Most)


class Pair(NamedTuple):
    """An update."""

    name: str
    old: Path
    new: Path


class Figure(NamedTuple):
    """Of one update."""

    received: int
    sent: int
    wall: float


def pair(text: str, folder: Path) -> Pair:
    """What an argument stands for, made in ``folder`` where it is made. Raises BenchError."""
    folder.mkdir()
    if text == "inserts":
        return _inserts(folder)
    words = text.split(":")
    if words[0] == "pypi" and len(words) == 4:
        _, name, old, new = words
        return Pair(f"{name} {old} to {new}", _package(name, old, folder), _package(name, new, folder))
    if len(words) == 2 and all(map(os.path.isdir, words)):
        return Pair(f"{words[0]} to {words[1]}", Path(words[0]), Path(words[1]))
    raise BenchError(f"{text!r} is no pair: OLD:NEW, pypi:NAME:OLD:NEW or inserts")


def _inserts(folder: Path) -> Pair:
    for name in ("old", "new"):
        (folder / name).mkdir()
    chance = random.Random(1)
    old = b"".join(chance.randbytes(1 << 20) for _ in range(INTO >> 20))
    (folder / "old/file").write_bytes(old)
    places = sorted(chance.sample(range(len(old)), INSERTS))
    with (folder / "new/file").open("wb") as file:
        for begin, end in zip([0, *places], [*places, len(old)], strict=True):
            file.write(old[begin:end])
            if end < len(old):
                file.write(chance.randbytes(INSERTED))
    return Pair(f"{INSERTS} insertions into {INTO >> 20} MiB", folder / "old", folder / "new")


def _package(name: str, version: str, folder: Path) -> Path:
    """The tree of a source package."""
    into = folder / version
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*argv, "--dest", into, f"{name}=={version}"], check=True)
    (packed,) = into.glob("*.tar.*")
    with tarfile.open(packed) as archive:
        archive.extractall(into / "tree", filter="data")
    return into / "tree"


@contextmanager
def _wire(stack: ExitStack) -> Iterator[tuple[wires.Host, wires.Host, Place, Place]]:
    """A server, a client, and where to run them."""
    server, client = wires.Host(stack), wires.Host(stack)
    wires.wire(server, DEVICE, client, DEVICE)
    for host, address in ((server, "10.78.0.1"), (client, "10.78.0.2")):
        host.inside("address", "add", f"{address}/24", "dev", DEVICE)
    yield server, client, server.at("10.78.0.1"), client.at("10.78.0.2")


def update(one: Contestant, pair: Pair, folder: Path, rate: int) -> Figure:
    """What one update costs a contestant."""
    tree, dest = folder / "tree", folder / "dest"
    with ExitStack() as stack, _wire(stack) as (server, client, there, here):
        _become(pair.old, tree)
        one.hold(tree)
        with ExitStack() as serving:
            one.fetch([one.serve(serving, tree, there)], dest, here)
        _become(pair.new, tree)
        one.hold(tree)
        for host in (server, client):
            host.limit(DEVICE, rate * wires.MBIT)
        with ExitStack() as serving:
            running = one.serve(serving, tree, there)
            before = _counts(running.running.pid)
            cost = one.fetch([running], dest, here)
            after = _counts(running.running.pid)
        assert_equal(pair.new, dest, with_times=True)
    return Figure(after[0] - before[0], after[1] - before[1], cost.wall)


def _become(wanted: Path, tree: Path) -> None:
    subprocess.run([need("rsync"), "-a", "--delete", f"{wanted}/", f"{tree}/"], check=True)


def _counts(pid: int) -> tuple[int, int]:
    """What a server's device has sent and received."""
    return wires.sent(pid, DEVICE), wires.received(pid, DEVICE)


def table(pair: Pair, rate: int, figures: dict[str, list[Figure]]) -> Iterator[str]:
    """Lines for a person, and for a page."""
    yield f"| {pair.name}, {rate} Mbit/s | to the client | from it | wall |"
    yield "| --- | --- | --- | --- |"
    for name, several in figures.items():
        received, sent, wall = (statistics.median(column) for column in zip(*several, strict=True))
        yield f"| {name} | {received / 1e6:.3f} MB | {sent / 1e6:.3f} MB | {wall:.2f} s |"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.delta", description=__doc__)
    parser.add_argument("pairs", nargs="+", metavar="PAIR")
    parser.add_argument("--rate", type=int, action="append", metavar="MBIT", help="of the wire (50, 1000)")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args(argv)
    if not wires.may():
        print("bench.delta: the wire needs root", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="p2psync-delta-", dir=MEMORY) as made:
        for number, text in enumerate(options.pairs):
            one_pair = pair(text, Path(made) / f"pair{number}")
            for rate in options.rate or (50, 1000):
                figures: dict[str, list[Figure]] = defaultdict(list)
                for _ in range(options.runs):
                    for kind in KINDS:
                        home = Path(made) / "home"
                        figures[kind.name].append(update(kind(home), one_pair, home, rate))
                        shutil.rmtree(home)
                print("\n".join(table(one_pair, rate, figures)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

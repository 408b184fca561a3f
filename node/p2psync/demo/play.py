"""The story of the demo: publish, mirror, kill the origin and the bootstrap node, fetch from the survivors,
compare.
"""

from __future__ import annotations

import os
import sysconfig
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2psync.demo.compare import count_files, differences
from p2psync.demo.network import DemoNetwork, Process
from p2psync.errors import UsageError
from p2psync.text import count, duration, share, size

LOOPBACK = "127.0.0.1:0"
STDLIB_LEFT_OUT = ("__pycache__", "site-packages", "dist-packages")
"""Directories of the standard library that other programs write to while the demo runs, or that are somebody
else's.
"""

Tell = Callable[[str], None]


@dataclass
class Outcome:
    """What came of it. ``senders`` holds (role and number, address, bytes)."""

    differences: list[str]
    senders: list[tuple[str, str, int]]
    done: dict[str, Any]


@dataclass(frozen=True)
class Demo:
    """A demo to be run: which tree (None: the standard library), how many mirrors, where (None: a temporary
    folder).
    """

    tree: Path | None = None
    mirrors: int = 3
    directory: Path | None = None
    quiet: bool = False

    def run(self, tell: Tell) -> Outcome:
        """Play it; every process is gone afterwards. Raises PartialError if a process fails."""
        with ExitStack() as stack:
            if self.directory is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2psync-demo-")))
            else:
                folder = self.directory
                folder.mkdir(parents=True, exist_ok=True)
                if any(folder.iterdir()):
                    raise UsageError(
                        f"{os.fspath(folder)!r} is not empty; the demo wants a directory of its own"
                    )
            network = stack.enter_context(closing(DemoNetwork(folder)))
            return self._play(network, folder, tell)

    def _play(self, network: DemoNetwork, folder: Path, tell: Tell) -> Outcome:
        tree, left_out = self._tree()
        skip = frozenset(name.encode() for name in left_out)
        files, bytes_ = count_files(os.fsencode(tree), skip)
        tell(f"The archive: {tree} ({count(files, 'file')}, {size(bytes_)})")

        boot = network.start("bootstrap", "node", "--listen", LOOPBACK).ready()
        tell(f"A bootstrap node listens at {boot.listen}; it only knows who is there")
        excludes = [word for name in left_out for word in ("--exclude", f"{name}/")]
        published = network.start("origin", "publish", str(tree), *excludes).wait_event("published")
        url = published["archive"]
        tell(f"The origin published it in {duration(published['seconds'])}: {url}")
        joining = ("--listen", LOOPBACK, "--bootstrap", boot.listen)
        origin = network.start("origin-node", "node", *joining, state="origin").ready()
        tell(f"The origin's node serves it at {origin.listen}")

        mirrors = self._mirrors(network, folder, url, joining, tell)
        network.start("client", "mirrors", url, "--bootstrap", boot.listen).wait_event("mirrors")
        tell("The client joined the network once and went away")
        for process in (origin, boot):
            process.kill()
        tell("kill -9: the origin and the bootstrap node are dead")
        done = self._fetch(network, folder, url)
        tell(
            f"The client fetched {count(done['files'], 'file')}, {size(done['bytes'])} in "
            f"{duration(done['seconds'])}, from the mirrors alone"
        )
        tell("Comparing every file: type, bytes, mode, time in nanoseconds, symlink target")
        found = differences(os.fsencode(tree), os.fsencode(folder / "copy"), skip)
        names = {mirror.listen: mirror.name for mirror in mirrors}
        senders = [(names.get(where, "another"), where, sent) for where, sent in done["sources"].items()]
        return Outcome(found, sorted(senders), done)

    def _tree(self) -> tuple[Path, tuple[str, ...]]:
        if self.tree is not None:
            return self.tree.resolve(), ()
        return Path(sysconfig.get_path("stdlib")).resolve(), STDLIB_LEFT_OUT

    def _mirrors(
        self, network: DemoNetwork, folder: Path, url: str, joining: tuple[str, ...], tell: Tell
    ) -> list[Process]:
        """Start the mirrors, all at once, and wait until each holds everything."""
        started = time.monotonic()
        mirrors = [
            network.start(f"mirror-{n}", "mirror", url, str(folder / f"mirror-{n}"), *joining)
            for n in range(1, self.mirrors + 1)
        ]
        for mirror in mirrors:
            mirror.ready()
        for mirror in mirrors:
            mirror.wait_event("done")
            tell(f"{mirror.name} at {mirror.listen} holds all of it ({duration(time.monotonic() - started)})")
        return mirrors

    def _fetch(self, network: DemoNetwork, folder: Path, url: str) -> dict[str, Any]:
        options = ("--quiet",) if self.quiet else ()
        client = network.start(
            "client", "fetch", url, str(folder / "copy"), "--listen", LOOPBACK, *options, to_terminal=True
        )
        return client.wait_event("done")


def table(outcome: Outcome) -> list[str]:
    """Who sent what, as lines of text."""
    total = sum(sent for _, _, sent in outcome.senders)
    rows = [("source", "address", "sent", "share")]
    rows += [(name, where, size(sent), share(sent, total)) for name, where, sent in outcome.senders]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        f"  {name:<{widths[0]}}  {where:<{widths[1]}}  {sent:>{widths[2]}}  {part:>{widths[3]}}"
        for name, where, sent, part in rows
    ]

"""A fetch that is interrupted: killed, stopped, or out of space. Old files or new ones, never half ones; and
the next run goes on from where it was."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from blake3 import blake3
from tests.e2e.harness import Network, assert_same_tree, need, total_size
from tests.e2e.servers import Background, Proxy, proxy
from tests.e2e.trees import KIB, MIB, change_some, fill, plain_tree
from tests.help.waiting import until

PARTIAL = ".p2psync.partial"


def throttled_origin(net: Network, servers: Background, tree: Path, rate: float | None) -> tuple[str, Proxy]:
    """A published tree, served through a proxy that alone is known of: its counts are all that is sent."""
    url = net.publish(tree, state="origin")
    way = servers.enter(proxy(rate=rate))
    way.target = net.node("origin", "--advertise", way.address).address
    return url, way


class Watcher:
    """Looks at all files of a directory, again and again, for content that none of ``trees`` has there."""

    def __init__(self, directory: Path, *trees: Path) -> None:
        self._directory = directory
        self._allowed: dict[str, set[bytes]] = {}
        for tree in trees:
            for path in tree.rglob("*"):
                if path.is_file():
                    name = os.fspath(path.relative_to(tree))
                    self._allowed.setdefault(name, set()).add(blake3(path.read_bytes()).digest())
        self._stop = threading.Event()
        self.wrong: list[str] = []
        self.rounds = 0
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._look()
            self.rounds += 1
            self._stop.wait(0.05)

    def _look(self) -> None:
        for path in list(self._files()):
            try:
                digest = blake3(path.read_bytes()).digest()
            except FileNotFoundError:
                continue  # Replaced between listing and reading.
            name = os.fspath(path.relative_to(self._directory))
            if digest not in self._allowed.get(name, set()):
                self.wrong.append(name)

    def _files(self) -> Iterator[Path]:
        for directory, below, names in os.walk(self._directory):
            if PARTIAL in below:
                below.remove(PARTIAL)
            yield from (Path(directory) / name for name in names)

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()
            self._look()
        assert self.rounds > 3
        assert self.wrong == []


def test_killed_at_any_moment_it_leaves_whole_files_and_goes_on(net: Network, servers: Background) -> None:
    tree = plain_tree(net.path / "tree", small=600, large=(14 * MIB, 9 * MIB, 6 * MIB, 3 * MIB), seed="new")
    old = plain_tree(net.path / "copy", small=300, large=(2 * MIB,), seed="old")
    shutil.copytree(old, net.path / "old", symlinks=True)
    url, way = throttled_origin(net, servers, tree, 6 * MIB)
    chance = random.Random(5)
    with Watcher(net.path / "copy", tree, net.path / "old").watching():
        for _ in range(3):
            fetching = net.spawn("fetch", url, net.path / "copy", "--source", way.address, state="client")
            before = way.sent
            enough = before + chance.randrange(100 * KIB, 6 * MIB)
            until(lambda: way.sent > enough, "bytes come")  # noqa: B023 - called at once
            assert fetching.process.poll() is None, "it was over before it could be killed"
            fetching.kill()
        done = net.run("fetch", url, net.path / "copy", "--source", way.address, state="client").done
    assert way.sent <= 1.05 * total_size(tree), way.sent / total_size(tree)
    assert done["reused"] > 0
    assert not (net.path / "copy" / PARTIAL).exists()
    assert_same_tree(tree, net.path / "copy")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal_it_ends_with_20_and_keeps_what_is_there(
    net: Network, servers: Background, number: signal.Signals
) -> None:
    tree = plain_tree(net.path / "tree", small=100, large=(8 * MIB, 4 * MIB))
    url, way = throttled_origin(net, servers, tree, 4 * MIB)
    fetching = net.spawn("fetch", url, net.path / "copy", "--source", way.address, state="client")
    until(lambda: way.sent > 3 * MIB, "a part has come")
    fetching.signal(number)
    assert fetching.wait() == 20
    assert fetching.events[-1] == {
        "event": "error",
        "code": 20,
        "message": "stopped by a signal; run the same command again to go on from here",
    }
    way.rate = None
    net.run("fetch", url, net.path / "copy", "--source", way.address, state="client")
    assert way.sent <= 1.05 * total_size(tree) + MIB
    assert_same_tree(tree, net.path / "copy")


def test_when_the_network_goes_away_it_says_so_and_the_next_run_goes_on(
    net: Network, servers: Background
) -> None:
    tree = plain_tree(net.path / "tree", small=60, large=(6 * MIB,))
    url, way = throttled_origin(net, servers, tree, 3 * MIB)
    fetching = net.spawn(
        "fetch", url, net.path / "copy", "--source", way.address, "--timeout", "4", state="client"
    )
    until(lambda: way.sent > 2 * MIB, "a part has come")
    way.rate = 0.001  # Connections stay, but nothing moves any more.
    assert fetching.wait() in (10, 30), fetching.stderr
    assert "run again" in fetching.events[-1]["message"]


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[None]:
    """A file system of ``size`` bytes at ``path``. Making it takes root, as CI is."""
    path.mkdir()
    options = f"size={size},mode=755"
    made = subprocess.run(
        [need("mount"), "-t", "tmpfs", "-o", options, "p2psync-test", path],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode and os.geteuid():
        pytest.skip("mounting a small file system takes root")
    assert made.returncode == 0, f"a full disk cannot be made here, mount(8) says: {made.stderr}"
    try:
        yield
    finally:
        subprocess.run([need("umount"), path], check=True)


def enlarge(path: Path, size: int) -> None:
    subprocess.run([need("mount"), "-o", f"remount,size={size}", path], check=True)


def test_on_a_full_disk_old_files_stay_and_with_more_space_the_next_run_completes(net: Network) -> None:
    old = plain_tree(net.path / "old", small=100, seed="old")
    tree = plain_tree(net.path / "tree", small=100, seed="old")
    change_some(tree, every=2, seed="new")
    fill(tree / "large" / "first", 5 * MIB, "first")
    fill(tree / "large" / "second", 5 * MIB, "second")
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    disk = net.path / "disk"
    with small_disk(disk, 7 * MIB):
        copy = disk / "copy"
        shutil.copytree(old, copy)
        fetch = "fetch", url, copy, "--source", origin.address
        refused = net.run(*fetch, state="client", expect=11)
        assert "nothing was changed" in refused.events[-1]["message"]
        assert_same_tree(old, copy)
        watcher = Watcher(copy, tree, old)
        with watcher.watching():
            failed = net.run(*fetch, "--no-check-space", "--bwlimit", "8m", state="client", expect=11)
        message = failed.events[-1]["message"]
        assert "no space left on the device" in message
        assert "run again" in message
        for path in old.rglob("s*"):
            assert (copy / path.relative_to(old)).exists()
        enlarge(disk, 40 * MIB)
        done = net.run("fetch", url, copy, "--source", origin.address, state="client").done
        assert done["received"] < total_size(tree)
        assert_same_tree(tree, copy)


def test_a_full_disk_below_the_state_directory_is_told_as_such(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=2000)
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    state = net.state("client")
    with small_disk(state, 300 * KIB):
        failed = net.run(
            "fetch", url, net.path / "copy", "--source", origin.address, state="client", expect=11
        )
        assert "space" in failed.events[-1]["message"] or "full" in failed.events[-1]["message"]
        enlarge(state, 40 * MIB)
        net.run("fetch", url, net.path / "copy", "--source", origin.address, state="client")
    assert_same_tree(tree, net.path / "copy")


def test_two_fetches_into_one_directory_do_not_disturb_each_other(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=50, large=(4 * MIB,))
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    first = net.spawn(
        "fetch", url, net.path / "copy", "--source", origin.address, "--bwlimit", "1m", state="client"
    )
    until((net.path / "copy" / PARTIAL).exists, "the first is under way")
    second = net.run("fetch", url, net.path / "copy", "--source", origin.address, state="client", expect=75)
    assert str(first.process.pid) in second.events[-1]["message"]
    assert first.wait() == 0
    assert_same_tree(tree, net.path / "copy")

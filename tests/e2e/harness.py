"""Helpers for end-to-end tests: real p2psync processes, real trees, real judges.

    net.node("boot")                                  a running node; .address is its HOST:PORT
    net.run("publish", tree, state="origin")          a command that ends; .events are its JSON objects
    net.spawn("fetch", url, dest, state="client")     a command in the background; .kill() is SIGKILL

The fixture ``net`` (tests/e2e/conftest.py) makes a Network in the test's own directory and kills what is left
of it. Everything listens on 127.0.0.1 at ports that the system picks. Waiting ends at a deadline that is far
beyond what a slow machine needs: it is there to end a broken test, not to measure. What a command loads is
loaded already (tests/e2e/fork_server.py).
"""

from __future__ import annotations

import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tests.e2e.fork_server import Forked, forked

DEADLINE = 120.0
PROGRAM = [sys.executable, "-m", "p2psync"]
LOOPBACK = "127.0.0.1:0"
DEBIAN_PACKAGES = {
    "ip": "iproute2",
    "nft": "nftables",
    "systemd-analyze": "systemd",
    "promtool": "prometheus",
    "man": "man-db",
    "lexgrog": "man-db",
}
"""Debian package of a program, where it has another name."""


def need(program: str) -> str:
    """The path of a program that a test compares with. Fails the test, with the remedy, where it is
    missing.
    """
    found = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
    if found is None:
        package = DEBIAN_PACKAGES.get(program, program)
        raise AssertionError(f"this test needs {program}: apt-get install {package}")
    return found


class Command:
    """One ``p2psync`` process. Its JSON objects arrive in ``events``, whatever it says in ``stderr``."""

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        log: Path,
        *,
        forks: bool = False,
        namespace: str = "",
    ) -> None:
        """``forks``: what follows `PROGRAM` is run by the fork server. ``namespace``: the network namespace
        that it runs in.
        """
        self.argv = list(argv)
        self.process: subprocess.Popen[bytes] | Forked
        self._log = log
        self._new: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.events: list[dict[str, Any]] = []
        with log.open("wb") as stderr:
            if forks:
                self.process = forked(self.argv[len(PROGRAM) :], env, stderr, namespace)
            else:
                inside = [need("ip"), "netns", "exec", namespace] if namespace else []
                self.process = subprocess.Popen(
                    [*inside, *self.argv],
                    env=dict(env),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._new.put(json.loads(line))
        self._new.put(None)

    @property
    def stderr(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_event(self, kind: str, timeout: float = DEADLINE) -> dict[str, Any]:
        """The first event of a kind, among those that came and those that are to come."""
        for event in self.events:
            if event["event"] == kind:
                return event
        while True:
            event_or_end = self._next(timeout, f"no {kind!r} event")
            if event_or_end is None:
                raise AssertionError(
                    f"{self.argv[1:]} ended with {self.wait()} before {kind!r}: {self.stderr}"
                )
            if event_or_end["event"] == kind:
                return event_or_end

    def _next(self, timeout: float, otherwise: str) -> dict[str, Any] | None:
        try:
            event = self._new.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"{otherwise} in {timeout} s from {self.argv[1:]}: {self.stderr}") from None
        if event is not None:
            self.events.append(event)
        return event

    def wait(self, timeout: float = DEADLINE) -> int:
        """The exit code; negative for a signal. Afterwards ``events`` is complete."""
        code = self.process.wait(timeout)
        while self._reader.is_alive() or not self._new.empty():
            if self._next(timeout, "the output did not end") is None:
                break
        return code

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: what a power cut does to a process."""
        self.process.kill()
        self.wait()

    def stop(self) -> int:
        """SIGTERM and the exit code."""
        self.process.terminate()
        return self.wait()

    @property
    def done(self) -> dict[str, Any]:
        """The last event, which must be the summary of a fetch."""
        event = self.events[-1] if self.events else {}
        assert event.get("event") == "done", f"{self.argv[1:]} ended with {event}: {self.stderr}"
        return event


C = TypeVar("C", bound="Command")


class Node(Command):
    """A running ``p2psync node`` (or standing mirror) that is ready."""

    address: str
    """HOST:PORT, of the DHT (UDP) and of the content server (TCP)."""
    node_id: str

    def ready(self) -> Node:
        event = self.wait_event("ready")
        self.address, self.node_id = event["listen"], event["node"]
        return self


class Network:
    """Processes, state directories and trees of one test, all below ``path``. ``namespace``: the network
    namespace that the processes run in. ``program`` is p2psync.
    """

    def __init__(self, path: Path, namespace: str = "") -> None:
        self.path = path
        self.program = PROGRAM
        self.forks = True
        """Whether commands are forked from a process that has loaded p2psync. Off where it matters how they
        are started.
        """
        self.namespace = namespace
        self._commands: list[Command] = []

    def state(self, name: str) -> Path:
        return self.path / "state" / name

    def spawn(self, command: str, *args: object, state: str, env: Mapping[str, str] | None = None) -> Command:
        """Start ``p2psync COMMAND ARGS --json`` on a state directory of its own by name."""
        return self._start(Command, [command], args, state, env)

    def node(self, state: str, *args: object, bootstrap: Node | None = None, listen: str = LOOPBACK) -> Node:
        """Start a node and wait until it is ready. The state may have been used before: then it serves it."""
        options = ["--bootstrap", bootstrap.address] if bootstrap is not None else []
        return self._start(Node, ["node"], ["--listen", listen, *options, *args], state, None).ready()

    def mirror(
        self,
        url: str,
        directory: Path,
        *args: object,
        state: str,
        bootstrap: Node | None = None,
        listen: str = LOOPBACK,
    ) -> Node:
        """Start a standing mirror; it is ready, but may still be fetching: wait_event("done") waits for
        that.
        """
        options = ["--bootstrap", bootstrap.address] if bootstrap is not None else []
        words = [url, directory, "--listen", listen, *options, *args]
        return self._start(Node, ["mirror"], words, state, None).ready()

    def _start(
        self,
        kind: type[C],
        words: list[str],
        args: Sequence[object],
        state: str,
        env: Mapping[str, str] | None,
    ) -> C:
        folder = self.state(state)
        folder.parent.mkdir(parents=True, exist_ok=True)
        log = self.path / f"{len(self._commands):02}-{words[0]}-{state}.stderr"
        words = words + [os.fspath(a) if isinstance(a, Path) else str(a) for a in args]
        argv = [*self.program, *words, "--json", "--state", os.fspath(folder)]
        # What else is in the environment may be read while modules are loaded.
        forks = self.forks and all(name.startswith("P2PSYNC_") for name in env or ())
        forks = forks and argv[: len(PROGRAM)] == PROGRAM
        command = kind(argv, self._environment(env), log, forks=forks, namespace=self.namespace)
        self._commands.append(command)
        return command

    def _environment(self, extra: Mapping[str, str] | None) -> dict[str, str]:
        """The environment without what the person who runs the tests has configured."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("P2PSYNC_")}
        return plain | {"XDG_CONFIG_HOME": os.fspath(self.path / "config"), **(extra or {})}

    def run(self, command: str, *args: object, state: str, expect: int | None = 0, **env: str) -> Command:
        """Run a command to its end and check its exit code (None: any)."""
        process = self.spawn(command, *args, state=state, env=env)
        code = process.wait()
        assert expect is None or code == expect, f"{command} ended with {code}: {process.stderr}"
        return process

    def publish(self, tree: Path, *args: object, state: str) -> str:
        """Publish a tree and return its URL."""
        process = self.run("publish", tree, *args, state=state)
        url: str = process.events[-1]["archive"]
        return url

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for command in self._commands:
            if command.process.poll() is None:
                command.process.send_signal(signal.SIGCONT)
                command.kill()


def rsync_difference(source: Path, copy: Path) -> str:
    """What rsync would still change to make ``copy`` equal to ``source``: nothing, if they are equal."""
    argv = [need("rsync"), "-rlptni", "--checksum", "--delete", f"{source}/", f"{copy}/"]
    return subprocess.run(argv, check=True, capture_output=True).stdout.decode(errors="backslashreplace")


def assert_same_tree(source: Path, copy: Path) -> None:
    """Equal for rsync, and equal in what rsync does not look at (nanoseconds)."""
    from p2psync.demo.compare import differences

    assert rsync_difference(source, copy) == ""
    assert differences(os.fsencode(source), os.fsencode(copy)) == []


def make_tree(
    root: Path, *, files: int = 40, max_size: int = 200_000, seed: int = 1, odd_names: bool = True
) -> Path:
    """A tree of random files (sizes spread over all scales up to ``max_size``), directories and symlinks,
    with odd
    modes, times with nanoseconds, and names that are hard to handle."""
    chance = random.Random(seed)
    root.mkdir(parents=True)
    directories = [root, *(root / f"dir{i}" / "sub" for i in range(max(1, files // 20)))]
    for directory in directories:
        directory.mkdir(parents=True, exist_ok=True)
    names = [f"file{i}" for i in range(files)]
    if odd_names:
        odd = [
            b"not utf-8 \xff\xfe",
            b"new\nline",
            b"-rf",
            b" space ",
            b"x" * 255,
            "ünï".encode(),
            b"[bold]red[x]",
        ]
        names += [os.fsdecode(name) for name in odd]
    for name in names:
        path = chance.choice(directories) / name
        path.write_bytes(chance.randbytes(int(max_size ** chance.random()) - 1))
        path.chmod(chance.choice([0o644, 0o600, 0o755, 0o444, 0o640]))
        set_mtime(path, chance.randrange(10**18, 17 * 10**17))
    (root / "empty").touch()
    (root / "empty directory").mkdir()
    (root / "link").symlink_to(names[0])
    (root / "dangling").symlink_to("/nowhere/at all")
    # All of them: rsync leaves the nanoseconds as they are of what is of the same second.
    above = [directory.parent for directory in directories if directory != root]
    links = [root / "empty", root / "link", root / "dangling"]
    for path in [*links, *directories, root / "empty directory", *above]:
        set_mtime(path, chance.randrange(10**18, 17 * 10**17))
    return root


def set_mtime(path: Path, mtime_ns: int) -> None:
    os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)


def total_size(root: Path) -> int:
    """Bytes in the regular files of a tree."""
    return sum(p.lstat().st_size for p in root.rglob("*") if p.is_file() and not p.is_symlink())

"""A fork server for the end-to-end tests: p2psync is loaded once, and each command is forked from that.

    process = forked(["publish", "tree"], environment, stderr)

Python and what p2psync loads take 0.2 s of CPU, more than most commands of a test have to do. A command is a
process of its own all the same, with its own arguments, environment, descriptors and signals, and ends as one
that ``python -m p2psync`` has started. What it loads when is the subject of tests/node/test_start_up.py.

The server has one thread, and has opened nothing, so that nothing is shared by what is forked. It ends with
whoever started it.
"""

from __future__ import annotations

import atexit
import codecs
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

REQUEST_BYTES: Final = 1 << 20
"""Arguments and environment: below what the system takes (execve(2))."""
STATUS_BYTES: Final = 4
NAMESPACES: Final = Path("/run/netns")
"""Where ip-netns(8) has them."""
CLONE_NEWNET: Final = 0x40000000


class Forked:
    """A process that the server has forked: the part of `subprocess.Popen` that the tests use."""

    def __init__(self, pid: int, status: int, stdout: IO[bytes]) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._status = status
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("a forked p2psync", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            with self._lock:
                if self.returncode is None:
                    told = os.read(self._status, STATUS_BYTES)
                    assert len(told) == STATUS_BYTES, "the fork server has died"
                    self.returncode = int.from_bytes(told, "big", signed=True)
                    os.close(self._status)
        return self.returncode


class Server:
    """The server, as seen by who has processes forked."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self._answers = self._ours.makefile("rb")
        self._lock = threading.Lock()
        atexit.register(self._close)

    def _close(self) -> None:
        self._answers.close()
        self._ours.close()
        self._process.wait()

    def fork(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        stderr: int,
        namespace: str,
        user: int | None,
    ) -> Forked:
        """Have ``python -m p2psync`` with these words run."""
        asked = {
            "words": list(words),
            "environment": dict(environment),
            "directory": os.getcwd(),
            "namespace": namespace,
            "user": user,
        }
        stdout, stdout_inside = os.pipe()
        status, status_inside = os.pipe()
        try:
            with self._lock:
                socket.send_fds(self._ours, [b"*"], [stdout_inside, stderr, status_inside])
                self._ours.sendall(json.dumps(asked).encode() + b"\n")
                pid = int(self._answers.readline())
        finally:
            os.close(stdout_inside)
            os.close(status_inside)
        return Forked(pid, status, os.fdopen(stdout, "rb"))


@functools.cache
def _server() -> Server:
    return Server()


def forked(
    words: Sequence[str],
    environment: Mapping[str, str],
    stderr: IO[bytes],
    namespace: str = "",
    user: int | None = None,
) -> Forked:
    """As `subprocess.Popen` of ``python -m p2psync`` with these words, nothing to read and a pipe to write
    to. ``namespace``: the network namespace that it runs in (ip-netns(8)). ``user``: whom root lets run it,
    who need not be let read Python's files.
    """
    return _server().fork(words, environment, stderr.fileno(), namespace, user)


# The server.


class _Request:
    """What is to be run, and the descriptors that it gets."""

    def __init__(self, channel: socket.socket) -> None:
        """Raises EOFError: there will be none any more."""
        mark, self.descriptors, _, _ = socket.recv_fds(channel, 1, 3)
        if not mark:
            raise EOFError
        line = bytearray()
        while not line.endswith(b"\n") and len(line) < REQUEST_BYTES:
            line += channel.recv(REQUEST_BYTES)
        self.asked: dict[str, Any] = json.loads(line)


def _load() -> None:
    """Everything that some command loads."""
    import p2psync

    for module in pkgutil.walk_packages(p2psync.__path__, "p2psync."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    codecs.lookup("idna")  # As the names of hosts are looked up.
    gc.collect()
    gc.freeze()


def _serve(channel: socket.socket) -> _Request | None:
    """Fork for each request. Returns the request in each process that was forked, and None at the end."""
    woken, wake = os.pipe()
    for each in (woken, wake):
        os.set_blocking(each, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    running: dict[int, int] = {}
    while True:
        ready = select.select([channel.fileno(), woken], [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
            _reap(running)
        if channel.fileno() not in ready:
            continue
        try:
            request = _Request(channel)
        except EOFError:
            return None
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            channel.detach()
            return request
        *given, status = request.descriptors
        for each in given:
            os.close(each)
        running[pid] = status
        channel.sendall(b"%d\n" % pid)


def _reap(running: dict[int, int]) -> None:
    """Tell of each process that has ended how it did."""
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        place = running.pop(pid)
        with contextlib.suppress(BrokenPipeError):  # Nobody waits for it any more.
            os.write(place, os.waitstatus_to_exitcode(status).to_bytes(STATUS_BYTES, "big", signed=True))
        os.close(place)


def _become(request: _Request) -> None:
    """Be the process that was asked for: what it has of the server is closed."""
    stdout, stderr, _ = request.descriptors
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    if request.asked["namespace"]:
        _enter(NAMESPACES / request.asked["namespace"])
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(request.asked["environment"])
    os.chdir(request.asked["directory"])
    # What they were opened on may have been a file, and is a pipe now.
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - for as long as the process runs
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115 - as above
    sys.argv = ["p2psync", *request.asked["words"]]
    if (user := request.asked["user"]) is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def _enter(namespace: Path) -> None:
    """Be in a network namespace (setns(2)), as after ``ip netns exec``."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(os.open(namespace, os.O_RDONLY), CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns", str(namespace))


if __name__ == "__main__":
    sys.path.pop(0)  # This directory: python -m has the working directory there.
    _load()
    if (own := _serve(socket.socket(fileno=int(sys.argv[1])))) is not None:
        _become(own)
        runpy.run_module("p2psync", run_name="__main__", alter_sys=True)

"""Processes of a benchmark: run to the end and charged for wall time and CPU, or started as servers and
charged while they run. Memory is `memory`'s.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEADLINE: Final = 600.0
"""Seconds after which a run counts as hung and is killed: the longest takes minutes."""
READY_DEADLINE: Final = 60.0
"""Seconds a server may take until it listens."""
POLL: Final = 0.01
TOLD_MAX: Final = 2000
"""Characters of a failed program's output that are shown."""
PACKAGES: Final = {"aria2c": "aria2", "ip": "iproute2", "tc": "iproute2", "mkfs.ext4": "e2fsprogs"}
"""Debian package of a program, where it has another name."""
TICK: Final = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """Something that a benchmark needs is missing or failed: its sentence says what, and what to do."""


def need(program: str) -> str:
    """The path of a program. Raises BenchError, with the remedy, where it is missing."""
    found = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
    if found is None:
        raise BenchError(f"{program} is not here: apt-get install {PACKAGES.get(program, program)}")
    return found


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process runs: the address it is reached at, and the words before its command that put it there,
    such as those of a network namespace.
    """

    address: str = "127.0.0.1"
    before: tuple[str, ...] = ()


HERE: Final = Place()


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took, with the children it waited for: seconds of wall time and of CPU. ``output`` is
    what it wrote.
    """

    wall: float
    cpu: float
    output: str


class Running:
    """A process that was started and will be waited for. Its output goes to a file, so that no pipe fills."""

    def __init__(self, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.argv = list(argv)
        self._log = log
        with log.open("wb") as sink:
            self._began = time.perf_counter()
            self.process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, env=env
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def finish(self) -> Cost:
        """Wait for its end. Raises BenchError unless that is success, or if it takes longer than DEADLINE."""
        hung = threading.Timer(DEADLINE, self.process.kill)
        hung.start()
        try:
            _, status, used = os.wait4(self.pid, 0)
        except BaseException:  # interrupted: nothing that was started goes on
            self.process.kill()
            raise
        finally:
            hung.cancel()
        wall = time.perf_counter() - self._began
        self.process.returncode = code = os.waitstatus_to_exitcode(status)
        if code != 0:
            raise BenchError(f"{' '.join(self.argv)} ended with {code}: {self.output[-TOLD_MAX:]}")
        return Cost(wall, used.ru_utime + used.ru_stime, self.output)

    def freeze(self) -> None:
        """Stop it and its children, so that they are silent: their connections stay open."""
        self._signal_all(signal.SIGSTOP)

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in family(self.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self) -> None:
        """SIGTERM, also if it is frozen; SIGKILL if that does not help."""
        if self.process.poll() is not None:
            return
        self.process.terminate()
        self._signal_all(signal.SIGCONT)
        try:
            self.process.wait(READY_DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def listens(self, port: int) -> None:
        """Wait until it, or a child of it, listens on a TCP port of its network namespace. Raises BenchError
        if it ends before, or takes longer than READY_DEADLINE.
        """
        deadline = time.monotonic() + READY_DEADLINE
        while not _is_listening(self.pid, port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(
                    f"{' '.join(self.argv)} does not listen on port {port}: {self.output[-TOLD_MAX:]}"
                )
            time.sleep(POLL)


def _is_listening(pid: int, port: int) -> bool:
    try:
        lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    except FileNotFoundError:
        return False
    fields = (line.split() for line in lines)
    return any(one[3] == "0A" and int(one[1].partition(":")[2], 16) == port for one in fields)


def run(argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> Cost:
    """Run a process to its end."""
    return Running(argv, log, env).finish()


def serve(stack: ExitStack, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> Running:
    """Start a process that is stopped when ``stack`` ends."""
    server = Running(argv, log, env)
    stack.callback(server.stop)
    return server


def family(root: int) -> list[int]:
    """A process and all below it, as far as they are alive."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        parent = _stat(int(name))
        if parent is not None:
            children.setdefault(int(parent[1]), []).append(int(name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_of(root: int) -> float:
    """Seconds of CPU that a process and all below it have used so far, those that ended and were waited for
    included.
    """
    fields = [stat for pid in family(root) if (stat := _stat(pid)) is not None]
    return sum(int(one[column]) for one in fields for column in (11, 12, 13, 14)) / TICK


def settle(root: int) -> None:
    """Wait until a server that forks for each client has no child left, so that `cpu_of` counts them."""
    deadline = time.monotonic() + READY_DEADLINE
    while len(family(root)) > 1 and time.monotonic() < deadline:
        time.sleep(POLL)


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third on, see proc(5); None if it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()

"""System calls of a process, counted by perf(1): that needs root and costs the process little."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final

from bench.processes import POLL, READY_DEADLINE

EVENT: Final = "raw_syscalls:sys_enter"
PERF_OPENED: Final = "anon_inode:[perf_event]"


class Counter:
    """Counts, while it is entered, the system calls of a process and of the children it begets. ``count`` is
    None, with the reason in ``remark``, where that cannot be.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._perf: subprocess.Popen[str] | None = None
        self.count: float | None = None
        self.remark = "" if os.geteuid() == 0 and shutil.which("perf") else "needs root and perf"

    def __enter__(self) -> Counter:
        if not self.remark:
            argv = ["perf", "stat", "-x", ",", "-e", EVENT, "-p", str(self._pid)]
            self._perf = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
            _wait_until_counting(self._perf)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._perf is None:
            return
        if self._perf.poll() is None:
            self._perf.send_signal(signal.SIGINT)
        told = self._perf.communicate()[1]
        counted = [line.split(",")[0] for line in told.splitlines() if EVENT in line]
        if counted and counted[0].isdecimal():
            self.count = float(counted[0])
        else:
            self.remark = "perf cannot count system calls here"


def _wait_until_counting(perf: subprocess.Popen[str]) -> None:
    """Until perf has opened its event, or has ended because it could not."""
    deadline = time.monotonic() + READY_DEADLINE
    while perf.poll() is None and time.monotonic() < deadline:
        opened = Path(f"/proc/{perf.pid}/fd")
        try:
            links = [os.readlink(one) for one in opened.iterdir()]
        except FileNotFoundError:
            links = []
        if PERF_OPENED in links:
            return
        time.sleep(POLL)

"""A profiler inside a process: samples the stack of each thread, weighted by the CPU time that it used since
the sample before.

So time in C, such as hashing and system calls, counts for the function that called it, with or without the
interpreter lock, and waiting counts for nothing. Each process writes what it has seen into a file of its own,
again and again, so that one that is killed has told as well.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

FOLDER_VARIABLE: Final = "BENCH_PROFILE"
"""Environment variable: the directory for the files. Not P2PSYNC_..., which a benchmark takes out."""
INTERVAL: Final = 0.004
"""Seconds between samples."""
SAVED_EVERY: Final = 0.5
PACKAGES: Final = ("p2psync", "p2psync_dht")
NATIVE: Final = "threads that are not Python's"
OTHER: Final = "libraries"
TOP: Final = "start and top level"


def start(folder: Path) -> None:
    """Sample this process, and each that it forks, until it ends."""
    _begin(folder)
    os.register_at_fork(after_in_child=lambda: _begin(folder))


def _begin(folder: Path) -> None:
    sampler = _Sampler(folder)
    threading.Thread(target=sampler.run, name="profiler", daemon=True).start()
    atexit.register(sampler.save)


def room(frame: FrameType | None) -> tuple[str, str]:
    """The room of p2psync that a stack is in, and its innermost function there; where nothing of p2psync is
    on the stack, the innermost function of a library.
    """
    inner = frame
    while frame is not None:
        parts = frame.f_code.co_filename.split("/")
        for package in PACKAGES:
            if package in parts[:-1]:
                below = parts[len(parts) - parts[::-1].index(package) :]
                place = TOP if len(below) == 1 else below[0]
                name = place if package == PACKAGES[0] else package
                return name, f"{'/'.join(below)}:{frame.f_code.co_qualname}"
        frame = frame.f_back
    if inner is None:
        return OTHER, "?"
    return OTHER, f"{os.path.basename(inner.f_code.co_filename)}:{inner.f_code.co_qualname}"


class _Sampler:
    def __init__(self, folder: Path) -> None:
        self._file = folder / f"{os.getpid()}.json"
        self._used: dict[int, int] = {}
        self._seconds: Counter[tuple[str, str, str]] = Counter()
        """By thread, room and function."""
        self._lock = threading.Lock()

    def run(self) -> None:
        own = threading.get_native_id()
        saved = time.monotonic()
        while True:
            time.sleep(INTERVAL)
            with self._lock:
                self._sample(own)
            if time.monotonic() - saved > SAVED_EVERY:
                self.save()
                saved = time.monotonic()

    def _sample(self, own: int) -> None:
        frames = sys._current_frames()
        threads = {one.native_id: one for one in threading.enumerate()}
        for task in os.listdir("/proc/self/task"):
            used = _used(task)
            fresh = used - self._used.get(int(task), 0)
            self._used[int(task)] = used
            if fresh <= 0 or int(task) == own:
                continue
            thread = threads.get(int(task))
            if thread is None:
                self._seconds[NATIVE, NATIVE, ""] += fresh
            else:
                self._seconds[(thread.name, *room(frames.get(thread.ident or 0)))] += fresh

    def save(self) -> None:
        """Write the file anew. The last time is at the end of the process, from another thread."""
        with self._lock:
            rows = [[*key, nanoseconds / 1e9] for key, nanoseconds in self._seconds.items()]
        told = {"argv": sys.argv, "cpu": time.process_time(), "rows": rows}
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(told))
        os.replace(fresh, self._file)


def _used(task: str) -> int:
    """Nanoseconds of CPU of a thread of this process so far; 0 if it has ended."""
    try:
        with open(f"/proc/self/task/{task}/schedstat") as file:
            return int(file.read().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return 0

"""How much memory processes take at their peak, sampled while they run."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

from bench.processes import family

INTERVAL: Final = 0.05
"""Seconds between samples."""


class Sampler:
    """Samples, while it is entered, the memory of groups of processes: of each, a root and all below it.
    ``pss`` and ``rss`` are the peaks in bytes by group, each of the sum over the group's processes at one
    moment. PSS counts a page that several processes share once in all, RSS once for each; pages of files that
    are mapped count, the cache does not.
    """

    def __init__(self, groups: Mapping[str, int]) -> None:
        self._groups = dict(groups)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.pss = dict.fromkeys(groups, 0)
        self.rss = dict.fromkeys(groups, 0)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(INTERVAL):
            for name, root in self._groups.items():
                taken = [memory_of(pid) for pid in family(root)]
                self.pss[name] = max(self.pss[name], sum(pss for pss, _ in taken))
                self.rss[name] = max(self.rss[name], sum(rss for _, rss in taken))


def memory_of(pid: int) -> tuple[int, int]:
    """PSS and RSS of a process in bytes; zeros if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    values = {words[0]: int(words[1]) * 1024 for line in lines[1:] if (words := line.split())}
    return values.get("Pss:", 0), values.get("Rss:", 0)

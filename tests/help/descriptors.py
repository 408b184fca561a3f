"""Which files of a test are open. Other descriptors of the process come and go with what ran before."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def open_below(directory: Path) -> list[str]:
    """Where this process' descriptors lead that lead to something in ``directory``, or to what was there."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that the list itself was read from
            target = os.readlink(f"/proc/self/fd/{number}")
            if target.startswith(f"{directory}/") or target == str(directory):
                found.append(target)
    return sorted(found)

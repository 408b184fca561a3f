"""The command line on a machine whose clock is wrong.

net.program = ahead(days=31)
"""

from __future__ import annotations

import sys
import time


def ahead(*, days: int) -> list[str]:
    """A program for `Network.program` whose wall clock is so many days ahead of the others'."""
    return [sys.executable, __file__, str(days * 86400)]


if __name__ == "__main__":
    from p2psync.cli import main

    seconds = int(sys.argv.pop(1))
    clock, clock_ns = time.time, time.time_ns
    time.time = lambda: clock() + seconds
    time.time_ns = lambda: clock_ns() + seconds * 10**9
    main()

"""The command line with some constants of its modules set otherwise: minutes that a test need not wait for.

    net.program = impatient("p2psync.daemon.upkeep.TEST=1.0")

How long something is waited for is not what these tests are about: they are about what happens then.
"""

from __future__ import annotations

import importlib
import sys


def impatient(*settings: str) -> list[str]:
    """A program for `Network.program`; each setting is MODULE.NAME=SECONDS."""
    return [sys.executable, __file__, *settings, "--"]


SOON = (
    "p2psync.supply.download.STUCK_PAUSE=0.1",
    "p2psync.fetch.engine.RETRY_PAUSE=0.1",
    "p2psync.sources.swarm.BACKOFF_FIRST=0.05",
)
"""A source that is dead, and what no source has, are tried again as often as ever, but soon."""

if __name__ == "__main__":
    from p2psync.cli import main

    end = sys.argv.index("--")
    for setting in sys.argv[1:end]:
        name, _, seconds = setting.partition("=")
        module, _, constant = name.rpartition(".")
        values = vars(importlib.import_module(module))
        if constant not in values:
            raise SystemExit(f"there is no {name}: it was renamed, and the test has to follow")
        values[constant] = float(seconds)
    del sys.argv[1 : end + 1]
    main()

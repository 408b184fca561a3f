"""The command line; a node asks every second, instead of half-hourly, whether others reach it."""

from __future__ import annotations

from p2psync.cli import main
from p2psync.daemon import upkeep

PAUSE = 1.0

if __name__ == "__main__":
    vars(upkeep)["TEST"] = PAUSE
    main()

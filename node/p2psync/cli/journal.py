"""Messages on standard error, with a priority where the journal reads them.

systemd names the device and inode of the journal's socket in ``$JOURNAL_STREAM`` (systemd.exec(5)); a line
that begins with ``<N>`` then has the priority N of syslog(3) (sd-daemon(3)).
"""

from __future__ import annotations

import os
import sys
from typing import Final, TextIO

from p2psync.cli.streams import give_up

ERROR: Final = 3
WARNING: Final = 4
INFO: Final = 6
DEBUG: Final = 7


def is_journal(stream: TextIO) -> bool:
    """Whether the journal reads what is written to a stream."""
    named = os.environ.get("JOURNAL_STREAM", "")
    if not named:
        return False
    try:
        there = os.fstat(stream.fileno())
    except (OSError, ValueError):  # Not a file of the system, or closed.
        return False
    return named == f"{there.st_dev}:{there.st_ino}"


def say(priority: int, text: str) -> None:
    """Write one line to standard error. Where that is full or gone, nobody is left to tell; work goes on."""
    prefix = f"<{priority}>" if is_journal(sys.stderr) else ""
    try:
        print(f"{prefix}p2psync: {text}", file=sys.stderr, flush=True)
    except OSError:
        give_up(sys.stderr)

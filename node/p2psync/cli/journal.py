"""Messages on standard error: with a priority where the journal reads them, and the log of libraries among
them.

systemd names the device and inode of the journal's socket in ``$JOURNAL_STREAM`` (systemd.exec(5)); a line
that begins with ``<N>`` then has the priority N of syslog(3) (sd-daemon(3)).
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from p2psync.cli.output import Output

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
    """Write one line to standard error."""
    prefix = f"<{priority}>" if is_journal(sys.stderr) else ""
    print(f"{prefix}p2psync: {text}", file=sys.stderr, flush=True)


class LogHandler(logging.Handler):
    """Hands what is logged to a command's output: warnings always, more with -v, the DHT's with -vv."""

    def __init__(self, out: Output) -> None:
        super().__init__(logging.INFO)
        self._out = out

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {record.exc_info[1]!r}"
        if record.levelno >= logging.WARNING:
            self._out.warn(text)
        elif record.name.startswith("p2psync") and self._out.verbose > record.name.startswith("p2psync_dht"):
            self._out.detail(text)


def listen_to_logs(out: Output) -> None:
    """Let ``out`` say what is logged from now on in this process."""
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, LogHandler)]:
        root.removeHandler(handler)
    root.addHandler(LogHandler(out))
    for name in ("p2psync", "p2psync_dht"):
        logging.getLogger(name).setLevel(logging.INFO if out.verbose else logging.WARNING)

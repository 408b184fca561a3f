"""What libraries log, among the messages of the command that uses them."""

from __future__ import annotations

import logging

from p2psync.cli.output import Output


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

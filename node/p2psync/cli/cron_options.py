"""``--queue`` and ``--status-file``: what runs from cron and timers tell each other, and whoever watches
them.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from p2psync.cli.options import stack
from p2psync.cli.types import PathType
from p2psync.errors import P2psyncError, PlaceBusy

if TYPE_CHECKING:
    from pathlib import Path

    from p2psync.cli.options import Common
    from p2psync.cli.output import Output

FORMAT: Final = 1
"""Of the status file: more keys may come, none goes or changes without another number."""
STATUS_MAX: Final = 1 << 20
"""Bytes of a status file that are read back."""


def cron_options(function: Callable[..., int]) -> Callable[..., int]:
    """For a command with DEST or DIR as an argument, whose ``--once``, if it has that, makes it end."""

    @functools.wraps(function)
    def command(common: Common, *args: Any, queue: bool, status_file: Path | None, **others: Any) -> int:
        place = os.fsencode(others.get("dest") or others.get("directory") or "")

        def run() -> int:
            return function(common, *args, **others)

        status = None if status_file is None else Status(status_file, str(others["src"]), place, common.out)
        if status is not None:
            common.out.on_summary = status.done
        try:
            code = in_turn(common, place, run) if queue and others.get("once", True) else run()
            if code is None:
                return 0
        except P2psyncError as error:
            if status is not None:
                status.failed(error.exit_code, str(error))
            raise
        if status is not None and not status.is_told:
            status.ended(code)
        return code

    return stack(
        command,
        click.option(
            "--queue",
            is_flag=True,
            help="Where another run with this option is at work in the same directory, have it go once more "
            "when it is done, and end at once with 0. For cron, timers and pushes that may overlap.",
        ),
        click.option(
            "--status-file",
            type=PathType(dir_okay=False),
            metavar="FILE",
            help="Write how it went into FILE, as JSON: the last success, the last error, sizes, snapshot.",
        ),
    )


def in_turn(common: Common, place: bytes, run: Callable[[], int]) -> int | None:
    """Run, and once more for as long as somebody asks for it meanwhile; the exit code. None: another one is
    at work, and was asked to go once more.
    """
    from p2psync.state.queued import Queued

    with common.open_state() as state:
        queued = Queued(state.path, os.path.realpath(place))
    code: int | None = None
    asked = False
    while True:
        if not asked:
            queued.take()
        try:
            code = run()
        except PlaceBusy:
            if asked:
                common.out.detail("another run is at work there, and goes once more when it is done")
                return code
            # It may have ended before it could see that; then it is our turn.
            queued.ask()
            asked = True
            continue
        asked = False
        if not queued.take():
            return code


class Status:
    """The file that says how the last run went, for monitoring. It is replaced as a whole."""

    def __init__(self, path: Path, src: str, dest: bytes, out: Output) -> None:
        self._path = path
        self._src = src
        self._dest = os.fsdecode(os.path.realpath(dest))
        self._out = out
        self.is_told = False
        """Whether this run has written it."""

    def done(self, summary: dict[str, Any], code: int) -> None:
        """A run came to its end with a summary, as its last event has it."""
        self._write(code, "" if not code else "not everything could be done; see its messages", summary)

    def ended(self, code: int) -> None:
        """A run came to its end otherwise, as where rsync fetched."""
        self._write(code, f"rsync ended with {code}" if code else "", None)

    def failed(self, code: int, message: str) -> None:
        """A run was ended by an error."""
        self._write(code, message, None)

    def _write(self, code: int, message: str, summary: dict[str, Any] | None) -> None:
        import json  # 3 ms

        before = self._read()
        now = int(time.time())
        error = {"time": now, "code": code, "message": message}
        told = {
            "format": FORMAT,
            "src": self._src,
            "dest": self._dest,
            "ok": not code,
            "time": now,
            "code": code,
            "message": message,
            "last_success": now if not code else before.get("last_success"),
            "last_error": error if code else before.get("last_error"),
            "summary": summary if summary is not None else before.get("summary"),
        }
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            import json

            temporary.write_text(json.dumps(told, indent=1, ensure_ascii=True) + "\n")
            os.replace(temporary, self._path)
        except OSError as error_:
            temporary.unlink(missing_ok=True)
            self._out.warn(f"the status file {os.fspath(self._path)!r} cannot be written: {error_.strerror}")
        self.is_told = True

    def _read(self) -> dict[str, Any]:
        """What it said before; nothing where there is none, or another file."""
        import json

        try:
            with self._path.open("rb") as file:
                import json

                told = json.loads(file.read(STATUS_MAX))
        except (OSError, ValueError):
            return {}
        return told if isinstance(told, dict) and told.get("format") == FORMAT else {}

"""What a command prints: results on standard output, messages on standard error, JSON objects for machines.

Progress is the business of ``p2psync.ui``. The JSON objects are described in docs/json.md and are stable.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from p2psync.cli.journal import DEBUG, WARNING, say
from p2psync.text import clean_lines, clean_text, json_text, name_fields

if TYPE_CHECKING:
    from p2psync.events import FileDone, Teller
    from p2psync.progress import Progress


def print_json(event: dict[str, Any]) -> None:
    """One object, one line, at once."""
    sys.stdout.buffer.write(json_text(event).encode() + b"\n")
    sys.stdout.buffer.flush()


class Output:
    """Where the words of one command go. ``warnings`` keeps what was warned about, for the command's last
    words.
    """

    def __init__(self, json: bool = False, quiet: bool = False, verbose: int = 0) -> None:
        self.json = json
        self.quiet = quiet
        self.verbose = verbose
        self.warnings: list[str] = []
        self.on_summary: Callable[[dict[str, Any], int], None] | None = None
        """Hears how a transfer went, as its last event has it, and the exit code."""

    def event(self, kind: str, **fields: Any) -> None:
        """Tell a machine; people see nothing of it."""
        if self.json:
            print_json({"event": kind, **fields})

    def result(self, text: str) -> None:
        """What the command was asked for; shown even with --quiet, replaced by events with --json."""
        if not self.json:
            print(clean_lines(text), flush=True)

    def address(self, url: str) -> None:
        """A result that people paste into a shell, where ``?`` and ``&`` mean something: quoted for them,
        on a terminal. Others get it as it is.
        """
        stream = sys.stdout
        for_people = not self.json and stream is not None and stream.isatty()
        self.result(shlex.quote(url) if for_people else url)

    def say(self, text: str) -> None:
        """Something good to know, on standard output; not with --quiet or --json."""
        if not (self.json or self.quiet):
            print(clean_text(text), flush=True)

    def summary(self, text: str, *, always: bool = False) -> None:
        """How it went: for who sits before a terminal or asks with -v. Cron mails whatever is printed, hence
        to others only where there is a reason (``always``), such as that something is missing.
        """
        if always or self.verbose or sys.stdout.isatty() or sys.stderr.isatty():
            self.say(text)

    def warn(self, text: str) -> None:
        """Something that may matter. Shown with --quiet too: cron mails it."""
        self.warnings.append(text)
        self.event("warning", message=text)
        say(WARNING, f"warning: {clean_text(text)}")

    def observing(self, *, files: bool = False) -> AbstractContextManager[Teller]:
        """A display of progress for as long as the block runs, as this command's options want it. ``files``:
        programs are told of each file as well.
        """
        from p2psync.ui.observer import observing

        return observing(
            self.warn,
            quiet=self.quiet,
            lines=bool(self.verbose),
            on_progress=self._progress if self.json else None,
            on_file=self._file if self.json and files else None,
        )

    def _progress(self, now: Progress) -> None:
        sharing = {"sent": now.sent, "sent_rate": round(now.sent_rate), "peers": now.peers}
        if now.resting is not None:
            self.event("resting", **now.resting._asdict(), **sharing)
            return
        self.event(
            "progress",
            phase=now.phase,
            bytes=now.bytes,
            total_bytes=now.total_bytes,
            files=now.files,
            total_files=now.total_files,
            rate=round(now.rate),
            eta=None if now.eta is None else round(now.eta, 1),
            seconds=round(now.seconds, 3),
            reused=now.reused,
            stalled=None if now.stalled is None else round(now.stalled, 1),
            **(name_fields(now.path, "path") if now.path else {}),
            **sharing,
            sources={
                source.name: {"bytes": source.received, "rate": round(source.rate), "state": source.state}
                for source in now.sources
            },
        )

    def _file(self, done: FileDone) -> None:
        self.event("file", **name_fields(done.path, "path"), size=done.size)

    def detail(self, text: str) -> None:
        """Something only -v asks for."""
        if self.verbose:
            say(DEBUG, clean_text(text))

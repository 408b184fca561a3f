"""The processes of the demo: each a real ``p2psync`` with a state directory and a port of its own."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2psync.errors import PartialError
from p2psync.network.egress import VARIABLES
from p2psync.text import clean_text

DEADLINE = 600.0
"""Seconds without a word from a process after which the demo gives up: far more than a slow machine takes."""


class Process:
    """A ``p2psync`` command with ``--json``; its standard error goes to a log, or to the terminal."""

    def __init__(self, name: str, argv: Sequence[str], log: Path | None) -> None:
        self.name = name
        self.listen = ""
        self._log = log
        self._events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        # Without this, each process would compile what it imports into __pycache__: the demo may publish that
        # very tree.
        # And no proxy leads to this machine's own loopback.
        environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1"}
        stderr = log.open("wb") if log is not None else None
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "p2psync", *argv, "--json", "--config", os.devnull],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        finally:
            if stderr is not None:
                stderr.close()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None  # noqa: S101 - it was asked for
        for line in self.process.stdout:
            self._events.put(json.loads(line))
        self._events.put(None)

    def wait_event(self, *kinds: str) -> dict[str, Any]:
        """The next event of one of the kinds. Raises PartialError, with the process's last words, if none
        comes.
        """
        while True:
            try:
                event = self._events.get(timeout=DEADLINE)
            except queue.Empty:
                raise PartialError(
                    f"{self.name} said nothing for {DEADLINE:.0f} seconds{self._last_words()}"
                ) from None
            if event is None:
                raise PartialError(f"{self.name} ended with {self.process.wait()}{self._last_words()}")
            if event["event"] == "error":
                raise PartialError(f"{self.name} failed: {event['message']}")
            if event["event"] in kinds:
                return event

    def ready(self) -> Process:
        """Wait until it serves; afterwards ``listen`` is its HOST:PORT."""
        self.listen = self.wait_event("ready")["listen"]
        return self

    def kill(self) -> None:
        """SIGKILL: no goodbye to anybody."""
        self.process.kill()
        self.process.wait()

    def _last_words(self) -> str:
        if self._log is None:
            return ""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f": {clean_text(lines[-1])}" if lines else ""


class DemoNetwork:
    """Starts processes with states and logs below one directory, and kills whatever is left of them at the
    end.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._processes: list[Process] = []

    def start(self, name: str, *argv: str, state: str | None = None, to_terminal: bool = False) -> Process:
        """Start ``p2psync ARGV`` on a state directory (by default one of the process's name)."""
        log = None if to_terminal else self.directory / f"{name}.log"
        process = Process(name, [*argv, "--state", str(self.directory / "state" / (state or name))], log)
        self._processes.append(process)
        return process

    def close(self) -> None:
        """Kill every process that still runs."""
        for process in self._processes:
            if process.process.poll() is None:
                process.kill()

"""What went wrong in a walk over a tree, without stopping it: warnings, and what they mean for the exit
code.
"""

from __future__ import annotations

from typing import Final

from p2psync.errors import PartialError, VanishedWarning, show_path
from p2psync.events import Teller

MAX_WARNINGS: Final = 1000  # kept for the caller; whoever watches sees every one


class Report:
    """Collects warnings. `vanished`: something vanished or kept changing (exit 24); `unreadable`: something
    could not be read (exit 23). Skipped sockets, pipes and devices are neither, as with rsync.
    """

    def __init__(self, tell: Teller) -> None:
        self._tell = tell
        self.warnings: list[str] = []
        self.count = 0
        self.vanished = False
        self.unreadable = False

    def skipped(self, path: bytes, what: str) -> None:
        self._warn(f"{show_path(path)} is left out: it is {what}")

    def gone(self, path: bytes) -> None:
        self.vanished = True
        self._warn(f"{show_path(path)} is left out: it vanished while the tree was read")

    def changing(self, path: bytes) -> None:
        self.vanished = True
        self._warn(f"{show_path(path)} is left out: it kept changing while it was read; publish again later")

    def refused(self, path: bytes, reason: str) -> None:
        self.unreadable = True
        self._warn(f"{show_path(path)} is left out: {reason}")

    @property
    def exit_code(self) -> int:
        """rsync's: 23 if something could not be read, 24 if something vanished, else 0."""
        if self.unreadable:
            return PartialError.exit_code
        return VanishedWarning.exit_code if self.vanished else 0

    def _warn(self, text: str) -> None:
        self.count += 1
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(text)
        self._tell.warn(text)

"""What went wrong in a walk over a tree, without stopping it: warnings, and what they mean for the exit
code.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from p2psync.errors import PartialError, VanishedWarning, show_path
from p2psync.events import Teller

NAMED_MAX: Final = 20
"""Paths of a kind that are named one by one; of a disk that fails, nobody reads ten thousand."""


class Report:
    """Collects warnings. `vanished`: something is gone since it was listed (exit 24); `unread` counts what is
    there and could not be read (exit 23). Skipped sockets, pipes and devices are neither, as with rsync.
    """

    def __init__(self, tell: Teller) -> None:
        self._tell = tell
        self._kinds: Counter[str] = Counter()
        self.warnings: list[str] = []
        self.temporaries = 0
        """Names that look like temporary ones of rsync's, and were left out."""
        self.linked = 0
        """Names of files that have further names, in the tree or elsewhere (hard links)."""

    def skipped(self, path: bytes, what: str) -> None:
        self._name("of other kinds were left out", f"{show_path(path)} is left out: it is {what}")

    def temporary(self) -> None:
        """A name that looks like a temporary one of rsync's was left out, as usual."""
        self.temporaries += 1

    def gone(self, path: bytes) -> None:
        self._name(_GONE, f"{show_path(path)} is left out: it vanished while the tree was read")

    def not_read(self, path: bytes, reason: str, instead: str = "it is left out") -> None:
        """``reason``: what is the matter with it, as words after its name."""
        self._name(_UNREAD, f"{show_path(path)} {reason}: {instead}")

    def finish(self) -> None:
        """Count what was not named."""
        for what, count in self._kinds.items():
            if count > NAMED_MAX:
                self._warn(f"{count - NAMED_MAX:,} more {what}")

    @property
    def vanished(self) -> bool:
        return self._kinds[_GONE] > 0

    @property
    def unread(self) -> int:
        return self._kinds[_UNREAD]

    @property
    def exit_code(self) -> int:
        """rsync's: 23 if something could not be read, 24 if something vanished, else 0."""
        if self.unread:
            return PartialError.exit_code
        return VanishedWarning.exit_code if self.vanished else 0

    def _name(self, kind: str, text: str) -> None:
        self._kinds[kind] += 1
        if self._kinds[kind] <= NAMED_MAX:
            self._warn(text)

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        self._tell.warn(text)


_GONE: Final = "vanished while the tree was read"
_UNREAD: Final = "could not be read"

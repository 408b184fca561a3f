"""What long work tells whoever watches it: phases, progress, sources, warnings. Displays implement it.

Calls come from one thread at a time and must be quick: they are made in the middle of the work.
"""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """The watcher of one publish, fetch, mirror or verify."""

    def phase(self, name: str, total_bytes: int | None, total_files: int | None) -> None:
        """A phase begins; totals are None where they are not known, and may turn out a little off."""

    def advance(self, bytes_done: int, files_done: int) -> None:
        """So much more of the phase is done."""

    def source(self, name: str, bytes_received: int) -> None:
        """So many more bytes came from the source `name` (HOST:PORT or URL)."""

    def source_state(self, name: str, state: str) -> None:
        """How the source `name` does: "" while all is well, else a word such as "banned"."""

    def warning(self, text: str) -> None:
        """One sentence that the user should see; the work goes on."""


class NullObserver:
    """Watches nothing."""

    def phase(self, name: str, total_bytes: int | None, total_files: int | None) -> None:
        pass

    def advance(self, bytes_done: int, files_done: int) -> None:
        pass

    def source(self, name: str, bytes_received: int) -> None:
        pass

    def source_state(self, name: str, state: str) -> None:
        pass

    def warning(self, text: str) -> None:
        pass

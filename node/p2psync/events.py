"""What long work tells whoever watches it: a stream of small values, made into displays by `ui`.

Engines speak through a `Teller`; what hears them is an `Observer`, a function of one event. It is called in
the middle of the work, by one thread at a time but not always by the same one: it must be quick, must not
speak to the teller that calls it, and what it raises ends the work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, NamedTuple

WARNINGS_REMEMBERED: Final = 1000
"""Warnings that are known again: beyond it a repeated one is told twice, which costs less than its memory."""


class Phase(NamedTuple):
    """A part of the work begins; an empty name: nothing goes on until the next one.

    Totals are None where they are not known, and may turn out a little off.
    """

    name: str
    total_bytes: int | None = None
    total_files: int | None = None


class Advanced(NamedTuple):
    """So much more of the phase is done."""

    bytes: int
    files: int


class Received(NamedTuple):
    """So many more bytes of content came from `source` (HOST:PORT or URL) and were right."""

    source: str
    bytes: int


class SourceState(NamedTuple):
    """How `source` does: "" while all is well, else a word such as "banned"."""

    source: str
    state: str


class Warned(NamedTuple):
    """One sentence that the user should see; the work goes on."""

    text: str


class FileDone(NamedTuple):
    """A file of `size` bytes was put in place. Only told to those who ask for it (see `Teller`)."""

    path: bytes
    """Relative to the directory that is fetched into."""
    size: int


Event = Phase | Advanced | Received | SourceState | Warned | FileDone
Observer = Callable[[Event], None]


class Teller:
    """What engines hold: a method for each event. Without an observer nothing is made and nothing told."""

    __slots__ = ("_lock", "_observer", "_warned", "wants_files")

    def __init__(self, observer: Observer | None = None, *, files: bool = False) -> None:
        """`files`: tell of each file that is put in place; else 200,000 files cost nothing."""
        self._observer = observer
        self._lock = threading.Lock()
        self._warned: set[str] = set()
        self.wants_files: Final = files and observer is not None

    def phase(self, name: str, total_bytes: int | None = None, total_files: int | None = None) -> None:
        if self._observer is not None:
            self.hand_on(Phase(name, total_bytes, total_files))

    def idle(self) -> None:
        """This run is over and nothing goes on until the next phase; what is warned of then is news again."""
        self._warned.clear()
        self.phase("")

    def advance(self, bytes_done: int, files_done: int) -> None:
        if self._observer is not None:
            self.hand_on(Advanced(bytes_done, files_done))

    def received(self, source: str, count: int) -> None:
        if self._observer is not None:
            self.hand_on(Received(source, count))

    def source_state(self, source: str, state: str) -> None:
        if self._observer is not None:
            self.hand_on(SourceState(source, state))

    def warn(self, text: str) -> None:
        """The same sentence is told once a run, however many connections or attempts come upon it."""
        if self._observer is None or text in self._warned:
            return
        if len(self._warned) < WARNINGS_REMEMBERED:
            self._warned.add(text)
        self.hand_on(Warned(text))

    def file_done(self, path: bytes, size: int) -> None:
        if self.wants_files:
            self.hand_on(FileDone(path, size))

    def hand_on(self, event: Event) -> None:
        """Tell what another teller told, as it is."""
        if self._observer is not None:
            with self._lock:
                self._observer(event)


SILENT: Final = Teller()
"""For work that nobody watches."""


def warnings_to(warn: Callable[[str], None]) -> Observer:
    """An observer that hears warnings alone."""

    def hear(event: Event) -> None:
        if isinstance(event, Warned):
            warn(event.text)

    return hear

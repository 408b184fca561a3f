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

PathBytes = bytes
"""A path (some values have a field of the name ``bytes``)."""


class Phase(NamedTuple):
    """A part of the work begins; an empty name: nothing goes on until the next one.

    Totals are None where they are not known, and may turn out a little off.
    """

    name: str
    total_bytes: int | None = None
    total_files: int | None = None
    done_bytes: int = 0
    done_files: int = 0
    """What of the totals was done before the phase began, by a run that was interrupted."""


class Advanced(NamedTuple):
    """So much more of the phase is done."""

    bytes: int
    files: int
    reused: int = 0
    """Those of `bytes` that cost nothing: they are on this machine, or known from the last time."""
    path: PathBytes = b""
    """The file that was last worked at; empty where none is named."""


class Awaiting(NamedTuple):
    """Whether the work waits for others from now on: silence is a stall then, and else perhaps a slow disk.
    A new phase waits for nobody.
    """

    others: bool


class Arrived(NamedTuple):
    """So many more bytes came over the wire from `source`, whatever they will turn out to be."""

    source: str
    bytes: int


class Received(NamedTuple):
    """So many more bytes of content came from `source` (HOST:PORT or URL) and were right."""

    source: str
    bytes: int


class Served(NamedTuple):
    """So many more bytes were sent to others, of whom so many (addresses) are connected now."""

    bytes: int
    peers: int


class Resting(NamedTuple):
    """Nothing is to be done for now but to serve. Times in Unix seconds; None: there is no such time."""

    state: str
    """A word or two for people: "up to date"."""
    since: float | None = None
    next_check: float | None = None


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


class Whole(NamedTuple):
    """What is in DEST when all is done. Only told to those who ask for changes (see `Teller`)."""

    files: int
    dirs: int
    """Without DEST itself."""
    links: int
    bytes: int
    """Of the files."""
    link_bytes: int
    """Of what the links say."""


class Changing(NamedTuple):
    """Something is going to be made or changed. Only told to those who ask for changes (see `Teller`)."""

    path: PathBytes
    """Relative to the directory that is fetched into, which is b""."""
    kind: str
    """"f", "d" or "L", as rsync(1) has it (--itemize-changes)."""
    is_new: bool
    """Nothing of that kind stands there."""
    differs: str
    """Of what stands there, what is another: "c"ontent, "s"ize, "t"ime in seconds, "p"ermissions."""
    is_update: bool
    """It is a file that rsync would look into, since its size or its time is another."""
    size: int
    mtime_ns: int
    mode: int
    target: PathBytes = b""


class Removing(NamedTuple):
    """Something is going to be removed. Only told to those who ask for changes (see `Teller`)."""

    path: PathBytes
    kind: str
    """As of `Changing`, or "S" for anything else."""
    mode: int


class Unsafe(NamedTuple):
    """A link that is left out since it leads out of the tree. Only told to those who ask for changes (see
    `Teller`).
    """

    path: PathBytes
    target: PathBytes


Event = (
    Phase
    | Advanced
    | Awaiting
    | Arrived
    | Received
    | Served
    | Resting
    | SourceState
    | Warned
    | FileDone
    | Whole
    | Changing
    | Removing
    | Unsafe
)
Observer = Callable[[Event], None]


class Teller:
    """What engines hold: a method for each event. Without an observer nothing is made and nothing told."""

    __slots__ = ("_lock", "_observer", "_warned", "wants_changes", "wants_files")

    def __init__(
        self, observer: Observer | None = None, *, files: bool = False, changes: bool = False
    ) -> None:
        """`files`: tell of each file that is put in place; else 200,000 files cost nothing. `changes`: tell
        beforehand of all that is going to be changed, which is looked at for that once more.
        """
        self._observer = observer
        self._lock = threading.Lock()
        self._warned: set[str] = set()
        self.wants_files: Final = files and observer is not None
        self.wants_changes: Final = changes and observer is not None

    def phase(
        self,
        name: str,
        total_bytes: int | None = None,
        total_files: int | None = None,
        *,
        done_bytes: int = 0,
        done_files: int = 0,
    ) -> None:
        if self._observer is not None:
            self.hand_on(Phase(name, total_bytes, total_files, done_bytes, done_files))

    def idle(self) -> None:
        """This run is over and nothing goes on until the next phase; what is warned of then is news again."""
        self._warned.clear()
        self.phase("")

    def rest(self, state: str, since: float | None = None, next_check: float | None = None) -> None:
        """As `idle`, and why."""
        self._warned.clear()
        if self._observer is not None:
            self.hand_on(Resting(state, since, next_check))

    def advance(self, bytes_done: int, files_done: int, *, reused: int = 0, path: bytes = b"") -> None:
        if self._observer is not None:
            self.hand_on(Advanced(bytes_done, files_done, reused, path))

    def awaiting(self, others: bool) -> None:
        if self._observer is not None:
            self.hand_on(Awaiting(others))

    def arrived(self, source: str, count: int) -> None:
        if self._observer is not None:
            self.hand_on(Arrived(source, count))

    def received(self, source: str, count: int) -> None:
        if self._observer is not None:
            self.hand_on(Received(source, count))

    def served(self, count: int, peers: int) -> None:
        if self._observer is not None:
            self.hand_on(Served(count, peers))

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

    def of_changes(self) -> Teller:
        """One that tells of changes and files alone, for work that is done once more afterwards."""

        def hear(event: Event) -> None:
            if isinstance(event, Whole | Changing | Removing | Unsafe | FileDone):
                self.hand_on(event)

        return Teller(hear, files=self.wants_files, changes=self.wants_changes)

    def without_changes(self) -> Teller:
        """One for work whose changes were told before."""
        return Teller(self.hand_on, files=self.wants_files)

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

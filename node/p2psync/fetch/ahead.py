"""Looking at DEST before it is known what is wanted there: a process checks the directories that the index
has stamps of, while modules are loaded, the head is looked up and sources are greeted.

It goes through them in the index's order, and goes on while they are compared: who compares begins at the
other end, and takes what the process has found out already (``known``). What it finds is only that a
directory is, or is not, as the index says. Nobody else works in DEST meanwhile: its lock is taken before.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, NamedTuple

from p2psync.errors import P2psyncError
from p2psync.fetch.placed import placed
from p2psync.format.paths import split
from p2psync.format.url import ArchiveUrl
from p2psync.state import State
from p2psync.state.trees import Tree
from p2psync.tree import checker_main
from p2psync.tree.checker_main import SAME
from p2psync.tree.process import start_process

AHEAD_FILES: Final = 30_000
"""Files in a tree from which on a process is worth its start: looking at them takes 50 ms."""
AHEAD_SECONDS: Final = 10.0
"""What was looked at longer ago, before it is known what is wanted, is looked at again."""
DIRECTORIES_AT_ONCE: Final = 128
"""Directories in one message to the process."""
UNANSWERED_MAX: Final = 1024
"""Directories that were sent and are not answered: as many as keep it busy while this process is."""
DIFFERENT_MAX: Final = 50_000
"""Directories that are not as they were: after so many it ends, since they are kept in memory."""
BLOCKED: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
"""Signals that end p2psync are for the one who asks. The process ends with that one; ended by them it would
leave directories that it may only search because it lent itself the right (``Beneath``).
"""
RECEIVE_BYTES: Final = 4096
"""Answers taken at once: there is one byte for each directory."""

Key = tuple[bytes, bytes]
"""The path of the directory that one is in, and its name."""


class _Answered(NamedTuple):
    """Directories up to ``last``, in order, were looked at; those that are ``different`` are not as they
    were.
    """

    last: Key
    different: list[Key]


class LookAhead:
    """What is found out about DEST. Use it from one thread at a time."""

    def __init__(self, held: bytes | None = None) -> None:
        """``held``: the directory whose lock is held."""
        self.held = held
        self._answers: SimpleQueue[_Answered] = SimpleQueue()
        self._last: Key | None = None
        self._different: set[Key] = set()
        self._until = time.monotonic() + AHEAD_SECONDS
        self._used = False
        self._sock: socket.socket | None = None
        self._thread: Thread | None = None

    def start(self, state: State, tree: Tree, spared: frozenset[bytes]) -> None:
        """Start the process. Raises OSError if it cannot be started."""
        process, self._sock = start_process(checker_main.__name__, blocked=BLOCKED)
        work = _Work(state, tree, spared, process, self._sock, self._answers)
        self._thread = Thread(target=work.run, name="ahead")
        self._thread.start()

    @property
    def is_at_work(self) -> bool:
        """Whether the process has not ended yet."""
        return self._thread is not None and self._thread.is_alive()

    def known(self, path: bytes) -> bool | None:
        """Whether a directory is as the index says; None if it was not looked at."""
        if self._thread is None:
            return None
        if not self._used and time.monotonic() > self._until:
            self.close()
            self._answers = SimpleQueue()
        self._used = True
        with contextlib.suppress(Empty):
            while True:
                answered = self._answers.get_nowait()
                self._last = answered.last
                self._different.update(answered.different)
        key = split(path)
        return None if self._last is None or key > self._last else key not in self._different

    def stop(self) -> None:
        """Look at nothing more."""
        if self._sock is not None:
            with contextlib.suppress(OSError):  # It may have ended.
                self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """As `stop`; when this returns, the process is gone."""
        self.stop()
        if self._thread is not None:
            self._thread.join()


class _Work(NamedTuple):
    """What is done in a thread: directories are sent to the process, and its answers taken."""

    state: State
    tree: Tree
    spared: frozenset[bytes]
    process: subprocess.Popen[bytes]
    sock: socket.socket
    answers: SimpleQueue[_Answered]

    def run(self) -> None:
        """Returns when the process has ended."""
        try:
            # An index that cannot be read is for whoever compares to tell.
            with self.sock, contextlib.suppress(OSError, P2psyncError):
                self._ask()
        finally:
            self.process.wait()

    def _ask(self) -> None:
        """Raises OSError: the process has ended, or is to end."""
        self.sock.sendall(checker_main.where(self.tree.path, self.spared))
        unanswered: deque[Key] = deque()
        different = 0
        for some in self.state.trees.stamps(self.tree.id, DIRECTORIES_AT_ONCE):
            self.sock.sendall(checker_main.look_at(some))
            unanswered.extend((parent, name) for parent, name, _ in some)
            while len(unanswered) > UNANSWERED_MAX:
                different += self._take(unanswered)
            if different > DIFFERENT_MAX:
                return
        while unanswered:
            self._take(unanswered)

    def _take(self, unanswered: deque[Key]) -> int:
        """Take some answers; how many directories are not as they were. Raises OSError: no more will come."""
        data = self.sock.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionResetError
        keys = [unanswered.popleft() for _ in data]
        different = [key for key, answer in zip(keys, data, strict=True) if answer != SAME]
        self.answers.put(_Answered(keys[-1], different))
        return len(different)


@contextlib.contextmanager
def look_ahead(state: State, dest: bytes, url: ArchiveUrl, *, wanted: bool) -> Iterator[LookAhead]:
    """Look, until the end of the block, at the directory that ``url`` makes in ``dest``, and hold its lock;
    only if that is ``wanted`` and worth it. Raises BusyError: somebody else is at work there.
    """
    place = placed(dest, url, single=False)
    tree = state.trees.get(place) if wanted else None
    row = None if tree is None else state.trees.dir_row(tree.id, b"")
    if tree is None or row is None or row.totals.files < AHEAD_FILES:
        yield LookAhead()
        return
    with state.lock_place(place):
        ahead = LookAhead(place)
        # Without a process, who compares looks at everything.
        with contextlib.suppress(OSError):
            ahead.start(state, tree, state.within(place))
        try:
            yield ahead
        finally:
            ahead.close()

"""Files that are hashed beside the walk by a process of its own, some at a time. What it does not get to,
the walk does itself.
"""

from __future__ import annotations

import select
import socket
import subprocess
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgpack

from p2psync.publish.directory import Node
from p2psync.state import FileRow
from p2psync.tree import hasher_main
from p2psync.tree.hasher_main import Outcome, hash_named, outcomes_of, pack_question
from p2psync.tree.process import start_process
from p2psync.tree.scan import Found

UNANSWERED_MAX: Final = 4
"""Batches that the process has at once: as many as keep it busy while the walk hashes one itself."""
RECEIVE_BYTES: Final = 64 << 10
ANSWER_MAX: Final = 64 << 20
"""Bytes of one answer, at most: a batch has few files, and none of them is large."""


class Batch(NamedTuple):
    """Some files of one directory, each with its row of the last time."""

    node: Node
    rows: list[Found]
    known: list[FileRow | None]

    def hash_here(self) -> list[Outcome]:
        """What they hold, read in this process."""
        return [hash_named(self.node.fd, row) for row in self.rows]


class Beside:
    """The process, once it was started. Use it from one thread."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._readable = select.poll()
        self._unanswered: deque[Batch] = deque()
        self._answers = msgpack.Unpacker(use_list=False, max_buffer_size=ANSWER_MAX)

    @property
    def is_running(self) -> bool:
        return self._sock is not None

    @property
    def is_awaited(self) -> bool:
        """Whether there are batches that `done` has not told of."""
        return bool(self._unanswered)

    @property
    def has_room(self) -> bool:
        """Whether it could do with another batch."""
        return self._sock is not None and len(self._unanswered) < UNANSWERED_MAX

    def start(self) -> None:
        """Start it. Raises OSError if it cannot be started."""
        self._process, self._sock = start_process(hasher_main.__name__)
        self._readable.register(self._sock, select.POLLIN)

    def send(self, batch: Batch) -> bool:
        """Have a batch hashed; False if the process is gone."""
        assert self._sock is not None  # noqa: S101 - it has room
        try:
            data = pack_question(batch.rows)
            sent = socket.send_fds(self._sock, [data], [batch.node.fd])
            self._sock.sendall(data[sent:])
        except OSError:
            return False  # Whoever asks for answers hears of it.
        self._unanswered.append(batch)
        return True

    def done(self, *, wait: bool) -> Iterator[tuple[Batch, list[Outcome]]]:
        """Batches that are done; with ``wait``, all. If the process is gone, the rest is hashed here."""
        while self._unanswered and self._sock is not None:
            for answer in self._answers:
                batch = self._unanswered.popleft()
                yield batch, outcomes_of(batch.rows, answer)
            if not self._unanswered or not (wait or self._readable.poll(0)):
                return
            try:
                data = self._sock.recv(RECEIVE_BYTES)
            except OSError:
                data = b""
            if data:
                self._answers.feed(data)
            else:
                self.close()
        while self._unanswered and self._sock is None:
            batch = self._unanswered.popleft()
            yield batch, batch.hash_here()

    def close(self) -> None:
        """End the process; what it has not answered stays with `done`."""
        if self._sock is not None and self._process is not None:
            self._sock.close()
            self._sock = None
            self._process.wait()

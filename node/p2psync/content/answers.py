"""Answers to requests for bulk bytes, sent piece by piece on a socket that does not block: stretches of one
object.

Answers with rows are ``rows``'; who waits for a slow client, and for how long, is ``line``'s and ``bulk``'s.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from typing import Final, Protocol

from p2psync.content import send
from p2psync.content.counters import Counters
from p2psync.content.interface import BytesContent, Content, Library
from p2psync.content.ranges import select
from p2psync.sources import wire
from p2psync.tree.opener import FileContent

IMMUTABLE: Final = "public, max-age=31536000, immutable"
"""What a digest names never changes."""
_MORE: Final[int] = getattr(socket, "MSG_MORE", 0)


class Cut(ConnectionError):
    """What is being sent is no longer what it was: the connection ends, so that nobody takes it for whole."""


class Answer(Protocol):
    """One answer, on its way."""

    @property
    def done(self) -> bool:
        """Whether all is sent."""

    def send(self, sock: socket.socket, room: memoryview) -> int:
        """Send what the socket takes; how many bytes. ``room`` is the thread's buffer, and stays the answer's
        until ``park``. Raises BlockingIOError if the socket takes nothing, OSError if it is broken, Cut.
        """

    def park(self) -> None:
        """The buffer is another's from here on."""

    def close(self) -> None:
        """Let go of what is open."""


class TextAnswer:
    """A short answer: an error, or a condition that is met."""

    def __init__(self, status: int, text: str = "", headers: Mapping[str, str] | None = None) -> None:
        body = text.encode()
        given = dict(headers or {})
        if status != HTTPStatus.NOT_MODIFIED:
            given |= {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
        self._left = memoryview(head(status, given) + body)

    @property
    def done(self) -> bool:
        return not self._left

    def send(self, sock: socket.socket, room: memoryview) -> int:
        count = sock.send(self._left)
        self._left = self._left[count:]
        return count

    def park(self) -> None:
        pass

    def close(self) -> None:
        pass


class FileAnswer:
    """A stretch of an object, from disk to wire by sendfile(2). Nothing of one that is in memory is held
    while its client is slow: it is opened again.
    """

    def __init__(
        self,
        raw_head: bytes,
        content: Content,
        first: int,
        length: int,
        counters: Counters,
        reopen: Callable[[], Content | None],
    ) -> None:
        self._head = memoryview(raw_head)
        self._content: Content | None = content
        self._reopen = reopen
        self._next = first
        self._left = length
        self._counters = counters

    @property
    def done(self) -> bool:
        return not self._head and not self._left

    def send(self, sock: socket.socket, room: memoryview) -> int:
        if self._head:
            count = sock.send(self._head, _MORE if self._left else 0)
            self._head = self._head[count:]
            return count
        content = self._content = self._content or self._reopen()
        if content is None:
            raise Cut
        wanted = content.allowed(self._next, min(send.SLICE, self._left))
        if not wanted:
            raise Cut
        if isinstance(content, FileContent):
            count = os.sendfile(sock.fileno(), content.fd, self._next, wanted)
        else:
            count = sock.send(memoryview(content.data)[self._next : self._next + wanted])
        self._next += count
        self._left -= count
        self._counters.add("object", content.archive, count)
        if not count or (not self._left and not content.unchanged()):
            raise Cut
        return count

    def park(self) -> None:
        if isinstance(self._content, BytesContent):
            self._content = None

    def close(self) -> None:
        if self._content is not None:
            self._content.close()


def object_answer(library: Library, digest: bytes, given: Mapping[str, str], counters: Counters) -> Answer:
    """To a GET of an object with the headers ``given`` (names in lower case)."""
    content = library.open(digest)
    if content is None:
        counters.note(missed=1)
        return TextAnswer(404, "not here\n")
    keep = False
    try:
        etag = f'"{digest.hex()}"'
        choice = select(
            content.size,
            etag,
            None,
            range_=given.get("range"),
            if_range=given.get("if-range"),
            if_none_match=given.get("if-none-match"),
        )
        headers = {"Cache-Control": IMMUTABLE, "ETag": etag, "Accept-Ranges": "bytes"}
        if choice.status == 304:
            return TextAnswer(304, "", headers)
        if choice.status == 416:
            return TextAnswer(416, "", headers | {"Content-Range": f"bytes */{content.size}"})
        if not content.covers(choice.first, choice.length):
            return TextAnswer(404, "not here\n")
        headers |= {"Content-Type": wire.OCTETS, "Content-Length": str(choice.length)}
        if choice.status == 206:
            last = choice.first + choice.length - 1
            headers["Content-Range"] = f"bytes {choice.first}-{last}/{content.size}"
        keep = True
        counters.note(objects=1)
        reopen = partial(library.open, digest)
        raw = head(choice.status, headers)
        return FileAnswer(raw, content, choice.first, choice.length, counters, reopen)
    finally:
        if not keep:
            content.close()


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """A response head, empty line included."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Date: {formatdate(usegmt=True)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii")

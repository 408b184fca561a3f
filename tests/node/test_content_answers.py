"""Answers on a socket whose other end is slow."""

from __future__ import annotations

import os
import socket
import weakref

import pytest

from p2psync.content.answers import Cut, FileAnswer
from p2psync.content.counters import Counters
from p2psync.content.interface import BytesContent

DATA = os.urandom(1 << 20)
ROOM = memoryview(b"")


def some(ours: socket.socket, answer: FileAnswer) -> None:
    """Send until the socket takes no more."""
    while not answer.done:
        try:
            answer.send(ours, ROOM)
        except BlockingIOError:
            return


def test_an_object_in_memory_is_not_held_while_its_client_is_slow() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        held: list[weakref.ref[BytesContent]] = []

        def opened() -> BytesContent:
            made = BytesContent(DATA)
            held.append(weakref.ref(made))
            return made

        answer = FileAnswer(b"head", opened(), 1, len(DATA) - 1, Counters(), opened)
        came = b""
        while not answer.done:
            some(ours, answer)
            answer.park()
            assert [each for each in held if each() is not None] == []
            came += theirs.recv(1 << 20)
        theirs.setblocking(False)
        while len(came) < len(DATA) + 3:
            came += theirs.recv(1 << 20)
        assert came == b"head" + DATA[1:]
        assert len(held) > 1


def test_an_object_that_is_gone_when_it_is_wanted_again_cuts_the_connection() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        answer = FileAnswer(b"", BytesContent(DATA), 0, len(DATA), Counters(), lambda: None)
        some(ours, answer)
        answer.park()
        with pytest.raises(Cut):
            answer.send(ours, ROOM)

"""The process that checks directories against their stamps: gets them from a socket, and answers each by one
byte, in their order. It changes nothing, and ends when the socket does.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Final

import msgpack

from p2psync.format.paths import join
from p2psync.tree.beneath import Beneath
from p2psync.tree.checker import is_as_it_was

SAME: Final = 1
TELL_SECONDS: Final = 0.004
"""How long answers are collected: each message wakes the other process, which meanwhile may do the same work.
"""
MESSAGE_MAX: Final = 16 << 20
"""Bytes of one message, at most: some thousand paths."""
RECEIVE_BYTES: Final = 64 << 10


def main(channel: int) -> None:
    """Work for the one at the other end of the socket ``channel``. The first message is [DEST, spared paths],
    each of the others a list of directories: [path of the one that it is in, its name, its stamp].
    """
    messages = msgpack.Unpacker(use_list=False, max_buffer_size=MESSAGE_MAX)
    beneath: Beneath | None = None
    try:
        # Whoever asked may have gone; a directory that cannot be opened is answered by an early end.
        with socket.socket(fileno=channel) as sock, contextlib.suppress(OSError):
            while data := sock.recv(RECEIVE_BYTES):
                messages.feed(data)
                for message in messages:
                    if beneath is None:
                        root, spared = message
                        beneath = Beneath(root, frozenset(spared))
                    else:
                        _check(beneath, message, sock)
    finally:
        if beneath is not None:
            beneath.close()
    os._exit(0)  # There is nothing left to tidy up, which takes some milliseconds.


def _check(
    beneath: Beneath, directories: tuple[tuple[bytes, bytes, bytes], ...], sock: socket.socket
) -> None:
    answers = bytearray()
    told = time.monotonic()
    for parent, name, stamp in directories:
        answers.append(SAME if is_as_it_was(beneath, join(parent, name), stamp) else 0)
        if time.monotonic() - told > TELL_SECONDS:
            sock.sendall(answers)
            answers.clear()
            told = time.monotonic()
    sock.sendall(answers)

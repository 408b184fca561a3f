"""The process that checks directories against their stamps: gets them through a socket, and answers each by
one byte, in their order. It changes nothing, and ends when the socket does.

It is ready after some 25 ms, since it loads little: neither sockets nor msgpack. A message is its length, and
fields with a NUL between them, which no path has.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import BinaryIO, Final

from p2psync.format.paths import join
from p2psync.tree.beneath import Beneath
from p2psync.tree.checker import is_as_it_was

SAME: Final = 1
TELL_SECONDS: Final = 0.004
"""How long answers are collected: each message wakes the other process, which meanwhile may do the same work.
"""
_LENGTH: Final = 4
"""Bytes of the length of a message, before it."""


def where(root: bytes, spared: Iterable[bytes]) -> bytes:
    """The first message: DEST, and what is left out there."""
    return _pack([root, *spared])


def look_at(directories: Iterable[tuple[bytes, bytes, bytes]]) -> bytes:
    """Each of the others: some directories, each as the path of the one that it is in, its name and its
    stamp.
    """
    return _pack(
        chain.from_iterable((parent, name, stamp.hex().encode()) for parent, name, stamp in directories)
    )


def _pack(fields: Iterable[bytes]) -> bytes:
    data = b"\0".join(fields)
    return len(data).to_bytes(_LENGTH, "big") + data


def main(channel: int) -> None:
    """Work for the one at the other end of the socket ``channel``."""
    beneath: Beneath | None = None
    try:
        # Whoever asked may have gone; a directory that cannot be opened is answered by an early end.
        with contextlib.suppress(OSError), open(channel, "rb") as orders:
            for fields in _messages(orders):
                if beneath is None:
                    beneath = Beneath(fields[0], frozenset(fields[1:]))
                else:
                    _check(beneath, fields, channel)
    finally:
        if beneath is not None:
            beneath.close()
    os._exit(0)  # There is nothing left to tidy up, which takes some milliseconds.


def _messages(orders: BinaryIO) -> Iterator[list[bytes]]:
    while head := orders.read(_LENGTH):
        yield orders.read(int.from_bytes(head, "big")).split(b"\0")


def _check(beneath: Beneath, fields: list[bytes], channel: int) -> None:
    answers = bytearray()
    told = time.monotonic()
    for parent, name, stamp in zip(*[iter(fields)] * 3, strict=True):
        answers.append(
            SAME if is_as_it_was(beneath, join(parent, name), bytes.fromhex(stamp.decode())) else 0
        )
        if time.monotonic() - told > TELL_SECONDS:
            os.write(channel, answers)
            answers.clear()
            told = time.monotonic()
    os.write(channel, answers)

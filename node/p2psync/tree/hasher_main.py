"""The process that reads and hashes files for a walk: gets their names and a directory that is open,
through a socket, and answers what each holds. It ends when the socket does.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgpack

from p2psync.format.ids import Ref
from p2psync.tree.reading import Content, KeptChanging, TooLarge, hash_file, read_stable
from p2psync.tree.scan import FILE_FLAGS, Found

_LENGTH: Final = 4
"""Bytes of the length of a message, before it."""
_OK: Final = 0
_CHANGING: Final = 1
_TOO_LARGE: Final = 2
_ERROR: Final = 3

Outcome = Content | OSError | KeptChanging | TooLarge


def hash_named(fd: int, row: Found) -> Outcome:
    """What the file ``row`` holds in the directory that is open as ``fd``, or why that cannot be told."""
    try:
        opened = os.open(row.name, FILE_FLAGS, dir_fd=fd)
        try:
            return read_stable(opened, row, hash_file)
        finally:
            os.close(opened)
    except (OSError, KeptChanging, TooLarge) as error:
        return error


def pack_question(rows: Sequence[Found]) -> bytes:
    """Some files of one directory, whose descriptor goes with this."""
    data: bytes = msgpack.packb(rows)
    return len(data).to_bytes(_LENGTH, "big") + data


def pack_answer(rows: Sequence[Found], outcomes: Iterable[Outcome]) -> bytes:
    """What they hold."""
    data: bytes = msgpack.packb([_plain(*each) for each in zip(rows, outcomes, strict=True)])
    return data


def _plain(row: Found, outcome: Outcome) -> tuple[Any, ...]:
    if isinstance(outcome, Content):
        found, ref, recipe, hashed_ns, read_bytes = outcome
        return _OK, ref.digest, recipe, hashed_ns, read_bytes, None if found == row else found
    if isinstance(outcome, KeptChanging):
        return _CHANGING, outcome.read_bytes
    return (_TOO_LARGE,) if isinstance(outcome, TooLarge) else (_ERROR, outcome.errno or 0)


def outcomes_of(rows: Iterable[Found], answer: Iterable[Sequence[Any]]) -> list[Outcome]:
    """What an answer says of these files."""
    return [_outcome(*each) for each in zip(rows, answer, strict=True)]


def _outcome(row: Found, plain: Sequence[Any]) -> Outcome:
    kind = plain[0]
    if kind == _OK:
        _, digest, recipe, hashed_ns, read_bytes, other = plain
        found = row if other is None else Found._make(other)
        return Content(found, Ref(found.size, digest), recipe, hashed_ns, read_bytes)
    if kind == _CHANGING:
        return KeptChanging(plain[1])
    return TooLarge() if kind == _TOO_LARGE else OSError(plain[1], os.strerror(plain[1]))


def main(channel: int) -> None:
    """Work for the one at the other end of the socket ``channel``."""
    with contextlib.suppress(OSError), socket.socket(fileno=channel) as sock:
        while True:
            head, descriptors, _, _ = socket.recv_fds(sock, _LENGTH, 1)
            if not head:
                break
            try:
                length = int.from_bytes(head + _exactly(sock, _LENGTH - len(head)), "big")
                rows = [Found._make(row) for row in msgpack.unpackb(_exactly(sock, length))]
                sock.sendall(pack_answer(rows, [hash_named(descriptors[0], row) for row in rows]))
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
    os._exit(0)  # There is nothing left to tidy up, which takes some milliseconds.


def _exactly(sock: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = sock.recv(length - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data

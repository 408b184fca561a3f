"""Orders and facts as bytes, for a writer in a process of its own: msgpack arrays, a number for the kind
first. Both ends belong to the same p2psync and trust each other; nothing of this is stored or sent over a
network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import msgpack

from p2psync.tree.orders import (
    Attributes,
    Broken,
    Done,
    Dress,
    DressDirectories,
    Fact,
    File,
    FinishObject,
    Land,
    Landing,
    Link,
    MakeDirectory,
    MakeFiles,
    MakeLinks,
    MayReplace,
    OpenObject,
    Order,
    Remove,
    SetAttributes,
    Target,
    Tidy,
    WorkIn,
    WriteObject,
)

RECEIVE_BYTES: Final = 64 << 10
"""Bytes taken from a socket in one go: below what malloc(3) maps and unmaps each time, which costs more
than the bytes.
"""
_BUFFER_MAX: Final = 1 << 30
"""Bytes of one message: a directory may have 2^20 names of 255 bytes."""
_KINDS: Final[tuple[type[Any], ...]] = (
    MakeDirectory,
    MakeFiles,
    MakeLinks,
    SetAttributes,
    OpenObject,
    WriteObject,
    FinishObject,
    MayReplace,
    Remove,
    DressDirectories,
    Tidy,
    WorkIn,
    Done,
    Broken,
    Land,
)
_NUMBERS: Final = {kind: number for number, kind in enumerate(_KINDS)}
_ROWS: Final[dict[type[Any], Callable[[Any], Any]]] = {
    kind: partial(tuple.__new__, row)  # what a named tuple's own constructor calls, without a call of its own
    for kind, row in (
        (MakeFiles, File),
        (MakeLinks, Link),
        (SetAttributes, Attributes),
        (FinishObject, Target),
        (DressDirectories, Dress),
        (Land, Landing),
    )
}
"""What the last field of an order has a list of, where these are not plain tuples."""
_LISTS: Final = frozenset({WriteObject, Remove})
"""Those whose last field is a list of plain values."""


def pack(message: Order | Fact) -> bytes:
    """The bytes of an order or a fact."""
    # Paths in what a person reads may hold any bytes, as os.fsdecode(3) gives them.
    made: bytes = msgpack.packb((_NUMBERS[type(message)], *message), unicode_errors="surrogateescape")
    return made


class Unpacker:
    """Orders or facts out of a stream of bytes."""

    def __init__(self) -> None:
        self._unpacker = msgpack.Unpacker(
            use_list=False,
            strict_map_key=False,
            unicode_errors="surrogateescape",
            max_buffer_size=_BUFFER_MAX,
        )

    def feed(self, data: bytes) -> None:
        self._unpacker.feed(data)

    def __iter__(self) -> Iterator[Any]:
        """Those that are complete."""
        for number, *fields in self._unpacker:
            kind = _KINDS[number]
            make = _ROWS.get(kind)
            if make is not None:
                fields[-1] = list(map(make, fields[-1]))
            elif kind in _LISTS:
                fields[-1] = list(fields[-1])
            elif kind is Done:
                fields[1:3] = list(fields[1]), list(fields[2])
            yield kind._make(fields)

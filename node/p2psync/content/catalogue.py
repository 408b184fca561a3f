"""Where in a directory object which names are: a large listing is looked into, and shown, a piece at a time.

Pure: whoever has the object reads its bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise
from typing import Final, NamedTuple

import msgpack

from p2psync.errors import FormatError
from p2psync.format.limits import ENTRY_BYTES_MAX

PIECE: Final = 16 << 10
"""Bytes of a piece, save that it ends between two entries: some 200 names, which are decoded in 0.2 ms and
shown in 30 kB of a page.
"""
READ_MAX: Final = 2 << 20
"""Bytes of an object that are fed at once, and what is left of those before: more than the longest entry."""


class Catalogue(NamedTuple):
    """The pieces of one directory object: the first name in each, and where it begins; and where the last
    ends.
    """

    names: list[bytes]
    offsets: list[int]

    @property
    def pieces(self) -> int:
        """How many there are."""
        return len(self.names)

    def span(self, number: int) -> tuple[int, int]:
        """Where a piece begins and ends."""
        return self.offsets[number], self.offsets[number + 1]

    def holding(self, name: bytes) -> int | None:
        """The piece in which a name is, if it is anywhere."""
        found = bisect_right(self.names, name) - 1
        return found if found >= 0 else None


def catalogue_of(parts: Iterable[bytes]) -> Catalogue:
    """The catalogue of a directory object, whose bytes come in parts of at most 1 MiB.

    It takes a fifth of the time of decoding. Entries are not checked: those of a piece are when it is
    decoded.

    Raises: FormatError: these are not values one after another, with a list that has a name wherever a
    piece begins.
    """
    values = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=READ_MAX)
    names: list[bytes] = []
    offsets: list[int] = []
    begin = end = due = 0
    header = True
    try:
        for part in parts:
            values.feed(part)
            while True:
                marked = not header and begin >= due
                try:
                    value = values.unpack() if marked else values.skip()
                except msgpack.OutOfData:
                    break
                if marked:
                    names.append(_name(value))
                    offsets.append(begin)
                    due = begin + PIECE
                header = False
                begin = values.tell()
            end += len(part)
    except (ValueError, msgpack.UnpackException) as error:
        raise FormatError(f"a directory object is damaged: {error}") from None
    offsets.append(begin)
    if (
        begin != end
        or max((after - before for before, after in pairwise(offsets)), default=0) > PIECE + ENTRY_BYTES_MAX
    ):
        raise FormatError("a directory object ends within an entry, or has one that is too long")
    return Catalogue(names, offsets)


def _name(value: object) -> bytes:
    name = value[0] if isinstance(value, list) and value else None
    if not isinstance(name, bytes):
        raise FormatError("an entry of a directory object has no name")
    return name

"""Packs: the metadata of an archive as files, for servers that know nothing but files. Pure.

A pack is one immutable file with objects (snapshots, listings) and recipes, and in front of them the rows
that say where each lies:

    "p2psync" 01 | length of the header, 4 bytes | header | rows of 36 bytes | the bytes, in the order of
    the rows

The header is a canonical msgpack map with ``rows`` (how many there are) and ``packs`` (the names, 32 bytes
each, of older packs that have the rest, newest first). A row is a digest and 32 bits: the highest says that
it is a recipe, the others are its length. docs/spec/static.md has the folder that packs are in.

Nothing of it is signed or to be believed: what is read by it is verified by the digest that was wanted.
"""

from __future__ import annotations

import re
import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from p2psync.errors import FormatError
from p2psync.format.canonical import decode, encode, integer, mapping, octets
from p2psync.format.ids import DIGEST_SIZE
from p2psync.format.limits import INT64_MAX, LISTING_BYTES_MAX

FOLDER: Final = "p2psync"
FOLDERS: Final = (FOLDER, ".p2psync")
"""Where readers look for the files, below the URL of a tree; many servers deny names that begin with a dot.
"""
HEAD: Final = "head"
"""The newest head, as it was signed."""
HEADS: Final = "heads"
"""The folder of the heads that are kept, each by its place in the order."""
LIST: Final = "heads/list"
"""The names of those, newest first, a line each."""
PACKS: Final = "packs"
SNAPSHOTS_KEPT: Final = 3
"""Snapshots whose packs are there: readers that began with one finish, and mirrors that update find the one
before whole.
"""

MAGIC: Final = b"p2psync\x01"
"""What a pack begins with: the name, and the version of the format."""
FIXED: Final = struct.Struct(f">{len(MAGIC)}sI")
HEADER_MAX: Final = 4 << 10
"""Bytes of a header: the names of all packs that it may have take 2,050."""
PACKS_MAX: Final = 64
"""Older packs that a pack names: a reader that has nothing asks each of them at least once."""
ROWS_MAX: Final = 1 << 22
"""Rows of one pack: four million directories and large files, 150 MB of rows."""
ROW: Final = struct.Struct(f">{DIGEST_SIZE}sI")
RECIPE_BIT: Final = 1 << 31
LENGTH_MAX: Final = LISTING_BYTES_MAX
"""Bytes of what one row is about: the longest listing; recipes are shorter."""
LIST_MAX: Final = 4 << 10
"""Bytes of the list of heads: a few lines."""
NAMES_MAX: Final = 16
"""Heads in the list that are looked at: more than anybody keeps."""
_NAME: Final = re.compile(r"([0-9]{1,19})-([0-9]{1,19})")
_KEY: Final = struct.Struct(">Q")


def pack_path(name: bytes) -> str:
    """Where in the folder the pack is that is called ``name``, 32 bytes: that of a snapshot by its digest."""
    return f"{PACKS}/{name.hex()}"


def head_path(place: tuple[int, int]) -> str:
    """Where in the folder the head of this epoch and sequence number is."""
    return f"{HEADS}/{place[0]}-{place[1]}"


def encode_list(places: Iterable[tuple[int, int]]) -> bytes:
    """The list of the heads that are there; newest first."""
    return "".join(f"{epoch}-{seq}\n" for epoch, seq in places).encode()


def decode_list(raw: bytes) -> list[tuple[int, int]]:
    """The heads that are there. Raises FormatError."""
    if len(raw) > LIST_MAX:
        raise FormatError(f"a list of heads is {len(raw)} bytes long; at most {LIST_MAX} are allowed")
    places = []
    for line in raw.decode("ascii", "replace").splitlines()[:NAMES_MAX]:
        match = _NAME.fullmatch(line)
        if match is None or max(int(match[1]), int(match[2])) > INT64_MAX:
            raise FormatError("a list of heads has a line that is no epoch and sequence number")
        places.append((int(match[1]), int(match[2])))
    return places


class Header(NamedTuple):
    """The beginning of a pack."""

    rows: int
    packs: tuple[bytes, ...]
    """Names of older packs, newest first."""
    begin: int
    """Where the rows begin."""

    @property
    def data(self) -> int:
        """Where the bytes begin that the rows tell of."""
        return self.begin + ROW.size * self.rows


def encode_header(rows: int, packs: Sequence[bytes]) -> bytes:
    """All of a pack that is in front of its rows."""
    raw = encode({"packs": b"".join(packs), "rows": rows})
    return FIXED.pack(MAGIC, len(raw)) + raw


def header_bytes(raw: bytes | memoryview) -> int:
    """How many bytes of a pack are in front of its rows, by its first bytes. Raises FormatError."""
    what = "a pack"
    if len(raw) < FIXED.size:
        raise FormatError(f"{what} ends before its header")
    magic, length = FIXED.unpack_from(raw)
    if magic != MAGIC:
        raise FormatError(f"{what} is damaged, or of a version that this p2psync does not know; update it")
    return FIXED.size + integer(length, 1, HEADER_MAX, "the length of a pack's header")


def decode_header(raw: bytes) -> Header:
    """The header of the pack that begins with ``raw``, which has at least all that is in front of its rows.

    Raises:
        FormatError: it has not, is damaged, over a limit, or of a version that is not known.
    """
    begin = header_bytes(raw)
    what = "the header of a pack"
    if len(raw) < begin:
        raise FormatError(f"{what} is cut off")
    value = mapping(decode(raw[FIXED.size : begin], HEADER_MAX, what), what)
    names = octets(value.get("packs"), 0, PACKS_MAX * DIGEST_SIZE, "the older packs of a pack")
    if len(names) % DIGEST_SIZE:
        raise FormatError("the older packs of a pack have a name that is cut off")
    packs = tuple(names[at : at + DIGEST_SIZE] for at in range(0, len(names), DIGEST_SIZE))
    return Header(integer(value.get("rows"), 0, ROWS_MAX, "the rows of a pack"), packs, begin)


def encode_row(digest: bytes, length: int, *, recipe: bool) -> bytes:
    """The row of an object, or of a recipe."""
    return ROW.pack(digest, length | (RECIPE_BIT if recipe else 0))


class Index:
    """Where in a pack things lie, by the rows that were taken in so far: 20 bytes in memory for each.

    Of a digest, 63 bits are kept. What is found is verified by whoever reads it, so two that have these alike
    cost no more than one reading.
    """

    def __init__(self, header: Header) -> None:
        self.header = header
        self._offsets = array("Q", [header.data])
        self._parts: list[tuple[array[int], array[int]]] = []
        """Sorted keys, and the row of each: a part for each time that rows came."""

    @property
    def known(self) -> int:
        """Rows that were taken in."""
        return len(self._offsets) - 1

    @property
    def size(self) -> int:
        """Bytes of the pack, if all rows were taken in."""
        return self._offsets[-1]

    def add(self, rows: bytes | memoryview) -> None:
        """Take in the next rows. Raises FormatError."""
        if len(rows) % ROW.size or self.known + len(rows) // ROW.size > self.header.rows:
            raise FormatError("a pack has another number of rows than its header says")
        first = self.known
        at = self._offsets[-1]
        keys = array("Q")
        for digest, word in ROW.iter_unpack(rows):
            length = word & ~RECIPE_BIT
            if not 0 < length <= LENGTH_MAX:
                raise FormatError("a pack has a row without a length, or with one over the limit")
            at += length
            self._offsets.append(at)
            keys.append(_key(digest, recipe=word >= RECIPE_BIT))
        order = sorted(range(len(keys)), key=keys.__getitem__)
        self._parts.append(
            (array("Q", [keys[row] for row in order]), array("I", [first + row for row in order]))
        )

    def rows_of(self, digest: bytes, *, recipe: bool) -> Iterator[int]:
        """The rows that are most likely those of an object, or of its recipe."""
        key = _key(digest, recipe=recipe)
        for keys, rows in self._parts:
            at = bisect_left(keys, key)
            while at < len(keys) and keys[at] == key:
                yield rows[at]
                at += 1

    def place(self, row: int) -> tuple[int, int]:
        """Where in the pack that begins which a row is about, and its length."""
        begin = self._offsets[row]
        return begin, self._offsets[row + 1] - begin


def _key(digest: bytes, *, recipe: bool) -> int:
    return int(_KEY.unpack_from(digest)[0]) & ~1 | recipe

"""Recipes: the ordered chunks of an object. Pure; cutting content into chunks is ``p2psync.chunking``'s.

Encoded as the canonical msgpack array ``[chunker, rows]``. ``chunker`` names the cutting rule (0: one chunk,
not cut; 1: FastCDC 2020 with the parameters of ``p2psync.chunking``); ``rows`` is a byte string of 36 bytes a
chunk, 32 of its id and 4 of its length (big-endian). One byte string instead of a list of pairs, so a recipe
of a million chunks costs 36 MiB and no more.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from p2psync.errors import FormatError
from p2psync.format.canonical import decode, encode, integer, octets, row
from p2psync.format.ids import EMPTY, Ref, object_id
from p2psync.format.limits import CHUNK_MAX, OBJECT_BYTES_MAX, RECIPE_CHUNKS_MAX, SINGLE_CHUNK_MAX

WHOLE: Final = 0
"""Chunker of an object that is one chunk."""
FASTCDC_2020: Final = 1
"""Chunker of every larger object."""

ROW_SIZE: Final = 36
_ROW: Final = struct.Struct(">32sI")
RECIPE_BYTES_MAX: Final = RECIPE_CHUNKS_MAX * ROW_SIZE + 16


@dataclass(frozen=True)
class Recipe:
    """The chunks of one object, in order."""

    chunker: int
    rows: bytes

    @classmethod
    def of(cls, chunks: Iterable[tuple[bytes, int]]) -> Recipe:
        """From (chunk id, length) pairs; one chunk or none gives the ``WHOLE`` kind."""
        rows = b"".join(_ROW.pack(digest, length) for digest, length in chunks)
        return cls(WHOLE if len(rows) <= ROW_SIZE else FASTCDC_2020, rows)

    @classmethod
    def single(cls, ref: Ref) -> Recipe:
        """The recipe that follows from a reference to an object of one chunk or none."""
        if ref.is_empty:
            return cls(WHOLE, b"")
        if not ref.is_single:
            raise ValueError("an object of several chunks has a recipe of its own")
        return cls(WHOLE, _ROW.pack(ref.digest, ref.size))

    def __len__(self) -> int:
        return len(self.rows) // ROW_SIZE

    def chunk(self, index: int) -> tuple[bytes, int]:
        """Id and length of chunk ``index``."""
        digest, length = _ROW.unpack_from(self.rows, index * ROW_SIZE)
        return digest, length

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        return _ROW.iter_unpack(self.rows)

    @cached_property
    def offsets(self) -> array[int]:
        """Where each chunk begins, and last the size of the object: ``len(self) + 1`` numbers of 64 bits."""
        made = array("Q", [0])
        position = 0
        for _, length in self:
            position += length
            made.append(position)
        return made

    @property
    def size(self) -> int:
        """Bytes of the object."""
        return self.offsets[-1]

    def encode(self) -> bytes:
        return encode([self.chunker, self.rows])

    def ref(self) -> Ref:
        """The reference that names this object."""
        if not self.rows:
            return EMPTY
        if self.chunker == WHOLE:
            digest, length = self.chunk(0)
            return Ref(length, digest)
        return Ref(self.size, object_id(self.encode()))

    @classmethod
    def decode(cls, raw: bytes, ref: Ref) -> Recipe:
        """The recipe of the object that ``ref`` names.

        Raises:
            FormatError: damaged, over a limit, or not the recipe of that object.
        """
        what = "a recipe"
        if object_id(raw) != ref.digest:
            raise FormatError(f"{what} does not have the hash that names it")
        items = row(decode(raw, RECIPE_BYTES_MAX, what), 2, what)
        chunker = integer(items[0], FASTCDC_2020, 255, "the chunker of a stored recipe")
        rows = octets(items[1], 2 * ROW_SIZE, RECIPE_CHUNKS_MAX * ROW_SIZE, "the chunks of a recipe")
        if len(items) != 2 or len(rows) % ROW_SIZE:
            raise FormatError(f"{what} has a broken row")
        made = cls(chunker, rows)
        if any(not 0 < length <= CHUNK_MAX for _, length in made):
            raise FormatError(f"{what} has a chunk that is empty or longer than {CHUNK_MAX} bytes")
        if made.size != ref.size or not SINGLE_CHUNK_MAX < made.size <= OBJECT_BYTES_MAX:
            raise FormatError(f"{what} describes {made.size} bytes where {ref.size} were named")
        return made

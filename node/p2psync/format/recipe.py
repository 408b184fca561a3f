"""Recipes: the ordered chunks of an object. Pure; cutting content into chunks is ``p2psync.chunking``'s.

Encoded as the canonical msgpack array ``[chunker, rows]``. ``chunker`` names the cutting rule (0: one chunk,
not cut; 1: FastCDC 2020 with the parameters of ``p2psync.chunking``); ``rows`` is a byte string of 36 bytes a
chunk, 32 of its id and 4 of its length (big-endian). One byte string instead of a list of pairs, so a recipe
of a million chunks costs 36 MiB and no more.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Final

import msgpack

from p2psync.errors import FormatError
from p2psync.format.canonical import integer, octets
from p2psync.format.ids import EMPTY, Ref, object_id
from p2psync.format.limits import (
    CHUNK_MAX,
    CHUNK_MIN,
    OBJECT_BYTES_MAX,
    RECIPE_CHUNKS_MAX,
    SINGLE_CHUNK_MAX,
)

WHOLE: Final = 0
"""Chunker of an object that is one chunk."""
FASTCDC_2020: Final = 1
"""Chunker of every larger object."""

ROW_SIZE: Final = 36
_ROW: Final = struct.Struct(">32sI")
_ROW_WORDS: Final = 9  # of 32 bits
_LENGTH_WORD: Final = 8
CHUNKER_MAX: Final = 127
"""Greatest number of a chunker: those that take one byte."""
HEADER_MAX: Final = 7
"""Bytes in front of the rows, which say what they are."""


def recipe_bytes_max(size: int) -> int:
    """Bytes of the longest recipe that an object of ``size`` bytes can have: all of its chunks but the last
    have ``CHUNK_MIN``, so that is some 1 % of it.
    """
    return min(-(-size // CHUNK_MIN), RECIPE_CHUNKS_MAX) * ROW_SIZE + HEADER_MAX


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

    def words(self) -> array[int]:
        """The first 32 bits of each chunk's id, to tell quickly what may be the same."""
        return array("I", self.rows)[::_ROW_WORDS]

    def repeated(self) -> list[int]:
        """The chunks of which some other one may be a copy, by 32 bits of their ids: nearly always none."""
        words = self.words()
        if len(set(words)) == len(words):
            return []
        again = {word for word, times in Counter(words).items() if times > 1}
        return [index for index, word in enumerate(words) if word in again]

    def lengths(self) -> array[int]:
        """The length of each chunk, as numbers of 32 bits."""
        words = array("I", self.rows)
        lengths = words[_LENGTH_WORD::_ROW_WORDS]
        if sys.byteorder == "little":
            lengths.byteswap()
        return lengths

    @cached_property
    def offsets(self) -> array[int]:
        """Where each chunk begins, and last the size of the object: ``len(self) + 1`` numbers of 64 bits."""
        return array("Q", accumulate(self.lengths(), initial=0))

    @property
    def size(self) -> int:
        """Bytes of the object."""
        return self.offsets[-1]

    def encode(self) -> bytes:
        # As ``canonical.encode`` would, without looking for maps.
        made: bytes = msgpack.packb((self.chunker, self.rows))
        return made

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
        most = recipe_bytes_max(ref.size)
        if len(raw) > most:
            raise FormatError(f"{what} is {len(raw)} bytes long; at most {most} are allowed")
        if object_id(raw) != ref.digest:
            raise FormatError(f"{what} does not have the hash that names it")
        made = _parse(raw)
        integer(made.chunker, FASTCDC_2020, CHUNKER_MAX, "the chunker of a stored recipe")
        octets(made.rows, 2 * ROW_SIZE, RECIPE_CHUNKS_MAX * ROW_SIZE, "the chunks of a recipe")
        if len(made.rows) % ROW_SIZE:
            raise FormatError(f"{what} has a broken row")
        if made.encode() != raw:
            raise FormatError(f"{what} is not in canonical form")
        lengths = made.lengths()
        last = lengths.pop()  # it may be shorter
        if not last or last > CHUNK_MAX or min(lengths) < CHUNK_MIN or max(lengths) > CHUNK_MAX:
            raise FormatError(
                f"{what} has a chunk shorter than {CHUNK_MIN} bytes, or longer than {CHUNK_MAX}"
            )
        if made.size != ref.size or not SINGLE_CHUNK_MAX < made.size <= OBJECT_BYTES_MAX:
            raise FormatError(f"{what} describes {made.size} bytes where {ref.size} were named")
        return made


_BIN_HEADERS: Final = {0xC4: 2, 0xC5: 3, 0xC6: 5}
"""Bytes in front of a msgpack byte string, by the first of them."""


def _parse(raw: bytes) -> Recipe:
    """Take ``raw`` apart without a msgpack decoder, which would turn 36 MiB of nested empty arrays into
    gigabytes before anyone could object. Encoding it again tells whether it is canonical.
    """
    header = _BIN_HEADERS.get(raw[2], 0) if len(raw) > 2 and raw[0] == 0x92 else 0
    if not header:
        raise FormatError("a recipe is damaged: it is not a number and a byte string")
    return Recipe(raw[1], raw[2 + header :])

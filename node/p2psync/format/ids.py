"""Names of things: chunk ids, object ids, and the reference by which one object is named in another.

A chunk is named by the BLAKE3 hash of its bytes. An object is named by the BLAKE3 hash of its recipe under a
key derivation context of its own, so that no kind of id can be taken for another (BLAKE3 specification,
section 2.3, ``derive_key``).
"""

from __future__ import annotations

from typing import Final, NamedTuple, Self

from blake3 import blake3

from p2psync.errors import FormatError
from p2psync.format.canonical import Value, integer, octets
from p2psync.format.limits import OBJECT_BYTES_MAX, SINGLE_CHUNK_MAX

DIGEST_SIZE: Final = 32
OBJECT_CONTEXT: Final = "p2psync 2026-11 object id v1"


def chunk_id(data: bytes | bytearray | memoryview) -> bytes:
    """The 32-byte id of a chunk: BLAKE3 of its bytes."""
    return blake3(data).digest()


def object_id(recipe: bytes) -> bytes:
    """The 32-byte id of the object that the encoded ``recipe`` describes."""
    return blake3(recipe, derive_key_context=OBJECT_CONTEXT).digest()


class _SizeAndDigest(NamedTuple):
    size: int
    digest: bytes


class Ref(_SizeAndDigest):
    """How an object is named inside another: its size in bytes and a digest.

    The digest is the chunk id where the object is one chunk (up to ``SINGLE_CHUNK_MAX`` bytes), the object id
    where it is
    more, and empty where the object is. Nothing has to be fetched to learn the recipe of the first and the
    last kind.
    """

    __slots__ = ()

    def __new__(cls, size: int, digest: bytes) -> Self:
        integer(size, 0, OBJECT_BYTES_MAX, "the size of an object")
        wanted = DIGEST_SIZE if size else 0
        octets(digest, wanted, wanted, "the digest of an object")
        return _new(cls, (size, digest))

    @classmethod
    def known(cls, size: int, digest: bytes) -> Ref:
        """From a size and a digest that were checked before: a listing is read for each of its entries."""
        return _new(cls, (size, digest))

    @property
    def is_empty(self) -> bool:
        return self.size == 0

    @property
    def is_single(self) -> bool:
        """True for an object of exactly one chunk."""
        return 0 < self.size <= SINGLE_CHUNK_MAX

    def to_row(self) -> list[Value]:
        return [self.size, self.digest]

    @classmethod
    def from_row(cls, value: Value, what: str) -> Ref:
        if type(value) is not list or len(value) != 2:
            raise FormatError(f"{what} must be a pair of size and digest")
        return cls(value[0], value[1])


_new: Final = tuple.__new__  # without what `__new__` checks
EMPTY: Final = Ref(0, b"")

"""Canonical msgpack: one encoding per value, hostile input refused with one exception.

Everything that this library writes to a socket, a disk or under a signature passes through `pack` and
`unpack`. What the values mean is left to the callers (`records`, `wire`, `persistence`).

Canonical means: packing the decoded value again gives the same bytes. msgpack has several spellings of one
integer or string (https://github.com/msgpack/msgpack/blob/master/spec.md); only the shortest is accepted,
so equal values are equal bytes and a record has one hash.
"""

from __future__ import annotations

from typing import Any

import msgpack

# What the C extension raises on damaged input: ValueError (with its subclasses for format, depth, extra
# bytes and UTF-8), TypeError (unhashable map keys), UnpackException (truncated), OverflowError (integers
# past 64 bits when packed again), RecursionError (the packer's own depth limit).
_REFUSALS = (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException)


class CodecError(ValueError):
    """Bytes that are not the canonical msgpack encoding of one value."""


def pack(value: Any) -> bytes:
    """Encode a value made of None, bool, int, bytes, str, list, tuple and dict, in its shortest form."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def unpack(raw: bytes, *, limit: int) -> Any:
    """Decode one value of at most `limit` bytes that need not be canonical.

    Raises `CodecError` on anything else. Containers cannot claim more elements than there are bytes.
    """
    if len(raw) > limit:
        raise CodecError(f"{len(raw)} bytes, of which at most {limit} are allowed")
    try:
        return msgpack.unpackb(raw, raw=False, strict_map_key=True)
    except _REFUSALS as error:
        raise CodecError(f"not msgpack: {error}") from error


def unpack_canonical(raw: bytes, *, limit: int) -> Any:
    """Decode one value of at most `limit` bytes; `CodecError` unless `raw` is its canonical encoding."""
    value = unpack(raw, limit=limit)
    try:
        again = pack(value)
    except _REFUSALS as error:
        raise CodecError(f"not canonical msgpack: {error}") from error
    if again != raw:
        raise CodecError("not the canonical encoding of its value")
    return value

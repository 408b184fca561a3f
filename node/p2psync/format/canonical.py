"""Canonical msgpack: one encoding per value, and a decoder that takes hostile bytes.

Canonical means what the C packer of ``msgpack`` writes: shortest integers, ``bin`` for bytes, ``str`` for
text, and maps whose keys are text in ascending order of their UTF-8 bytes. A value that is encoded in another
way decodes to an error, because two encodings of one listing would be two objects. Floats and extension types
do not occur.

A container is allocated when its length is read, before its content is there, and an empty container takes
eighty times its encoding: so lengths are bounded, and long sequences are decoded one bounded item at a time.

Leaves to its callers what a value means; they check types and bounds with the helpers at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any, Final

import msgpack

from p2psync.errors import FormatError
from p2psync.format.limits import CONTAINER_ITEMS_MAX, EXTRA_DEPTH_MAX

Value = Any
"""None, bool, int, bytes, str, or lists and string-keyed maps of these."""

WINDOW_BYTES: Final = 16 << 10
"""Bytes of a sequence that are decoded at once: some 200 entries of a listing; at worst a megabyte of empty
containers.
"""

WINDOW_ITEMS: Final = 16
"""Items of a container in what is decoded at once: more than entries have. Each level of nesting allocates
them."""

_DAMAGED: Final = (ValueError, msgpack.exceptions.UnpackException, RecursionError)
"""What ``msgpack`` raises for bytes that are none; UnicodeDecodeError is a ValueError."""


def encode(value: Value) -> bytes:
    """The canonical bytes of ``value``; maps are sorted here, so callers need not."""
    return bytes(msgpack.packb(sort_maps(value), use_bin_type=True))


def sort_maps(value: Value) -> Value:
    """``value`` with the keys of every map in it in canonical order."""
    if isinstance(value, Mapping):
        return {key: sort_maps(value[key]) for key in sorted(value)}  # order of code points is that of UTF-8
    if isinstance(value, (list, tuple)):
        return [sort_maps(item) for item in value]
    return value


def decode(raw: bytes | memoryview, limit: int, what: str) -> Value:
    """Decode exactly one canonical value of at most ``limit`` bytes.

    Raises:
        FormatError: too long, not msgpack, something behind the value, or not the canonical encoding.
    """
    if len(raw) > limit:
        raise FormatError(f"{what} is {len(raw)} bytes long; at most {limit} are allowed")
    try:
        value = msgpack.unpackb(raw, **_STRICT)
        again = msgpack.packb(value, use_bin_type=True)
    except _DAMAGED as error:
        raise _damaged(what, error) from None
    if again != raw:
        raise _not_canonical(what)
    check_plain(value, what)
    return value


def decode_sequence(raw: bytes, begin: int, item_limit: int, what: str) -> Iterator[list[Value]]:
    """The canonical values of at most ``item_limit`` bytes each that stand one after another in ``raw`` from
    ``begin`` on, several at a time, at least one.

    Their content is still to be checked with ``check_plain``. Items that take no more than
    ``WINDOW_BYTES`` together, or one item, are in memory beyond those that the caller keeps.

    Raises:
        FormatError: as ``decode``, when the damaged item is reached.
    """
    packer = msgpack.Packer(use_bin_type=True)
    while begin < len(raw):
        window = raw[begin : begin + min(item_limit, WINDOW_BYTES)]
        values, length = _decode_window(window, packer)
        if not length:
            for value in _decode_one_by_one(raw, begin, item_limit, what):
                yield [value]
            return
        begin += length
        yield values


def _decode_window(window: bytes, packer: msgpack.Packer) -> tuple[list[Value], int]:
    """The canonical values at the beginning of some bytes, and their length: several at once, since a call
    for each takes most of the time of reading a listing.

    None, and 0, where anything is unusual, good or bad: that is for who looks at each value by itself.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=len(window), **_STRICT_AND_SMALL)
    try:
        unpacker.feed(window)
        values = list(unpacker)  # leaves a value out whose end is not there
        again = packer.pack(values)
    except _DAMAGED:
        return [], 0
    header = (
        1 if len(values) < 16 else 3
    )  # of the array that they were packed as (msgpack: fixarray, array 16)
    length = len(again) - header
    return (values, length) if again[header:] == window[:length] else ([], 0)


def _decode_one_by_one(raw: bytes, begin: int, item_limit: int, what: str) -> Iterator[Value]:
    room = 2 * item_limit
    lengths = msgpack.Unpacker(BytesIO(raw), read_size=item_limit, max_buffer_size=room)
    values = msgpack.Unpacker(BytesIO(raw), read_size=item_limit, max_buffer_size=room, **_STRICT)
    packer = msgpack.Packer(use_bin_type=True)
    if begin:
        lengths.read_bytes(begin)
        values.read_bytes(begin)
    while begin < len(raw):
        try:
            lengths.skip()  # finds the end without making anything
            end = lengths.tell()
            if end - begin > item_limit:
                raise FormatError(
                    f"{what} has an item of {end - begin} bytes; at most {item_limit} are allowed"
                )
            value = values.unpack()
            again = packer.pack(value)
        except _DAMAGED as error:
            raise _damaged(what, error) from None
        if again != raw[begin:end]:
            raise _not_canonical(what)
        begin = end
        yield value


def _damaged(what: str, error: Exception) -> FormatError:
    return FormatError(f"{what} is damaged: {str(error) or type(error).__name__}")


def _not_canonical(what: str) -> FormatError:
    return FormatError(f"{what} is not in canonical form")


def _ordered_map(pairs: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
    last = None
    for key, _ in pairs:
        if type(key) is not str or (last is not None and key <= last):
            raise ValueError("the keys of a map are not text in ascending order, each once")
        last = key
    return dict(pairs)


_STRICT: Final[dict[str, Any]] = {
    "raw": False,
    "strict_map_key": True,
    "max_ext_len": 0,
    "max_array_len": CONTAINER_ITEMS_MAX,
    "max_map_len": CONTAINER_ITEMS_MAX,
    "object_pairs_hook": _ordered_map,
}


_STRICT_AND_SMALL: Final = _STRICT | {"max_array_len": WINDOW_ITEMS, "max_map_len": WINDOW_ITEMS}


def check_plain(value: Value, what: str, depth: int = EXTRA_DEPTH_MAX) -> int:
    """Refuse what the format has no use for: floats, non-text keys, and nesting deeper than ``depth``.

    Returns how many values there are, itself included, for callers that bound them.
    """
    if value is None or isinstance(value, (bool, int, bytes, str)):
        return 1
    if depth == 0:
        raise FormatError(f"{what} is nested too deeply")
    count = 1
    if type(value) is list:
        for item in value:
            count += check_plain(item, what, depth - 1)
    elif type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise FormatError(f"{what} has a map key that is not text")
            count += 1 + check_plain(item, what, depth - 1)
    else:
        raise FormatError(f"{what} holds a value of a type that the format does not have")
    return count


def integer(value: Value, low: int, high: int, what: str) -> int:
    """``value`` if it is an integer (no bool) within ``low`` and ``high``."""
    if type(value) is not int or not low <= value <= high:
        raise FormatError(f"{what} must be a whole number from {low} to {high}")
    return value


def octets(value: Value, low: int, high: int, what: str) -> bytes:
    """``value`` if it is a byte string of ``low`` to ``high`` bytes."""
    if type(value) is not bytes or not low <= len(value) <= high:
        raise FormatError(f"{what} must be a byte string of {low} to {high} bytes")
    return value


def row(value: Value, least: int, what: str) -> list[Value]:
    """``value`` if it is an array of at least ``least`` items."""
    if type(value) is not list or len(value) < least:
        raise FormatError(f"{what} must be an array of at least {least} items")
    return value


def mapping(value: Value, what: str) -> dict[str, Value]:
    """``value`` if it is a map (its keys are text: ``decode`` has made sure of that)."""
    if type(value) is not dict:
        raise FormatError(f"{what} must be a map")
    return value

"""Canonical msgpack: one encoding per value, and a decoder that takes hostile bytes.

Canonical means what the C packer of ``msgpack`` writes: shortest integers, ``bin`` for bytes, ``str`` for
text, and maps whose keys are text in ascending order of their UTF-8 bytes. A value that is encoded in another
way decodes to an error, because two encodings of one listing would be two objects. Floats and extension types
do not occur.

Leaves to its callers what a value means; they check types and bounds with the helpers at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgpack

from p2psync.errors import FormatError
from p2psync.format.limits import EXTRA_DEPTH_MAX

Value = Any
"""None, bool, int, bytes, str, or lists and string-keyed maps of these."""


def encode(value: Value) -> bytes:
    """The canonical bytes of ``value``; maps are sorted here, so callers need not."""
    return bytes(msgpack.packb(_sorted(value), use_bin_type=True))


def _sorted(value: Value) -> Value:
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value, key=lambda k: k.encode())}
    if isinstance(value, (list, tuple)):
        return [_sorted(item) for item in value]
    return value


def decode(raw: bytes | memoryview, limit: int, what: str) -> Value:
    """Decode exactly one canonical value of at most ``limit`` bytes.

    Raises:
        FormatError: too long, not msgpack, something behind the value, or not the canonical encoding.
    """
    if len(raw) > limit:
        raise FormatError(f"{what} is {len(raw)} bytes long; at most {limit} are allowed")
    try:
        value = msgpack.unpackb(
            raw, raw=False, strict_map_key=True, max_ext_len=0, object_pairs_hook=_unique_map, use_list=True
        )
    except (ValueError, msgpack.exceptions.UnpackException, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{what} is damaged: {error}") from None
    check_plain(value, what)
    if encode(value) != bytes(raw):
        raise FormatError(f"{what} is not in canonical form")
    return value


def _unique_map(pairs: Sequence[tuple[Any, Any]]) -> dict[Any, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice in a map")
    return made


def check_plain(value: Value, what: str, depth: int = EXTRA_DEPTH_MAX) -> None:
    """Refuse what the format has no use for: floats, non-text keys, and nesting deeper than ``depth``."""
    if value is None or isinstance(value, (bool, int, bytes, str)):
        return
    if depth == 0:
        raise FormatError(f"{what} is nested too deeply")
    if isinstance(value, list):
        for item in value:
            check_plain(item, what, depth - 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise FormatError(f"{what} has a map key that is not text")
            check_plain(item, what, depth - 1)
    else:
        raise FormatError(f"{what} holds a value of a type that the format does not have")


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
    """``value`` if it is a map (its keys are text: ``decode`` has seen to it)."""
    if type(value) is not dict:
        raise FormatError(f"{what} must be a map")
    return value

"""Attributes objects: owners, extended attributes and the like of one directory, parallel to its listing.
Pure.

They form a tree of their own that the snapshot names, beside the tree of listings: a client that does not ask
for them pays nothing, and a change of owners changes no content id. Encoded like a listing, as canonical
values one after another:

    [1]                                  version
    [name, attributes]                   ``attributes``: map of text to value; name b"" is the directory
    [name, attributes, [size, digest]]   a directory, with the attributes object of what it holds

Only names that have attributes are listed. What the keys mean is the business of those who write and apply
them; unknown ones are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgpack

from p2psync.errors import FormatError
from p2psync.format.canonical import check_plain, encode, mapping
from p2psync.format.ids import Ref
from p2psync.format.limits import ATTRIBUTES_BYTES_MAX, LISTING_ENTRIES_MAX
from p2psync.format.listing import check_name

VERSION: Final = 1


class Attributes(NamedTuple):
    """The attributes of one name; ``inner`` names the attributes object of a directory's content."""

    name: bytes
    values: Mapping[str, Any]
    inner: Ref | None = None


def encode_attributes(rows: Iterable[Attributes]) -> bytes:
    """The bytes of an attributes object; ``rows`` in any order, names distinct."""
    parts = [encode([VERSION])]
    for name, values, inner in sorted(rows, key=lambda r: r.name):
        parts.append(encode([name, values] if inner is None else [name, values, inner.to_row()]))
    raw = b"".join(parts)
    decode_attributes(raw)
    return raw


def decode_attributes(raw: bytes) -> list[Attributes]:
    """The rows of an attributes object, in ascending order of their names.

    Raises:
        FormatError: damaged, not canonical, over a limit, unsorted or a name twice.
    """
    if len(raw) > ATTRIBUTES_BYTES_MAX:
        raise FormatError(
            f"an attributes object of {len(raw)} bytes is over the limit of {ATTRIBUTES_BYTES_MAX}"
        )
    rows: list[Attributes] = []
    again: list[bytes] = []
    try:
        unpacker = msgpack.Unpacker(
            raw=False, strict_map_key=True, max_ext_len=0, max_buffer_size=len(raw) or 1
        )
        unpacker.feed(raw)
        version = next(unpacker, None)
        if version != [VERSION]:
            raise FormatError(
                "an attributes object is of a version that this p2psync does not know; update it"
            )
        again.append(encode(version))
        for item in unpacker:
            if type(item) is not list or len(item) not in (2, 3) or type(item[0]) is not bytes:
                raise FormatError(
                    "a row of an attributes object must be a name, its attributes, and perhaps a reference"
                )
            if item[0]:
                check_name(item[0])
            if rows and item[0] <= rows[-1].name:
                raise FormatError("an attributes object is not sorted, or has a name twice")
            if len(rows) > LISTING_ENTRIES_MAX:
                raise FormatError(f"an attributes object has more than {LISTING_ENTRIES_MAX} rows")
            check_plain(item, "an attributes object")
            values = mapping(item[1], "the attributes of a name")
            inner = Ref.from_row(item[2], "the attributes object of a directory") if len(item) == 3 else None
            rows.append(Attributes(item[0], values, inner))
            again.append(encode(item))
    except (ValueError, msgpack.exceptions.UnpackException, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"an attributes object is damaged: {error}") from None
    if b"".join(again) != raw:
        raise FormatError("an attributes object is not in canonical form")
    return rows

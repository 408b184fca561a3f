"""Attributes objects: owners, extended attributes and the like of one directory, parallel to its listing.
Pure.

They form a tree of their own that the snapshot names, beside the tree of listings: a client that does not ask
for them pays nothing, and a change of owners changes no content id. Encoded like a listing, as canonical
values one after another:

    [1]                                  version
    [name, attributes]                   ``attributes``: map of text to value
    [name, attributes, [size, digest]]   a directory, with the attributes object of what it holds

Only names that have attributes, or directories with any below, are listed. The root of the archive is in no
directory: its own attributes are the row with the empty name, first in the object that the snapshot names.
What the keys mean is the business of those who write and apply them; unknown ones are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, Final, NamedTuple

from p2psync.errors import FormatError
from p2psync.format.canonical import (
    Value,
    check_plain,
    decode_sequence,
    encode,
    integer,
    mapping,
    row,
)
from p2psync.format.ids import Ref
from p2psync.format.limits import (
    ATTRIBUTES_BYTES_MAX,
    ATTRIBUTES_ROW_MAX,
    EXTRA_VALUES_MAX,
    LISTING_ENTRIES_MAX,
)
from p2psync.format.listing import check_name

VERSION: Final = 1


class Attributes(NamedTuple):
    """The attributes of one name; ``inner`` names the attributes object of a directory's content."""

    name: bytes
    values: Mapping[str, Any]
    inner: Ref | None = None


def encode_attributes(rows: Iterable[Attributes]) -> bytes:
    """The bytes of an attributes object; ``rows`` in any order, names distinct.

    Raises:
        FormatError: a row is not one that ``decode_attributes`` would take.
    """
    parts = [_HEADER]
    for name, values, inner in sorted(rows, key=_name_of):
        parts.append(encode([name, values] if inner is None else [name, values, inner.to_row()]))
    raw = b"".join(parts)
    decode_attributes(raw)
    return raw


def _name_of(item: Attributes) -> bytes:
    return item.name


def decode_attributes(raw: bytes) -> list[Attributes]:
    """The rows of an attributes object, in ascending order of their names.

    Raises:
        FormatError: damaged, not canonical, over a limit, unsorted or a name twice.
    """
    if len(raw) > ATTRIBUTES_BYTES_MAX:
        raise FormatError(f"{_WHAT} of {len(raw)} bytes is over the limit of {ATTRIBUTES_BYTES_MAX}")
    if not raw.startswith(_HEADER):
        raise FormatError(f"{_WHAT} is damaged, or of a version that this p2psync does not know; update it")
    rows: list[Attributes] = []
    values = 0
    for item in chain.from_iterable(decode_sequence(raw, len(_HEADER), ATTRIBUTES_ROW_MAX, _WHAT)):
        made = _from_row(item)
        if rows and made.name <= rows[-1].name:
            raise FormatError(f"{_WHAT} is not sorted, or has a name twice")
        if len(rows) > LISTING_ENTRIES_MAX:  # one more than a listing has: the directory itself
            raise FormatError(f"{_WHAT} has more than {LISTING_ENTRIES_MAX} names")
        values += check_plain(made.values, _WHAT)
        if values > EXTRA_VALUES_MAX:
            raise FormatError(f"{_WHAT} has more than {EXTRA_VALUES_MAX} values")
        rows.append(made)
    return rows


_WHAT: Final = "an attributes object"
_HEADER: Final = encode([VERSION])


def _from_row(item: Value) -> Attributes:
    fields = row(item, 2, "a row of an attributes object")
    if len(fields) > 3 or type(fields[0]) is not bytes:
        raise FormatError(
            "a row of an attributes object must be a name, its attributes, and perhaps a reference"
        )
    name = fields[0]
    if name:
        check_name(name)
    values = mapping(fields[1], "the attributes of a name")
    if len(fields) == 2:
        return Attributes(name, values)
    inner = Ref.from_row(fields[2], "the attributes object of a directory")
    integer(inner.size, 1, ATTRIBUTES_BYTES_MAX, "the size of an attributes object")
    if not name:
        raise FormatError("an attributes object names another for the directory that it is about")
    return Attributes(name, values, inner)

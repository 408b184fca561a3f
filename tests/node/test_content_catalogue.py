"""Where in a directory object which names are."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.content.catalogue import PIECE, catalogue_of
from p2psync.errors import FormatError
from p2psync.format.limits import ENTRY_BYTES_MAX
from p2psync.format.listing import Entry, decode_entries, encode_listing, symlink_entry


def entries_of(names: set[bytes], target: int) -> list[Entry]:
    return sorted(symlink_entry(name, 0, b"x" * target) for name in names)


names = st.sets(
    st.binary(min_size=1, max_size=255).filter(lambda one: not {0, 46, 47} & {*one}), max_size=300
)


@given(names, st.integers(1, 4000), st.integers(1, 1 << 20))
def test_the_pieces_are_the_listing_however_its_bytes_come(found: set[bytes], target: int, part: int) -> None:
    entries = entries_of(found, target)
    raw = encode_listing(entries)
    made = catalogue_of(raw[at : at + part] for at in range(0, len(raw), part))
    pieces = [decode_entries(raw[slice(*made.span(number))]) for number in range(made.pieces)]
    assert [entry for piece in pieces for entry in piece] == entries
    for number, piece in enumerate(pieces):
        assert all(made.holding(entry.name) == number for entry in piece)


@pytest.mark.parametrize(
    "raw",
    [
        msgpack.packb([1]) + b"\xc1",
        msgpack.packb([1]) + msgpack.packb([b"a"])[:-1],
        msgpack.packb([1]) + msgpack.packb("name"),
        msgpack.packb([1]) + msgpack.packb([]),
        msgpack.packb([1]) + b"\x91" * 2000,
        msgpack.packb([1]) + msgpack.packb([b"a", bytes(PIECE + ENTRY_BYTES_MAX)]),
        msgpack.packb([1]) + msgpack.packb([b"a", bytes(100 << 20)]),
        b"\xdd\xff\xff\xff\xff",
    ],
    ids=["no value", "cut", "no list", "empty list", "deep", "long", "huge", "promises"],
)
def test_what_is_no_listing_is_refused(raw: bytes) -> None:
    with pytest.raises(FormatError):
        catalogue_of(raw[at : at + 65536] for at in range(0, len(raw), 65536))

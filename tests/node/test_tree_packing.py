"""Orders and facts cross into another process and are the same there."""

from __future__ import annotations

import types
import typing
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from p2psync.tree.orders import Fact, Order
from p2psync.tree.packing import Unpacker, pack

PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**64 - 1),
    bytes: st.binary(max_size=20),
    bool: st.booleans(),
    str: st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    type(None): st.none(),
}


def of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type, as orders and facts have them."""
    if hint in PLAIN:
        return PLAIN[hint]
    if hasattr(hint, "_fields"):
        return st.builds(hint, *map(of, typing.get_type_hints(hint).values()))
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return st.one_of(*map(of, arguments))
    origin = typing.get_origin(hint)
    if origin is list:
        return st.lists(of(arguments[0]), max_size=4)
    if origin is dict:
        return st.dictionaries(of(arguments[0]), of(arguments[1]), max_size=4)
    assert origin is tuple
    return st.tuples(*map(of, arguments))


@given(st.lists(of(Order | Fact), max_size=5), st.integers(1, 50))
def test_what_is_packed_is_unpacked_in_whatever_pieces_it_comes(
    messages: list[Order | Fact], size: int
) -> None:
    raw = b"".join(map(pack, messages))
    unpacker = Unpacker()
    found: list[Any] = []
    for start in range(0, len(raw), size):
        unpacker.feed(raw[start : start + size])
        found += unpacker
    assert found == messages
    assert [type(each) for each in found] == [type(each) for each in messages]
    assert [repr(each) for each in found] == [repr(each) for each in messages]

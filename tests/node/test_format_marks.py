"""Marks of what a publisher could not read: what they allow to delete, and that nobody loses them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.node.simulator import MTIME

from p2psync.chunking import cut_object
from p2psync.format.ids import Ref
from p2psync.format.limits import EXTRA_VALUES_MAX
from p2psync.format.listing import (
    Entry,
    Totals,
    decode_listing,
    dir_entry,
    encode_listing,
    file_entry,
    read_listing,
)
from p2psync.format.marks import (
    NAMED_MAX,
    NAMES_MAX,
    carried,
    coarsened,
    incomplete,
    is_carried,
    is_incomplete,
    may_lack,
    unread_paths,
)
from p2psync.format.snapshot import Snapshot

EMPTY = cut_object(encode_listing([]))[0]


def folder(name: bytes = b"d") -> Entry:
    return dir_entry(name, 0o755, MTIME, EMPTY, Totals())


def marked(value: Any) -> Entry:
    return folder()._replace(extra={"incomplete": value})


def test_what_a_complete_directory_does_not_list_is_not_there() -> None:
    assert not is_incomplete(folder())
    assert not may_lack(folder(), b"x")


def test_of_a_directory_that_could_not_be_listed_any_name_may_be_missing() -> None:
    assert is_incomplete(incomplete(folder()))
    assert may_lack(incomplete(folder()), b"x")


def test_only_the_names_that_could_not_be_read_may_be_missing_where_they_are_told() -> None:
    entry = incomplete(folder(), [b"b", b"a"])
    assert is_incomplete(entry)
    assert may_lack(entry, b"a") and may_lack(entry, b"b")
    assert not may_lack(entry, b"c")


def test_many_unread_names_are_not_told_one_by_one() -> None:
    names = [b"%03d" % number for number in range(NAMES_MAX + 1)]
    assert may_lack(incomplete(folder(), names), b"another")
    assert not may_lack(incomplete(folder(), names[1:]), b"another")


@pytest.mark.parametrize("value", [None, False, 0, "x", {"later": 1}, [b"a", 1], [[b"a"]]])
def test_a_mark_of_a_newer_kind_keeps_what_it_may_be_about(value: Any) -> None:
    assert is_incomplete(marked(value))
    assert may_lack(marked(value), b"x")


def test_marks_come_back_from_a_listing_and_stand_beside_other_fields() -> None:
    other = folder(b"e")._replace(extra={"zz": 1})
    entries = [
        incomplete(folder(b"d"), [b"x"]),
        incomplete(other),
        carried(file_entry(b"f", 0o644, MTIME, Ref(5, b"d" * 32))),
        carried(folder(b"g")),
    ]
    raw = encode_listing(entries)
    for found in (decode_listing(raw), read_listing(raw)):
        assert found == entries
        assert [is_carried(entry) for entry in found] == [False, False, True, True]
        assert [is_incomplete(entry) for entry in found] == [True, True, False, False]
        assert found[1].extra["zz"] == 1


def test_the_mark_of_the_root_stands_in_the_snapshot() -> None:
    raw = Snapshot(incomplete(folder(b""), [b"a"]), 5, extra={"unread": 1}).encode()
    found = Snapshot.decode(raw)
    assert may_lack(found.root, b"a") and not may_lack(found.root, b"b")
    assert unread_paths(found.extra) == 1


@pytest.mark.parametrize("value", [None, True, -1, 1 << 40, "1", [1]])
def test_a_count_of_unread_paths_that_is_none_counts_nothing(value: Any) -> None:
    assert unread_paths({"unread": value}) == 0


def test_more_marks_than_a_listing_can_hold_are_told_without_names() -> None:
    names = [b"%02d" % number for number in range(NAMES_MAX)]
    some = [incomplete(folder(b"%06d" % number), names) for number in range(2)]
    assert coarsened(some) is some
    # 2^20 directories of which each has a mark without names, three values, stay within the limit.
    assert NAMED_MAX * (3 + NAMES_MAX) < EXTRA_VALUES_MAX and EXTRA_VALUES_MAX > (1 << 20) * 3
    many = coarsened(some * (NAMED_MAX // 2 + 1))
    assert all(may_lack(entry, b"another") for entry in many)

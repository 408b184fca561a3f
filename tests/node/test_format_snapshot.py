"""Snapshots, attributes objects and coverage: what they may say, and that they are kept as they came."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.node.format_strategies import digests, extras, names, refs, snapshots
from tests.node.simulator import MTIME, NOW, Link, Publisher, Tree, content, pack_rows

from p2psync.errors import FormatError
from p2psync.format import attributes
from p2psync.format.attributes import Attributes, decode_attributes, encode_attributes
from p2psync.format.canonical import encode
from p2psync.format.coverage import Coverage
from p2psync.format.ids import Ref
from p2psync.format.limits import (
    ATTRIBUTES_BYTES_MAX,
    ATTRIBUTES_ROW_MAX,
    INT64_MAX,
    LISTING_BYTES_MAX,
    PARENTS_MAX,
    SINGLE_CHUNK_MAX,
    SNAPSHOT_BYTES_MAX,
)
from p2psync.format.listing import Kind, Totals, dir_entry
from p2psync.format.snapshot import ParentSnapshot, Snapshot

D = b"d" * 32
ROOT: list[Any] = [0o755, MTIME, 5, D, [1, 2, 3, 4]]
PLAIN: dict[str, Any] = {"v": 1, "root": ROOT, "time": NOW, "parents": []}

# Snapshots


@given(snapshots)
def test_a_snapshot_reads_back_and_encodes_again_to_the_same_bytes(snapshot: Snapshot) -> None:
    raw = snapshot.encode()
    found = Snapshot.decode(raw)
    assert found == snapshot
    assert found.encode() == raw


def test_the_plain_snapshot_of_these_tests_is_accepted() -> None:
    found = Snapshot.decode(encode(PLAIN))
    assert found.root == dir_entry(b"", 0o755, MTIME, Ref(5, D), Totals(1, 2, 3, 4))
    assert (found.created_ns, found.parents, found.attributes, found.extra) == (NOW, (), None, {})


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": 0},
        {"v": True},
        {"v": "1"},
        {"v": None},
        {"root": []},
        {"root": ROOT[:4]},
        {"root": [*ROOT, {}]},
        {"root": [*ROOT, 5]},
        {"root": [*ROOT, {"a": 1}, {"b": 1}]},
        {"root": [0o10000, *ROOT[1:]]},
        {"root": [0o755, INT64_MAX + 1, *ROOT[2:]]},
        {"root": [0o755, 0, 0, b"", ROOT[4]]},
        {"root": [0o755, 0, LISTING_BYTES_MAX + 1, D, ROOT[4]]},
        {"root": [0o755, 0, 5, D[1:], ROOT[4]]},
        {"root": [0o755, 0, 5, D, [1, 2, 3]]},
        {"root": {"mode": 0o755}},
        {"time": -1},
        {"time": INT64_MAX + 1},
        {"time": "now"},
        {"parents": None},
        {"parents": {}},
        {"parents": [[0, 1, 5]]},
        {"parents": [[0, 1, 5, D, 6]]},
        {"parents": [[-1, 1, 5, D]]},
        {"parents": [[0, INT64_MAX + 1, 5, D]]},
        {"parents": [[0, 1, 0, b""]]},
        {"parents": [[0, 1, SNAPSHOT_BYTES_MAX + 1, D]]},
        {"parents": [[0, 1, 5, D], [0, 2, 5, D]]},
        {"parents": [[0, 1, 5, D], [0, 1, 6, D]]},
        {"parents": [[0, n, 5, D] for n in range(PARENTS_MAX + 1, 0, -1)]},
        {"attrs": None},
        {"attrs": [0, b""]},
        {"attrs": [5]},
        {"attrs": [ATTRIBUTES_BYTES_MAX + 1, D]},
        {"later": 1.5},
        {"later": [[[[[[[[1]]]]]]]]},
        {"later": b"x" * SNAPSHOT_BYTES_MAX},
    ],
    ids=repr,
)
def test_a_snapshot_that_says_what_none_can_say_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        Snapshot.decode(encode(PLAIN | change))


@pytest.mark.parametrize("key", ["v", "root", "time", "parents"])
def test_a_snapshot_without_one_of_its_fields_is_refused(key: str) -> None:
    with pytest.raises(FormatError):
        Snapshot.decode(encode({name: value for name, value in PLAIN.items() if name != key}))


@pytest.mark.parametrize("raw", [b"", b"\x80", b"\x90", b"\x01", encode([PLAIN]), encode(PLAIN) + b"\0"])
def test_what_is_no_snapshot_is_refused(raw: bytes) -> None:
    with pytest.raises(FormatError):
        Snapshot.decode(raw)


def test_every_bound_of_a_snapshot_is_within() -> None:
    parents = [[0, n, SNAPSHOT_BYTES_MAX, D] for n in range(PARENTS_MAX, 0, -1)]
    full = PLAIN | {"parents": parents, "attrs": [ATTRIBUTES_BYTES_MAX, D], "time": INT64_MAX, "z": b""}
    room = SNAPSHOT_BYTES_MAX - len(encode(full)) - 1  # the length of the filling takes three bytes, not two
    raw = encode(full | {"z": b"x" * room})
    assert len(raw) == SNAPSHOT_BYTES_MAX == SINGLE_CHUNK_MAX
    assert Snapshot.decode(raw).encode() == raw
    with pytest.raises(FormatError, match="at most"):
        Snapshot.decode(encode(full | {"z": b"x" * (room + 1)}))


def test_a_snapshot_in_another_order_of_keys_is_another_encoding_and_refused() -> None:
    with pytest.raises(FormatError, match="order"):
        Snapshot.decode(msgpack.packb(PLAIN))


@pytest.mark.parametrize(
    "change",
    [
        {"parents": tuple(ParentSnapshot(0, n, Ref(5, D)) for n in range(PARENTS_MAX + 1))},
        {"created_ns": -1},
        {"extra": {"x": 0.5}},
        {"extra": {"x": b"y" * SNAPSHOT_BYTES_MAX}},
        {"attributes": Ref(0, b"")},
    ],
)
def test_no_snapshot_is_written_that_would_not_be_read(change: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"root": dir_entry(b"", 0o755, 0, Ref(5, D), Totals()), "created_ns": 0}
    with pytest.raises(FormatError):
        Snapshot(**(fields | change)).encode()


@given(snapshots, st.data())
@settings(max_examples=200)
def test_changed_bytes_are_another_snapshot_or_a_format_error(
    snapshot: Snapshot, data: st.DataObject
) -> None:
    raw = bytearray(snapshot.encode())
    begin = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(begin, min(begin + 4, len(raw))))
    raw[begin:end] = data.draw(st.binary(max_size=4))
    try:
        found = Snapshot.decode(bytes(raw))
    except FormatError:
        return
    assert found.encode() == raw


@given(st.binary(max_size=200))
def test_random_bytes_are_no_snapshot(raw: bytes) -> None:
    with pytest.raises(FormatError):
        Snapshot.decode(raw)


# Attributes objects

rows = st.lists(
    st.builds(Attributes, names, extras, st.none() | refs(1, ATTRIBUTES_BYTES_MAX))
    | st.builds(Attributes, st.just(b""), extras, st.none()),
    max_size=5,
    unique_by=lambda row: row.name,
)


@given(rows)
def test_an_attributes_object_reads_back_and_encodes_again_to_the_same_bytes(some: list[Attributes]) -> None:
    raw = encode_attributes(some)
    found = decode_attributes(raw)
    assert found == sorted(some, key=lambda row: row.name)
    assert encode_attributes(reversed(found)) == raw


@pytest.mark.parametrize(
    "items",
    [
        [[b"b", {}], [b"a", {}]],
        [[b"a", {}], [b"a", {}]],
        [[b"a", {}], [b"", {}]],
        [[b"..", {}]],
        [[b"a/b", {}]],
        [["a", {}]],
        [[b"a"]],
        [[b"a", []]],
        [[b"a", {}, [5, D], 1]],
        [[b"a", {}, None]],
        [[b"a", {}, [0, b""]]],
        [[b"a", {}, [5, D[1:]]]],
        [[b"a", {}, [ATTRIBUTES_BYTES_MAX + 1, D]]],
        [[b"", {}, [5, D]]],
        [[b"a", {"x": 0.5}]],
        [[b"a", {"x": [[[[[[[[1]]]]]]]]}]],
        [[b"a", {"x": b"y" * ATTRIBUTES_ROW_MAX}]],
        [None],
    ],
    ids=lambda items: repr(items)[:60],
)
def test_an_attributes_object_that_says_what_none_can_say_is_refused(items: list[Any]) -> None:
    with pytest.raises(FormatError):
        decode_attributes(pack_rows(items))


@pytest.mark.parametrize("version", [0, 2, True, 1.0, "1"])
def test_an_attributes_object_of_another_version_is_refused(version: Any) -> None:
    with pytest.raises(FormatError, match="version"):
        decode_attributes(pack_rows([], version))


def test_attributes_are_bounded_at_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    some = [Attributes(b"%d" % i, {"a": [0]}) for i in range(3)]  # four values each
    raw = encode_attributes(some)
    for name, value in (
        ("LISTING_ENTRIES_MAX", 2),
        ("EXTRA_VALUES_MAX", 12),
        ("ATTRIBUTES_BYTES_MAX", len(raw)),
    ):
        monkeypatch.setattr(attributes, name, value)
    assert decode_attributes(raw) == some
    for name, value in (
        ("LISTING_ENTRIES_MAX", 1),
        ("EXTRA_VALUES_MAX", 11),
        ("ATTRIBUTES_BYTES_MAX", len(raw) - 1),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(attributes, name, value)
            with pytest.raises(FormatError):
                decode_attributes(raw)
            with pytest.raises(FormatError):
                encode_attributes(some)


@given(st.binary(max_size=200))
def test_random_bytes_are_attributes_or_a_format_error(tail: bytes) -> None:
    for raw in (tail, b"\x91\x01" + tail):
        try:
            found = decode_attributes(raw)
        except FormatError:
            continue
        assert encode_attributes(found) == raw


@given(rows.filter(bool), st.data())
def test_changed_bytes_are_other_attributes_or_a_format_error(
    some: list[Attributes], data: st.DataObject
) -> None:
    raw = bytearray(encode_attributes(some))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode_attributes(bytes(raw))
    except FormatError:
        return
    assert encode_attributes(found) == raw


# Coverage


@given(st.booleans(), st.integers(0, INT64_MAX), st.integers(0, INT64_MAX))
def test_what_a_holder_has_reads_back(complete: bool, epoch: int, seq: int) -> None:
    made = Coverage(complete, epoch, seq)
    assert Coverage.decode(made.encode()) == made


@pytest.mark.parametrize(
    "value", [[], [1, 2], [2, 0, 0], [True, 0, 0], [1, -1, 0], [1, 0, INT64_MAX + 1], "x", None]
)
def test_what_no_holder_can_say_is_refused(value: Any) -> None:
    with pytest.raises(FormatError):
        Coverage.decode(encode(value))


@given(st.binary(max_size=70) | digests)
def test_random_bytes_are_a_claim_or_a_format_error(raw: bytes) -> None:
    try:
        Coverage.decode(raw)
    except FormatError:
        return


# The chain


def test_a_head_leads_to_every_byte_of_a_tree() -> None:
    publisher = Publisher()
    tree: Tree = {
        b"big": content("big", 300_000),
        b"empty": b"",
        b"link": Link(b"sub/small"),
        b"sub": {b"small": b"hello\n", b"deeper": {b"\xff\n": b"x" * 65_536}},
        b"bare": {},
    }
    found = {path: (entry, data) for path, entry, data in publisher.read(publisher.publish(tree))}
    assert found[b"/big"][1] == tree[b"big"]
    assert found[b"/link"][0].target == b"sub/small"
    assert found[b"/sub/deeper/\xff\n"][1] == b"x" * 65_536
    assert found[b""][0].totals == Totals(files=4, dirs=3, symlinks=1, bytes=300_000 + 6 + 65_536)
    assert found[b"/bare"][0].kind is Kind.DIR


def test_a_renamed_directory_costs_its_parent_alone() -> None:
    publisher = Publisher()
    inside = {b"%d" % i: content(i, 1000) for i in range(50)}
    publisher.publish({b"old": inside, b"other": {b"x": b"y"}})
    before = set(publisher.objects)
    publisher.publish({b"new": inside, b"other": {b"x": b"y"}})
    assert len(publisher.objects.keys() - before) == 2  # the root's listing and the snapshot


def test_equal_subtrees_of_independent_publishers_have_equal_ids() -> None:
    one, two = Publisher("one"), Publisher("two")
    tree = {b"a": {b"b": content("shared", 100_000)}}
    one.publish(tree)
    two.publish({b"elsewhere": tree})
    one_root = Snapshot.decode(one.objects[one.head.snapshot.digest]).root
    assert one_root.digest in two.objects


def test_a_snapshot_names_up_to_eight_before_it_newest_first() -> None:
    publisher = Publisher()
    for number in range(12):
        publisher.publish({b"n": b"%d" % number})
    snapshot = Snapshot.decode(publisher.objects[publisher.head.snapshot.digest])
    assert [parent.seq for parent in snapshot.parents] == [11, 10, 9, 8, 7, 6, 5, 4]
    assert snapshot.parents[0].ref == publisher.heads[-2].snapshot

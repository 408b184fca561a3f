"""Directory objects: what they may say, and what a hostile one may cost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.node.format_strategies import entries, listings
from tests.node.memory import traced_memory
from tests.node.simulator import MTIME, Publisher, content, pack_rows

from p2psync.chunking import cut_object
from p2psync.errors import FormatError
from p2psync.format import listing
from p2psync.format.ids import Ref
from p2psync.format.limits import (
    ENTRY_BYTES_MAX,
    INT64_MAX,
    LISTING_BYTES_MAX,
    NAME_MAX,
    OBJECT_BYTES_MAX,
    SYMLINK_TARGET_MAX,
    TREE_ENTRIES_MAX,
)
from p2psync.format.listing import (
    Entry,
    Kind,
    Totals,
    add_totals,
    check_name,
    check_totals,
    decode_listing,
    dir_entry,
    encode_listing,
    file_entry,
    symlink_entry,
)
from p2psync.format.snapshot import Snapshot

D = b"d" * 32
FILE: list[Any] = [b"name", 0, 0o644, MTIME, 5, D]
DIR: list[Any] = [b"name", 1, 0o755, MTIME, 5, D, [1, 2, 3, 4]]
LINK: list[Any] = [b"name", 2, 0o777, MTIME, b"target"]


def changed(item: list[Any], index: int, value: Any) -> list[Any]:
    return [*item[:index], value, *item[index + 1 :]]


def refused(raw: bytes, match: str | None = None) -> None:
    with pytest.raises(FormatError, match=match):
        decode_listing(raw)


# Round trips


@given(listings)
def test_a_listing_reads_back_sorted_and_encodes_again_to_the_same_bytes(given_entries: list[Entry]) -> None:
    raw = encode_listing(given_entries)
    found = decode_listing(raw)
    assert found == sorted(given_entries, key=lambda entry: entry.name)
    assert encode_listing(reversed(found)) == raw


@given(entries)
def test_an_entry_names_its_object_and_adds_itself_to_the_totals(entry: Entry) -> None:
    below = add_totals([entry.below, Totals(1, 1, 1, 1)])
    match entry.kind:
        case Kind.FILE:
            assert entry.ref == Ref(entry.size, entry.digest)
            assert below == Totals(2, 1, 1, entry.size + 1)
        case Kind.SYMLINK:
            assert entry.ref.is_empty
            assert below == Totals(1, 1, 2, 1)
        case Kind.DIR:
            inner = entry.totals
            assert below == Totals(inner.files + 1, inner.dirs + 2, inner.symlinks + 1, inner.bytes + 1)


def test_the_plain_rows_of_these_tests_are_accepted() -> None:
    for item, kind in ((FILE, Kind.FILE), (DIR, Kind.DIR), (LINK, Kind.SYMLINK)):
        (entry,) = decode_listing(pack_rows([item]))
        assert entry.kind is kind
        assert entry.name == b"name"


ODD_NAMES = st.sampled_from(
    [b"", b".", b"..", b".a", b"a", b"a/", b"b\0", b"b", b"b.c", b"x" * NAME_MAX, b"x" * 256, "a", 1]
)
ODD_NUMBERS: st.SearchStrategy[Any] = st.sampled_from(
    [
        -1,
        0,
        1,
        0o7777,
        0o10000,
        OBJECT_BYTES_MAX,
        OBJECT_BYTES_MAX + 1,
        INT64_MAX,
        -INT64_MAX,
        -INT64_MAX - 1,
        True,
        False,
        1.0,
        None,
        b"",
        "a",
        [],
    ]
)
ODD_DIGESTS = st.sampled_from([D, b"", D[:-1], D + b"d", "d" * 32, None, 7])


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"a", b"b", b"c", b"d"]),
            st.integers(0, 5),
            st.one_of(ODD_NAMES, ODD_NUMBERS, ODD_DIGESTS),
        ),
        min_size=1,
        max_size=3,
    ),
)
@settings(max_examples=400)
def test_a_row_is_judged_alike_among_files_alone_and_beside_a_directory(
    odd: list[tuple[bytes, int, Any]],
) -> None:
    """Files alone are read by columns, a listing with anything else in it row by row."""
    rows = [
        changed(changed(FILE, 0, name), index, value)
        for name, index, value in sorted(odd, key=lambda row: row[0])
    ]
    last = [b"\xff" * NAME_MAX, 1, 0o755, MTIME, 5, D, [1, 2, 3, 4]]
    assert judged(rows) == judged([*rows, last])


def judged(rows: list[list[Any]]) -> list[Entry] | str:
    try:
        return [entry for entry in decode_listing(pack_rows(rows)) if entry.kind is Kind.FILE]
    except FormatError as error:
        return str(error)


@pytest.mark.parametrize("index", range(6))
def test_one_odd_field_among_many_files_is_found(index: int) -> None:
    plain = [[b"%05d" % number, 0, 0o644, MTIME, 5, D] for number in range(1000)]
    assert len(decode_listing(pack_rows(plain))) == 1000
    odd: list[Any] = [b"00500/", 3, 0o10000, 1 << 63, -1, D[:-1]]
    refused(pack_rows([*plain[:500], changed(plain[500], index, odd[index]), *plain[501:]]))


def test_further_fields_of_newer_writers_are_kept() -> None:
    further = {"a": [1, {"b": None}], "z": b"\xff"}
    for item in (FILE, DIR, LINK):
        raw = pack_rows([[*item, further]])
        (entry,) = decode_listing(raw)
        assert entry.extra == further
        assert encode_listing([entry]) == raw


def test_one_changed_entry_leaves_the_other_chunks_of_a_large_listing_as_they_were() -> None:
    made = [file_entry(b"%06d" % i, 0o644, MTIME, Ref(5, content(i, 32))) for i in range(20_000)]
    before = {digest for digest, _ in cut_object(encode_listing(made))[1]}
    made[9_000] = made[9_000]._replace(mtime_ns=MTIME + 1)
    after = [digest for digest, _ in cut_object(encode_listing(made))[1]]
    assert sum(digest not in before for digest in after) <= 2


# Names


@pytest.mark.parametrize(
    "name",
    [b"", b".", b"..", b"/", b"a/b", b"../x", b"/etc/passwd", b"a\0", b"\0", b"x" * (NAME_MAX + 1)],
)
def test_a_name_that_leads_elsewhere_is_refused(name: bytes) -> None:
    for item in (FILE, DIR, LINK):
        refused(pack_rows([changed(item, 0, name)]), "cannot be the name")
    with pytest.raises(FormatError, match="cannot be the name"):
        encode_listing([file_entry(name, 0o644, 0, Ref(5, D))])
    with pytest.raises(FormatError):
        check_name(name)


@pytest.mark.parametrize("name", [b".p2psync-tmp-", b".p2psync-tmp-1-2"])
def test_a_name_that_stands_for_a_moment_beside_a_file_is_refused(name: bytes) -> None:
    for item in (FILE, DIR, LINK):
        refused(pack_rows([changed(item, 0, name)]), "keeps for itself")
    with pytest.raises(FormatError, match="keeps for itself"):
        encode_listing([file_entry(name, 0o644, 0, Ref(5, D))])


@pytest.mark.parametrize(
    "name",
    [
        b".p2psync-tmp",
        b".p2psync",
        b"x.p2psync-tmp-1",
        b"x" * NAME_MAX,
        b"...",
        b"..a",
        b"a..",
        b" ",
        b"\n",
        b"-rf",
        b"\xff\xfe",
        b"\\",
        "é".encode(),
        b"*",
    ],
)
def test_any_other_name_is_a_name(name: bytes) -> None:
    assert decode_listing(pack_rows([changed(FILE, 0, name)]))[0].name == name


@pytest.mark.parametrize("name", ["name", None, 5, [b"name"], {"a": 1}])
def test_a_name_is_a_byte_string(name: Any) -> None:
    refused(pack_rows([changed(FILE, 0, name)]), "byte string")


# Order


def test_unsorted_and_duplicate_names_are_refused() -> None:
    a, b = changed(FILE, 0, b"a"), changed(FILE, 0, b"b")
    refused(pack_rows([b, a]), "sorted")
    refused(pack_rows([a, a]), "twice")
    refused(pack_rows([a, changed(DIR, 0, b"a")]), "twice")
    refused(pack_rows([changed(FILE, 0, b"a"), changed(FILE, 0, b"B")]), "sorted")
    assert len(decode_listing(pack_rows([a, b]))) == 2


def test_a_name_twice_is_refused_where_it_is_written() -> None:
    one = file_entry(b"a", 0o644, 0, Ref(5, D))
    for other in (one, one._replace(extra={"x": 1}), symlink_entry(b"a", 0, b"b")):
        with pytest.raises(FormatError, match="twice"):
            encode_listing([one, other])


# Fields


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(changed(FILE, 1, 3), id="unknown kind"),
        pytest.param(changed(FILE, 1, -1), id="negative kind"),
        pytest.param(changed(FILE, 1, False), id="bool as kind"),
        pytest.param(changed(LINK, 1, 0), id="a link called a file"),
        pytest.param(changed(FILE, 1, 2), id="a file called a link"),
        pytest.param(changed(FILE, 2, 0o10000), id="mode with a type"),
        pytest.param(changed(FILE, 2, -1), id="negative mode"),
        pytest.param(changed(FILE, 2, True), id="bool as mode"),
        pytest.param(changed(LINK, 2, 0o755), id="a link with a mode"),
        pytest.param(changed(FILE, 3, INT64_MAX + 1), id="time too late"),
        pytest.param(changed(FILE, 3, -INT64_MAX - 1), id="time too early"),
        pytest.param(changed(FILE, 3, None), id="no time"),
        pytest.param(changed(FILE, 4, OBJECT_BYTES_MAX + 1), id="too large"),
        pytest.param(changed(FILE, 4, -1), id="negative size"),
        pytest.param(changed(FILE, 4, 0), id="empty with a digest"),
        pytest.param(changed(FILE, 5, b""), id="no digest"),
        pytest.param(changed(FILE, 5, D[1:]), id="short digest"),
        pytest.param(changed(FILE, 5, D + b"x"), id="long digest"),
        pytest.param(changed(FILE, 5, "d" * 32), id="digest as text"),
        pytest.param(changed(DIR, 4, 0), id="empty directory object with a digest"),
        pytest.param(changed(changed(DIR, 4, 0), 5, b""), id="directory without an object"),
        pytest.param(changed(DIR, 4, 1), id="directory object shorter than its version"),
        pytest.param(changed(DIR, 4, LISTING_BYTES_MAX + 1), id="directory object too large"),
        pytest.param(changed(DIR, 6, [1, 2, 3]), id="three totals"),
        pytest.param(changed(DIR, 6, [1, 2, 3, 4, 5]), id="five totals"),
        pytest.param(changed(DIR, 6, [1, 2, 3, -1]), id="negative total"),
        pytest.param(changed(DIR, 6, [1, 2, 3, INT64_MAX + 1]), id="bytes too many"),
        pytest.param(changed(DIR, 6, [1, TREE_ENTRIES_MAX + 1, 3, 4]), id="directories too many"),
        pytest.param(changed(DIR, 6, [True, 2, 3, 4]), id="bool as total"),
        pytest.param(changed(DIR, 6, {}), id="totals as map"),
        pytest.param(changed(LINK, 4, b""), id="link to nothing"),
        pytest.param(changed(LINK, 4, b"a\0b"), id="link with NUL"),
        pytest.param(changed(LINK, 4, b"x" * (SYMLINK_TARGET_MAX + 1)), id="link too long"),
        pytest.param(changed(LINK, 4, "target"), id="link as text"),
        pytest.param(FILE[:-1], id="a field missing"),
        pytest.param(DIR[:-1], id="totals missing"),
        pytest.param([], id="no fields"),
        pytest.param([*FILE, {}], id="further fields that are none"),
        pytest.param([*FILE, []], id="further fields that are no map"),
        pytest.param([*FILE, {"a": 1}, {"b": 1}], id="further fields twice"),
        pytest.param([*FILE, {"a": 1.5}], id="a float in further fields"),
        pytest.param([*FILE, {"a": [[[[[[[[1]]]]]]]]}], id="further fields nested too deeply"),
        pytest.param({"name": b"name"}, id="a map"),
        pytest.param(b"name", id="bytes"),
        pytest.param(None, id="null"),
    ],
)
def test_a_row_that_is_no_entry_is_refused(item: Any) -> None:
    refused(pack_rows([item]))


@pytest.mark.parametrize(
    ("item", "index", "values"),
    [
        (FILE, 2, [0, 0o7777]),
        (FILE, 3, [-INT64_MAX, -1, 0, INT64_MAX]),
        (FILE, 4, [1, OBJECT_BYTES_MAX]),
        (DIR, 4, [2, LISTING_BYTES_MAX]),
        (DIR, 6, [[0, 0, 0, 0], [TREE_ENTRIES_MAX] * 3 + [INT64_MAX]]),
        (LINK, 4, [b"x", b"x" * SYMLINK_TARGET_MAX, b"/absolute", b"../up"]),
    ],
)
def test_every_bound_itself_is_within(item: list[Any], index: int, values: list[Any]) -> None:
    for value in values:
        raw = pack_rows([changed(item, index, value)])
        assert encode_listing(decode_listing(raw)) == raw


@pytest.mark.parametrize(
    "entry",
    [
        file_entry(b"a", 0o644, 0, Ref(5, D))._replace(mode=True),
        file_entry(b"a", 0o10644, 0, Ref(5, D)),
        file_entry(b"a", 0o644, 0, Ref(5, D))._replace(digest=D[1:]),
        file_entry(b"a", 0o644, 0, Ref(5, D))._replace(totals=Totals(1)),
        file_entry(b"a", 0o644, 0, Ref(5, D))._replace(target=b"x"),
        file_entry(b"a", 0o644, 0, Ref(5, D))._replace(extra={"f": 0.5}),
        file_entry(b"a", 0o644, 0, Ref(5, D))._replace(extra={"f": b"x" * ENTRY_BYTES_MAX}),
        symlink_entry(b"a", 0, b""),
        symlink_entry(b"a", 0, b"b")._replace(mode=0o755),
        symlink_entry(b"a", 0, b"b")._replace(size=1, digest=D),
        dir_entry(b"a", 0o755, 0, Ref(0, b""), Totals()),
    ],
)
def test_nothing_is_written_that_would_not_be_read_back_as_it_was(entry: Entry) -> None:
    with pytest.raises(FormatError):
        encode_listing([entry])


# The object


@pytest.mark.parametrize(
    "raw",
    [b"", b"\x91", b"\x91\x02", b"\x90", b"\x91\xc3", b"\x91\xcb?\xf0" + bytes(6), b"\x91\xcc\x01", b"\x01"],
)
def test_another_version_is_refused_and_one_has_one_spelling(raw: bytes) -> None:
    """To Python 1, 1.0 and True are equal: bytes are compared, lest one listing have three ids."""
    refused(raw, "version")


def test_an_entry_is_bounded_at_its_limit() -> None:
    room = ENTRY_BYTES_MAX - len(pack_rows([[*FILE, {"x": b"y" * 1000}]])) + 2 + 1000
    assert decode_listing(pack_rows([[*FILE, {"x": b"y" * room}]]))[0].extra
    refused(pack_rows([[*FILE, {"x": b"y" * (room + 1)}]]), "at most")


def test_the_number_of_entries_is_bounded_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "LISTING_ENTRIES_MAX", 3)
    made = [file_entry(b"%d" % i, 0o644, 0, Ref(5, D)) for i in range(4)]
    assert len(decode_listing(encode_listing(made[:3]))) == 3
    with pytest.raises(FormatError, match="more than 3"):
        encode_listing(made)
    refused(pack_rows([changed(FILE, 0, b"%d" % i) for i in range(4)]), "more than 3")


def test_the_size_of_the_object_is_bounded_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = pack_rows([FILE])
    monkeypatch.setattr(listing, "LISTING_BYTES_MAX", len(raw))
    assert encode_listing(decode_listing(raw)) == raw
    monkeypatch.setattr(listing, "LISTING_BYTES_MAX", len(raw) - 1)
    refused(raw, "over the limit")
    with pytest.raises(FormatError, match="too large"):
        encode_listing([file_entry(b"name", 0o644, MTIME, Ref(5, D))])


def test_the_values_in_further_fields_are_bounded_at_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[*changed(FILE, 0, b"%d" % i), {"a": [0, 1]}] for i in range(2)]  # five values each
    monkeypatch.setattr(listing, "EXTRA_VALUES_MAX", 10)
    assert encode_listing(decode_listing(pack_rows(rows))) == pack_rows(rows)
    found = decode_listing(pack_rows(rows))
    monkeypatch.setattr(listing, "EXTRA_VALUES_MAX", 9)
    refused(pack_rows(rows), "more than 9")
    with pytest.raises(FormatError, match="too large"):
        encode_listing(found)


# What hostile ones cost


def test_hostile_objects_are_refused_without_much_memory() -> None:
    """Eight megabytes each; decoded as they claim to be, they would take hundreds or thousands."""
    size = 8 << 20
    hostile = [
        b"\x91\x01" + b"\x90" * size,
        b"\x91\x01" + b"\xdd\x00\x00\x0f\xff" * (size // 5),
        b"\x91\x01" + b"\xdc\xff\xff" + b"\x90" * size,
        b"\x91\x01" + b"\x9f" * size,
        b"\x91\x01" + b"\x96\xc4\x01a\x00\x00\x00\x00\xc4\x00" + b"\x80" * size,
        b"\x91\x01" + b"\xc6\xff\xff\xff\xff" + b"x" * size,
        b"\x91\x01" + b"\x97\xc4\x01a\x00\x00\x00\x00\xc4\x00\xde\xff\xff" + b"\xa1a\x90" * (size // 3),
    ]
    with traced_memory() as peak:
        for raw in hostile:
            refused(raw)
        assert peak() < 16 << 20


def test_a_directory_bomb_declares_itself_in_the_snapshot() -> None:
    """Six objects can mean a thousand million directories; more than any disk holds cannot be said."""
    publisher = Publisher()
    snapshot = Snapshot.decode(publisher.objects[publisher.directory_bomb(depth=3, width=1000).digest])
    assert snapshot.root.totals.dirs > 10**9
    assert len(publisher.objects) < 7
    with pytest.raises(FormatError, match="total"):
        publisher.directory_bomb(depth=4, width=1000)


def test_a_directory_bomb_that_hides_its_size_is_found_at_the_directory_that_hides_it() -> None:
    inner, ref = [dir_entry(b"%d" % i, 0o755, 0, Ref(5, D), Totals(1, 2, 3, 4)) for i in range(3)], Ref(9, D)
    check_totals(dir_entry(b"a", 0o755, 0, ref, Totals(3, 9, 9, 12)), inner)
    for lie in (Totals(), Totals(2, 9, 9, 12), Totals(3, 6, 9, 12), Totals(3, 9, 8, 12), Totals(3, 9, 9, 11)):
        with pytest.raises(FormatError, match="does not hold"):
            check_totals(dir_entry(b"a", 0o755, 0, ref, lie), inner)


@given(listings)
def test_totals_that_add_up_are_accepted(some: list[Entry]) -> None:
    found = add_totals(entry.below for entry in some)
    check_totals(dir_entry(b"a", 0o755, 0, Ref(9, D), found), some)


# Rubbish


@given(st.binary(max_size=300))
def test_random_bytes_are_a_listing_or_a_format_error(tail: bytes) -> None:
    for raw in (tail, b"\x91\x01" + tail):
        try:
            found = decode_listing(raw)
        except FormatError:
            continue
        assert encode_listing(found) == raw


@given(listings.filter(bool), st.data())
@settings(max_examples=200)
def test_changed_bytes_are_another_listing_or_a_format_error(
    given_entries: list[Entry], data: st.DataObject
) -> None:
    raw = bytearray(encode_listing(given_entries))
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(raw)))
        end = data.draw(st.integers(begin, min(begin + 4, len(raw))))
        raw[begin:end] = data.draw(st.binary(max_size=4))
    try:
        found = decode_listing(bytes(raw))
    except FormatError:
        return
    assert encode_listing(found) == raw

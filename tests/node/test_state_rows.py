"""Rows of files, packed by directory: what is read back is what a table of rows would hold, however it was
written, and content is found exactly where it is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2psync.errors import FileError
from p2psync.format.ids import Ref
from p2psync.format.listing import Totals
from p2psync.state import DirRow, FileRow, State, contents, streamed
from p2psync.state.directories import PIECES
from p2psync.state.kept import Kept
from p2psync.state.rows import Located, Packed, content_key, gone, merge, pack, unpack

LISTED = DirRow(b"stamp", Ref(3, b"l" * 32), Totals(1, 2, 3, 4), 7, ((b"inner", Ref(5, b"i" * 32)),))
# Few contents, two of them with one key: several files share one, and a key alone does not tell.
DIGESTS = (b"", b"d" * 32, b"k" * 8 + b"1" * 24, b"k" * 8 + b"2" * 24, b"\xff" * 32)
NAMES = (*(b"%d" % number for number in range(12)), b"\xff\n'", b"x" * 255)
DIRECTORIES = (b"", b"a", b"a/b", b"a0")


def row(name: bytes, digest: bytes, number: int = 0) -> FileRow:
    return FileRow(name, len(digest), -number, 2, (1 << 64) - 1, digest, 4)


rows_of_files = st.builds(row, st.sampled_from(NAMES), st.sampled_from(DIGESTS), st.integers(0, 3))
change = st.tuples(
    st.sampled_from(["put", "put", "put", "drop", "whole", "listing", "gone"]),
    st.sampled_from(DIRECTORIES),
    st.lists(rows_of_files, max_size=6, unique_by=lambda each: each.name),
)


@given(st.lists(rows_of_files, unique_by=lambda each: each.name))
def test_packed_rows_are_read_back(rows: list[FileRow]) -> None:
    piece = pack([*rows, gone(b"gone")])
    assert sorted(unpack(piece)) == sorted([*rows, gone(b"gone")])
    for digest in DIGESTS:
        assert sorted(Packed.of([piece]).find(digest)) == sorted(
            each for each in rows if each.digest == digest
        )


def test_a_name_in_a_newer_piece_hides_the_older_one() -> None:
    pieces = [
        pack([row(b"f", DIGESTS[1]), row(b"ff", DIGESTS[1]), row(b"g", DIGESTS[1])]),
        pack([row(b"f", DIGESTS[2])]),
        pack([gone(b"g")]),
    ]
    assert [each.name for each in Packed.of(pieces).find(DIGESTS[1])] == [b"ff"]
    assert merge(pieces) == {b"f": row(b"f", DIGESTS[2]), b"ff": row(b"ff", DIGESTS[1]), b"g": gone(b"g")}


def test_a_content_key_is_a_number_that_the_database_can_hold() -> None:
    assert [content_key(digest) for digest in (b"", bytes(7) + b"\1" + bytes(24), b"\xff" * 32)] == [0, 1, -1]


@given(st.lists(change, max_size=40))
@settings(max_examples=100)
def test_any_order_of_writes_leaves_what_was_written_last(
    changes: list[tuple[str, bytes, list[FileRow]]],
) -> None:
    written_last(changes)


@given(st.lists(change, max_size=40))
@settings(max_examples=40)
def test_directories_too_large_for_memory_are_read_as_others(
    changes: list[tuple[str, bytes, list[FileRow]]],
) -> None:
    with (
        patch.object(contents, "WHOLE_MAX", -1),
        patch.object(streamed, "WINDOW_RECORDS", 2),
        patch.object(streamed, "WINDOW_NAMES", 3),
    ):
        written_last(changes)


def written_last(changes: list[tuple[str, bytes, list[FileRow]]]) -> None:
    """Each name has the row that was written last, and each content is found where it is."""
    model: dict[bytes, dict[bytes, FileRow]] = {directory: {} for directory in DIRECTORIES}
    with tempfile.TemporaryDirectory() as folder, State.open(Path(folder)) as state:
        trees = state.trees
        tree = trees.ensure(b"/t", "publish", None)
        for kind, directory, rows in changes:
            if kind == "put":
                trees.put_files(tree.id, directory, rows)
                model[directory].update((each.name, each) for each in rows)
            elif kind == "drop":
                trees.drop_files(tree.id, directory, [each.name for each in rows])
                for each in rows:
                    model[directory].pop(each.name, None)
            elif kind == "whole":
                trees.put_directory(tree.id, directory, LISTED, rows)
                model[directory] = {each.name: each for each in rows}
            elif kind == "listing":
                trees.put_dir(tree.id, directory, LISTED)
            else:
                trees.drop_dir(tree.id, directory)
                for other in DIRECTORIES:
                    if not directory or other == directory or other.startswith(directory + b"/"):
                        model[other] = {}
            for other, known in model.items():
                assert trees.files_in(tree.id, other) == known
            for digest in DIGESTS:
                wanted = {
                    (other, each.name)
                    for other, known in model.items()
                    for each in known.values()
                    if each.digest == digest
                }
                found = trees.find(digest, 100)
                assert {(each.dir, each.name) for each in found} == wanted and len(found) == len(wanted)
                one = trees.find_many([digest])
                assert [(each.dir, each.name) in wanted for each in one.values()] == [True] * bool(wanted)
        trees.drop_dir(tree.id, b"")
        assert trees.is_empty(tree)
        assert state._db.connection.execute("SELECT * FROM contents").fetchall() == []
        assert state._db.connection.execute("SELECT id FROM pieces").fetchall() == []


def test_many_contents_of_a_directory_too_large_for_memory(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "WHOLE_MAX", 10_000)
    monkeypatch.setattr(streamed, "WINDOW_RECORDS", 100)
    tree = state.trees.ensure(b"/t", "publish", b"a" * 32)
    wanted = {bytes([number % 256]) + b"%031d" % number: b"n%d" % number for number in range(3000)}
    state.trees.put_files(tree.id, b"large", [row(name, digest) for digest, name in wanted.items()])
    state.trees.put_files(tree.id, b"small", [row(b"f", b"small".ljust(32))])
    found = state.trees.find_many([*wanted, b"small".ljust(32), b"not here".ljust(32)])
    assert {digest: at.name for digest, at in found.items()} == {**wanted, b"small".ljust(32): b"f"}
    some = list(wanted)[::300]
    there = state.trees.find_many(some, is_there=lambda at: at.name != b"n300")
    assert there.keys() == set(some) - {some[1]}
    assert state.trees.near(some) == []
    assert [at.name for digest in some for at in state.trees.find(digest)] == [wanted[each] for each in some]


@pytest.mark.parametrize("whole_max", [contents.WHOLE_MAX, -1])
@pytest.mark.parametrize("harm", ["names = x'00'", "records = substr(records, 1, length(records) - 7)"])
def test_rows_that_are_damaged_are_told_of_with_the_file(
    state: State, monkeypatch: pytest.MonkeyPatch, whole_max: int, harm: str
) -> None:
    monkeypatch.setattr(contents, "WHOLE_MAX", whole_max)
    tree = state.trees.ensure(b"/t", "publish", b"a" * 32)
    digests = [b"%08d" % number * 4 for number in range(40)]
    state.trees.put_files(tree.id, b"d", [row(b"f" + digest, digest) for digest in digests])
    state._db.connection.execute(f"UPDATE pieces SET {harm}")  # noqa: S608
    for look_up in (state.trees.find_many, state.trees.near, lambda all_of: state.trees.find(all_of[-1])):
        if look_up == state.trees.near and whole_max < 0:
            continue  # it leaves such directories out
        with pytest.raises(FileError, match=r"index\.sqlite is damaged .*: move it"):
            look_up(digests)


def test_a_directory_written_in_many_batches_has_few_pieces(state: State) -> None:
    tree = state.trees.ensure(b"/t", "fetch", None)
    wanted: dict[bytes, FileRow] = {}
    for start in range(0, 3000, 30):
        some = [row(b"%d" % number, b"%032d" % number) for number in range(start, start + 30)]
        wanted.update((each.name, each) for each in some)
        state.trees.put_files(tree.id, b"d", some)
        (pieces,) = state._db.connection.execute("SELECT count(*) FROM pieces").fetchone()
        assert pieces <= 2 * PIECES
    assert state.trees.files_in(tree.id, b"d") == wanted
    found = state.trees.find_many(b"%032d" % number for number in range(-5, 3005))
    assert {place.name for place in found.values()} == wanted.keys()


@pytest.mark.parametrize("asked", [1, 16, 100, 1000])
def test_content_is_found_by_itself_as_among_its_neighbours(state: State, asked: int) -> None:
    tree = state.trees.ensure(b"/t", "publish", b"a" * 32)
    wanted: dict[bytes, FileRow] = {}
    digests: list[bytes] = []
    for directory in range(6):
        rows = {b"%d" % name: row(b"%d" % name, b"%08d" % (directory << 8 | name) * 4) for name in range(100)}
        digests += [each.digest for each in rows.values()]
        state.trees.put_files(tree.id, b"a/%d" % directory, rows.values())
        if directory % 2:  # a second piece: one name has another content now, one is gone
            state.trees.put_files(tree.id, b"a/%d" % directory, [row(b"0", DIGESTS[1])])
            state.trees.drop_files(tree.id, b"a/%d" % directory, [b"1"])
            rows = {name: each for name, each in rows.items() if name not in (b"0", b"1")}
        wanted.update((each.digest, each) for each in rows.values())
    for start in range(0, len(digests), asked):
        some = digests[start : start + asked]
        found = state.trees.find_many([*some, b"not here".ljust(32)])
        assert found == {
            digest: Located(
                tree.id, b"/t", b"a/%d" % (int(digest[:8]) >> 8), *wanted[digest][:5], archive=b"a" * 32
            )
            for digest in some
            if digest in wanted
        }


def test_what_another_process_wrote_is_found_though_the_directory_was_read_before(tmp_path: Path) -> None:
    with State.open(tmp_path) as ours, State.open(tmp_path) as theirs:
        tree = ours.trees.ensure(b"/t", "publish", None)
        ours.trees.put_files(tree.id, b"", [row(b"f", DIGESTS[1])])
        assert [place.name for place in theirs.trees.find(DIGESTS[1])] == [b"f"]
        ours.trees.put_files(tree.id, b"", [row(b"f", DIGESTS[2]), row(b"g", DIGESTS[1])])
        assert [place.name for place in theirs.trees.find(DIGESTS[1])] == [b"g"]
        with pytest.raises(RuntimeError), ours.transaction():
            ours.trees.put_files(tree.id, b"", [row(b"g", DIGESTS[2])])
            assert ours.trees.find(DIGESTS[1]) == []
            raise RuntimeError
        assert [place.name for place in ours.trees.find(DIGESTS[1])] == [b"g"]


def test_directories_that_do_not_all_fit_into_memory_are_found(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "CACHE_BYTES", 2000)
    monkeypatch.setattr(contents, "CACHE_FILES", 8)
    with State.open(state.path) as small:
        tree = small.trees.ensure(b"/t", "publish", None)
        digests = {number: b"%032d" % number for number in range(50)}
        for number, digest in digests.items():
            some = [row(b"f", digest), row(b"x" * 200, DIGESTS[1])]
            small.trees.put_files(tree.id, b"d%d" % number, some)
        large = [row(b"%0100d" % number, DIGESTS[2]) for number in range(20)]
        small.trees.put_files(tree.id, b"large", large)
        for _ in range(2):
            for number, digest in digests.items():
                assert [place.dir for place in small.trees.find(digest)] == [b"d%d" % number]
            assert len(small.trees.find(DIGESTS[2], 100)) == 20
            found = small.trees.find_many([*digests.values(), DIGESTS[2]])
            assert {found[digest].dir for digest in digests.values()} == {b"d%d" % each for each in digests}
            assert found[DIGESTS[2]].dir == b"large"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 12)), max_size=40))
def test_what_is_kept_of_directories_is_bounded_and_what_was_used_last(
    puts: list[tuple[int, int, int]],
) -> None:
    kept = Kept[int](10)
    newest: dict[int, tuple[int, int]] = {}
    for number, version, size in puts:
        before = {each: kept.get(each, known) for each, (known, _) in newest.items()}
        kept.put(number, version, size, size)
        if size > 10:  # pushes nothing out
            assert all(kept.get(each, newest[each][0]) == value for each, value in before.items())
            continue
        newest[number] = version, size
        assert kept.get(number, version) == size
        assert kept.get(number, version + 1) is None
        assert sum(kept.get(each, known) or 0 for each, (known, _) in newest.items()) <= 10


def test_files_of_a_directory_that_has_many_of_what_is_wanted(state: State) -> None:
    tree = state.trees.ensure(b"/t", "publish", b"a" * 32)
    digests = [b"%08d" % number * 4 for number in range(200)]
    rows = [row(b"n%d" % number, digest) for number, digest in enumerate(digests)]
    state.trees.put_files(tree.id, b"d/e", [*rows, row(b"empty", b"")._replace(size=0)])
    state.trees.put_files(tree.id, b"other", [row(b"f", DIGESTS[1])])
    for _ in range(2):  # as it is read, and as it is kept
        (near,) = state.trees.near(digests[:150])
        assert (near.tree_path, near.dir, near.archive) == (b"/t", b"d/e", b"a" * 32)
        assert near.files == {each.digest: (each.name, each[1:5]) for each in rows}
        assert all(state.trees.find_many([digest]) == {digest: near.located(digest)} for digest in digests)
    state.trees.drop_files(tree.id, b"d/e", [b"n0"])
    (near,) = state.trees.near(digests[:150])
    assert near.files.keys() == set(digests[1:])
    tree = state.trees.ensure(b"/t", "fetch", b"a" * 32)
    assert state.trees.near(digests[:150], public=True) == []
    assert state.trees.near([]) == []


def test_only_what_was_published_or_mirrored_is_found_for_others(state: State) -> None:
    fetched = state.trees.ensure(b"/f", "fetch", None)
    mirror = state.trees.ensure(b"/m", "mirror", b"m" * 32)
    for tree in (fetched, mirror):
        state.trees.put_files(tree.id, b"d", [row(b"f", DIGESTS[1])])
    state.trees.put_files(fetched.id, b"d", [row(b"g", DIGESTS[2])])
    assert {place.tree_path for place in state.trees.find(DIGESTS[1])} == {b"/f", b"/m"}
    (place,) = state.trees.find(DIGESTS[1], public=True)
    assert (place.tree_path, place.dir, place.archive) == (b"/m", b"d", b"m" * 32)
    assert state.trees.find_many(DIGESTS, public=True) == {DIGESTS[1]: place}


def test_content_is_found_although_others_have_the_same_key_in_many_directories(state: State) -> None:
    """Half a digest as long as that can be searched for by whoever publishes."""
    tree = state.trees.ensure(b"/t", "publish", None)
    wanted = b"same key" + b"wanted".ljust(24)
    for number in range(20):
        other = b"same key" + b"%024d" % number
        state.trees.put_files(tree.id, b"d%02d" % number, [row(b"f", other), row(b"g", DIGESTS[1])])
    state.trees.put_files(tree.id, b"last", [row(b"f", wanted)])
    assert state.trees.find_many([wanted])[wanted].dir == b"last"
    assert state.trees.find_many([wanted], public=True)[wanted].dir == b"last"


@pytest.mark.parametrize("asked", [1, 100])
def test_of_several_places_one_is_found_that_whoever_asks_accepts(state: State, asked: int) -> None:
    trees = [state.trees.ensure(b"/t%d" % number, "fetch", None) for number in range(3)]
    digests = [b"%08d" % number * 4 for number in range(100)]
    for tree in trees:
        state.trees.put_files(tree.id, b"d", [row(b"%d" % n, digest) for n, digest in enumerate(digests)])

    def found(*refused: bytes, without: Collection[int] = ()) -> set[bytes]:
        places = state.trees.find_many(
            digests[:asked], is_there=lambda place: place.tree_path not in refused, without=without
        )
        assert len(places) in (0, asked)
        return {place.tree_path for place in places.values()}

    assert found(b"/t0", b"/t1") == {b"/t2"}
    assert found(b"/t0", without=[trees[2].id]) == {b"/t1"}
    assert found(without=[trees[0].id, trees[2].id]) == {b"/t1"}
    assert found(b"/t0", b"/t1", b"/t2") == set()
    assert found(without=[tree.id for tree in trees]) == set()


def test_directories_come_in_order_with_what_is_in_them(state: State) -> None:
    tree = state.trees.ensure(b"/t", "publish", None)
    paths = [b"", b"a", b"b", b"a/c", b"a/c/d", *(b"b/%04d" % number for number in range(2100))]
    with state.transaction():
        for path in reversed(paths):
            state.trees.put_dir(tree.id, path, LISTED._replace(ino=len(path)))
        state.trees.put_files(tree.id, b"without/listing", [row(b"f", DIGESTS[1])])
    found = dict(state.trees.directories(tree.id))
    assert found == {path: LISTED._replace(ino=len(path)) for path in paths}
    seen: set[bytes] = set()
    for path in found:
        assert not path or path.rpartition(b"/")[0] in seen
        seen.add(path)

"""Opening published files, and answering for ranges of them: the parts that touch no network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from struct import Struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.help.descriptors import open_below

from p2psync.chunking import cut_object
from p2psync.content.pages import parse_target
from p2psync.content.partial import PartialObjects, Place
from p2psync.content.ranges import Selection, http_date, select
from p2psync.format.recipe import Recipe
from p2psync.format.url import archive_text
from p2psync.tree.opener import FileContent, Folder, Opener, Stamp, is_plain

TAG = '"abc"'
LENGTH = Struct(">I")


@pytest.fixture
def opener() -> Iterator[Opener]:
    made = Opener(cached=2)
    yield made
    made.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "tree" / "a" / "b").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "b" / "file").write_bytes(b"published")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"published")
    return tmp_path / "tree"


def stamp(path: Path) -> Stamp:
    return Stamp.of(path.lstat())


def read_row(folder: Folder, name: bytes, wanted: Stamp) -> bytes | None:
    """What is had of a file as a row of a batch."""
    room = bytearray(LENGTH.size + wanted.size)
    rows = [(b"digest", 0, wanted.size)]
    end = folder.read_rows({b"digest": (name, wanted)}, rows, 0, memoryview(room), 0, LENGTH)
    if end == (0, 0):
        return None
    assert end == (1, len(room))
    assert LENGTH.unpack_from(room) == (wanted.size,)
    return bytes(room[LENGTH.size :])


def read(opener: Opener, root: Path, directory: bytes, name: bytes, wanted: Stamp) -> bytes | None:
    """What is had of a file, which is the same in both ways: opened, and read as a row of a batch."""
    content = opener.open(os.fsencode(root), directory, name, wanted)
    buffer = bytearray(wanted.size)
    if (folder := opener.pin(os.fsencode(root), directory)) is not None:
        assert (read_row(folder, name, wanted) is not None) == (content is not None)
        opener.unpin(folder)
    if content is None:
        return None
    try:
        assert content.read_into(0, memoryview(buffer))
        return bytes(buffer)
    finally:
        content.close()


def test_a_published_file_is_opened(opener: Opener, root: Path) -> None:
    wanted = stamp(root / "a/b/file")
    for _ in range(2):
        assert read(opener, root, b"a/b", b"file", wanted) == b"published"


def test_names_that_lead_elsewhere_are_refused(opener: Opener, root: Path) -> None:
    wanted = stamp(root / "a/b/file")
    for directory, name in [
        (b"a/b/..", b"file"),
        (b"a/b", b"../b/file"),
        (b"a//b", b"file"),
        (b"a/b/.", b"file"),
        (b"", b".."),
        (b"a/b", b""),
        (b"a/b", b"file\0"),
    ]:
        assert opener.open(os.fsencode(root), directory, name, wanted) is None
    folder = opener.pin(os.fsencode(root), b"a/b")
    assert folder is not None
    for name in (b"../b/file", b"/" + os.fsencode(root) + b"/a/b/file", b"..", b".", b""):
        assert read_row(folder, name, wanted) is None
    opener.unpin(folder)


def test_a_link_swapped_in_is_not_followed(opener: Opener, root: Path, tmp_path: Path) -> None:
    outside = stamp(tmp_path / "outside/file")
    (root / "a/b/link").symlink_to(tmp_path / "outside/file")
    (root / "a/out").symlink_to(tmp_path / "outside")
    assert read(opener, root, b"a/b", b"link", outside) is None
    assert read(opener, root, b"a/out", b"file", outside) is None


def test_a_directory_swapped_for_a_link_is_not_followed(opener: Opener, root: Path, tmp_path: Path) -> None:
    outside = stamp(tmp_path / "outside/file")
    (root / "a/b").rename(root / "a/old")
    (root / "a/b").symlink_to(tmp_path / "outside")
    assert read(opener, root, b"a/b", b"file", outside) is None


def test_a_directory_that_was_replaced_is_found_again(opener: Opener, root: Path) -> None:
    assert read(opener, root, b"a/b", b"file", stamp(root / "a/b/file")) == b"published"
    (root / "a/b").rename(root / "a/old")
    (root / "a/b").mkdir()
    (root / "a/b/file").write_bytes(b"newer one")
    assert read(opener, root, b"a/b", b"file", stamp(root / "a/b/file")) == b"newer one"


@pytest.mark.parametrize("change", ["content", "mtime", "replaced", "removed", "fifo"])
def test_a_file_that_changed_is_not_here(opener: Opener, root: Path, change: str) -> None:
    path = root / "a/b/file"
    wanted = stamp(path)
    if change == "content":
        path.write_bytes(b"publisheD")
        os.utime(path, ns=(0, wanted.mtime_ns))
    elif change == "mtime":
        os.utime(path)
    elif change == "replaced":
        (root / "new").write_bytes(b"published")
        os.utime(root / "new", ns=(0, wanted.mtime_ns))
        (root / "new").rename(path)
    else:
        path.unlink()
        if change == "fifo":
            os.mkfifo(path)
    assert read(opener, root, b"a/b", b"file", wanted) is None


def test_a_change_while_the_file_is_open_is_noticed(opener: Opener, root: Path) -> None:
    path = root / "a/b/file"
    content = opener.open(os.fsencode(root), b"a/b", b"file", stamp(path))
    assert content is not None
    path.write_bytes(b"PUBLISHED")
    os.utime(path, ns=(0, 0))
    assert not content.unchanged()
    assert not content.read_into(0, memoryview(bytearray(9)))
    content.close()


def test_more_directories_than_are_kept_open(opener: Opener, root: Path) -> None:
    before = len(open_below(root))
    for index in range(20):
        (root / str(index)).mkdir()
        (root / str(index) / "f").write_bytes(b"%d" % index)
        assert read(opener, root, b"%d" % index, b"f", stamp(root / f"{index}/f")) == b"%d" % index
    assert len(open_below(root)) <= before + 2


def test_a_directory_that_is_in_use_stays_open_when_it_leaves_the_cache(root: Path) -> None:
    opener = Opener(cached=1)
    before = len(os.listdir("/proc/self/fd"))
    folder = opener.pin(os.fsencode(root), b"a/b")
    assert folder is not None
    other = opener.pin(os.fsencode(root), b"a")
    assert other is not None
    assert read_row(folder, b"file", stamp(root / "a/b/file")) == b"published"
    opener.close()
    opener.unpin(folder)
    opener.unpin(other)
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_not_there_is_not_read(root: Path) -> None:
    content = FileContent(os.open(root / "a/b/file", os.O_RDONLY), 9, None)
    buffer = bytearray(5)
    assert content.read_into(4, memoryview(buffer))
    assert buffer == b"ished"
    assert not content.read_into(5, memoryview(buffer))
    content.close()


def at(path: Path) -> Place:
    return Place(bytes(path.parent), b"", path.name.encode())


def nothing(recipe: Recipe) -> bytearray:
    """The bitmap of an object of which nothing is there."""
    return bytearray((len(recipe) + 7) // 8)


def test_a_partial_object_covers_the_chunks_it_has(tmp_path: Path) -> None:
    data = os.urandom(200_000)
    ref, recipe = cut_object(data)
    path = tmp_path / "part"
    path.write_bytes(data)
    bitmap = bytearray((len(recipe) + 7) // 8)
    registry = PartialObjects()
    registry.register(ref.digest, at(path), recipe, bitmap, path.stat().st_ino)
    assert registry.have(ref.digest) is False
    bitmap[0] = 0b01100000
    content = registry.open(ref.digest)
    assert content is not None
    offsets = recipe.offsets
    assert content.covers(offsets[1], offsets[3] - offsets[1])
    assert not content.covers(offsets[1] - 1, 2)
    assert not content.covers(offsets[2], offsets[3] - offsets[2] + 1)
    assert not content.covers(0, 1)
    content.close()
    path.unlink()
    assert registry.open(ref.digest) is None


def test_a_complete_object_is_offered_from_its_place_until_it_is_dropped(tmp_path: Path) -> None:
    data = os.urandom(200_000)
    ref, recipe = cut_object(data)
    part, place = tmp_path / "part", tmp_path / "place"
    part.write_bytes(data)
    registry = PartialObjects()
    registry.complete(ref.digest, at(part), Stamp.of(part.stat()))  # never registered
    assert registry.open(ref.digest) is None
    registry.register(ref.digest, at(part), recipe, nothing(recipe), part.stat().st_ino)
    before = registry.open(ref.digest)
    assert before is not None
    part.rename(place)
    registry.complete(ref.digest, at(place), Stamp.of(place.stat()))
    content = registry.open(ref.digest)
    assert content is not None
    into = bytearray(len(data))
    assert content.read_into(0, memoryview(into))
    assert into == data
    assert not before.covers(0, 1), "who opened it before has what was there before"
    assert (registry.have(ref.digest), registry.recipe(ref.digest)) == (True, recipe.encode())
    registry.drop(ref.digest)
    assert (registry.have(ref.digest), registry.recipe(ref.digest)) == (False, None)
    assert content.read_into(5, memoryview(into)[:5]), "who is being sent it gets the rest"
    for each in (before, content):
        each.close()


@pytest.mark.parametrize("what", ["link", "directory", "shorter"])
def test_what_is_not_the_whole_file_is_not_offered_as_complete(tmp_path: Path, what: str) -> None:
    data = os.urandom(100_000)
    ref, recipe = cut_object(data)
    part, place = tmp_path / "part", tmp_path / "place"
    part.write_bytes(data)
    if what == "link":
        place.symlink_to(part)
    elif what == "directory":
        place.mkdir()
    else:
        place.write_bytes(data[:-1])
    registry = PartialObjects()
    registry.register(ref.digest, at(part), recipe, nothing(recipe), part.stat().st_ino)
    registry.complete(ref.digest, at(place), Stamp.of(part.stat()))
    assert registry.open(ref.digest) is None


def test_a_complete_object_that_changes_is_not_offered(tmp_path: Path) -> None:
    data = os.urandom(100_000)
    ref, recipe = cut_object(data)
    path = tmp_path / "done"
    path.write_bytes(data)
    registry = PartialObjects()
    registry.register(ref.digest, at(path), recipe, nothing(recipe), path.stat().st_ino)
    registry.complete(ref.digest, at(path), Stamp.of(path.stat()))
    content = registry.open(ref.digest)
    assert content is not None
    content.close()
    path.write_bytes(data[::-1])
    os.utime(path, ns=(0, 0))
    assert registry.open(ref.digest) is None


@pytest.mark.parametrize("kind", ["file", "link", "pipe", "folder"])
def test_what_others_put_in_the_place_of_an_unfinished_file_is_not_offered(tmp_path: Path, kind: str) -> None:
    data = os.urandom(100_000)
    ref, recipe = cut_object(data)
    part, secret = tmp_path / "partial" / "part", tmp_path / "elsewhere" / "part"
    for each in (part, secret):
        each.parent.mkdir()
        each.write_bytes(data)
    registry = PartialObjects()
    place = Place(bytes(tmp_path), b"partial", b"part")
    full = bytearray(b"\xff" * len(nothing(recipe)))
    registry.register(ref.digest, place, recipe, full, part.stat().st_ino)
    part.rename(tmp_path / "moved")
    if kind == "file":
        part.write_bytes(data)
    elif kind == "link":
        part.symlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(part)
    else:
        part.parent.rmdir()
        part.parent.symlink_to(secret.parent)
    assert registry.open(ref.digest) is None


@pytest.mark.parametrize(
    ("header", "selected"),
    [
        (None, Selection(200, 0, 10)),
        ("bytes=0-0", Selection(206, 0, 1)),
        ("bytes=3-", Selection(206, 3, 7)),
        ("bytes=3-99", Selection(206, 3, 7)),
        ("bytes=-4", Selection(206, 6, 4)),
        ("bytes=-40", Selection(206, 0, 10)),
        ("bytes=-0", Selection(416)),
        ("bytes=10-", Selection(416)),
        ("bytes=10-12", Selection(416)),
        ("bytes=5-3", Selection(200, 0, 10)),
        ("bytes=0-1,4-5", Selection(200, 0, 10)),
        ("items=0-1", Selection(200, 0, 10)),
        ("bytes=a-b", Selection(200, 0, 10)),
        ("bytes=", Selection(200, 0, 10)),
        ("bytes=-", Selection(200, 0, 10)),
        ("bytes=" + "9" * 100 + "-", Selection(200, 0, 10)),
    ],
)
def test_ranges(header: str | None, selected: Selection) -> None:
    assert select(10, TAG, None, range_=header) == selected


def test_nothing_of_an_empty_file_can_be_asked_for() -> None:
    assert select(0, TAG, None) == Selection(200, 0, 0)
    assert select(0, TAG, None, range_="bytes=0-") == Selection(416)


def test_conditions() -> None:
    date, later = http_date(1000), http_date(2000)
    assert select(10, TAG, 1000, if_none_match=TAG).status == 304
    assert select(10, TAG, 1000, if_none_match=f'"x", W/{TAG}').status == 304
    assert select(10, TAG, 1000, if_none_match="*").status == 304
    assert select(10, TAG, 1000, if_none_match='"x"', if_modified_since=later).status == 200
    assert select(10, TAG, 1000, if_modified_since=date).status == 304
    assert select(10, TAG, 1001, if_modified_since=date).status == 200
    assert select(10, TAG, 1001, if_modified_since="yesterday").status == 200
    for good in (TAG, date):
        assert select(10, TAG, 1000, range_="bytes=1-2", if_range=good).status == 206
    for bad in ('"x"', f"W/{TAG}", later, "rubbish"):
        assert select(10, TAG, 1000, range_="bytes=1-2", if_range=bad).status == 200


@given(st.integers(0, 100), st.text(max_size=30), st.text(max_size=20))
def test_any_header_selects_something_within(size: int, header: str, other: str) -> None:
    for text in (header, "bytes=" + header):
        chosen = select(
            size, TAG, 5, range_=text, if_range=other, if_none_match=None, if_modified_since=other
        )
        assert 0 <= chosen.first <= chosen.first + chosen.length <= size


@given(st.lists(st.binary(min_size=1, max_size=6).filter(is_plain), max_size=5))
def test_links_of_any_names_come_back(parts: list[bytes]) -> None:
    archive = b"\x05" * 32
    target = "/" + "/".join(
        [archive_text(archive), *("".join(f"%{byte:02X}" for byte in part) for part in parts)]
    )
    assert parse_target(target) == (archive, parts, False)

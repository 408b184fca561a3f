"""Small archives that mean a lot: refused before anything is written, or followed with what they need."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.node.fetch_world import SIZE, World, changed, world
from tests.node.simulator import MTIME, Publisher, content
from tests.node.wire_support import says, scripted

from p2psync.errors import FileError, FormatError, SelectionError
from p2psync.fetch import room as module
from p2psync.fetch.options import FetchOptions
from p2psync.fetch.recorded import from_record, to_record
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry, Totals, dir_entry, encode_listing, file_entry
from p2psync.format.recipe import recipe_bytes_max
from p2psync.format.snapshot import Snapshot
from p2psync.format.url import ArchiveUrl
from p2psync.sources.node import PeerSource
from p2psync.supply.manifest import Manifest
from p2psync.tree.room import Room, room_at

__all__ = ["world"]
NAMES = 103 + 2 + 1
"""Of the tree: files, directories, a link."""


def publish_root(publisher: Publisher, entries: bytes, totals: Totals) -> None:
    root = dir_entry(b"", 0o755, MTIME, publisher.put(entries), totals)
    publisher.sign(publisher.put(Snapshot(root, publisher.now * 10**9, ()).encode()))


def publish_many_directories(publisher: Publisher, files: int, breadth: int, depth: int) -> Totals:
    """A directory of small files, named again and again, in directories that are as well."""
    ref = publisher.put(b"x")
    raw = encode_listing([file_entry(b"%05d" % at, 0o644, MTIME, ref) for at in range(files)])
    totals = Totals(files, 0, 0, files)
    for _ in range(depth):
        inner = publisher.put(raw)
        raw = encode_listing([dir_entry(b"%05d" % at, 0o755, MTIME, inner, totals) for at in range(breadth)])
        totals = Totals(totals.files * breadth, (totals.dirs + 1) * breadth, 0, totals.bytes * breadth)
    publish_root(publisher, raw, totals)
    return totals


def with_room(monkeypatch: pytest.MonkeyPatch, size: int = 1 << 40, names: int | None = 1 << 30) -> None:
    monkeypatch.setattr(module, "room_at", lambda _: Room(size, names))


def nothing_was_changed(world: World) -> bool:
    return not os.path.lexists(world.dest)


def test_content_that_is_wanted_more_often_than_the_disk_can_hold_is_not_begun(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_room(monkeypatch, 50_000_000)
    big = content("again", 400_000)
    world.publisher.publish({b"%03d" % at: big for at in range(200)})
    with pytest.raises(FileError, match=r"80,000,000\b.*50,000,000\b.*--no-check-space"):
        world.fetch()
    assert nothing_was_changed(world)


def test_directories_that_mean_more_files_than_the_disk_can_hold_are_not_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty million files and more, of some listings of a few kilobytes."""
    with_room(monkeypatch, names=1_000_000)
    totals = publish_many_directories(world.publisher, 200, 50, 3)
    assert totals.files == 25_000_000
    with pytest.raises(FileError, match=r"25,127,550 .*1,000,000\b"):
        world.fetch()
    assert nothing_was_changed(world)
    assert sum(source.received for source in world.sources.values()) < 10_000


def test_a_listing_is_read_a_few_times_however_often_it_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten million files in ten thousand directories of two listings took 70 seconds to plan."""
    read = 0
    listing = Manifest.listing

    def count(self: Manifest, ref: Ref) -> list[Entry]:
        nonlocal read
        read += 1
        return listing(self, ref)

    monkeypatch.setattr(Manifest, "listing", count)
    with_room(monkeypatch, names=1000)
    totals = publish_many_directories(world.publisher, 10, 30, 2)
    world.dest.mkdir()
    with pytest.raises(FileError, match=f"{totals.files + totals.dirs:,}"):
        world.fetch()
    assert read <= 7 < totals.dirs


def test_a_directory_that_lies_about_what_is_below_is_refused_though_its_listing_is_known(
    world: World,
) -> None:
    inner = world.publisher.put(encode_listing([file_entry(b"f", 0o644, MTIME, world.publisher.put(b"x"))]))
    below = [Totals(1, 0, 0, 1)] * 9 + [Totals(1, 0, 0, 5)]
    entries = [dir_entry(b"%d" % at, 0o755, MTIME, inner, each) for at, each in enumerate(below)]
    publish_root(world.publisher, encode_listing(entries), Totals(10, 10, 0, 14))
    with pytest.raises(FormatError, match="does not hold as much as its entry says"):
        world.fetch()
    assert nothing_was_changed(world)


def test_files_that_are_named_again_and_again_are_all_made(world: World) -> None:
    publish_many_directories(world.publisher, 20, 5, 2)
    summary = world.fetch()
    assert (summary.files, summary.changed) == (500, 500)
    assert world.differs() == []


def test_who_says_so_begins_all_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with_room(monkeypatch, 10, 1)
    world.fetch(check_space=False)
    assert world.differs() == []


def test_what_is_there_takes_no_room_once_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fetch()
    with_room(monkeypatch, 2_000, 1)
    world.publisher.publish(changed(new=b"x" * 1000))
    world.fetch()
    assert world.differs() == []
    world.publisher.publish(changed(new=b"x" * 1000, another=b"y" * 3000))
    with pytest.raises(FileError, match=r"3,000\b.*2,000\b"):
        world.fetch()
    world.publisher.publish(changed(new=b"x" * 1000, one=b"1", two=b"2"))
    with pytest.raises(FileError, match=r"2 files.*room for 1\b"):
        world.fetch()


def test_a_file_that_is_replaced_makes_room_for_the_new_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fetch()
    with_room(monkeypatch, 10_000, 0)
    world.publisher.publish(changed(big=content("another", 400_000)))
    world.fetch()
    assert world.differs() == []


def test_what_is_unfinished_counts_as_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fetch()
    folder = world.dest / ".p2psync.partial"
    folder.mkdir()
    (folder / "some").write_bytes(content("some", 50_000))
    with_room(monkeypatch, 20_000)
    world.publisher.publish(changed(new=content("new", 60_000)))
    world.fetch()
    assert world.differs() == []


def test_what_has_no_count_of_inodes_has_room_for_any_number(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_room(monkeypatch, names=None)
    world.fetch()
    assert world.differs() == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_total": SIZE - 1}, rf"{SIZE:,} bytes.*--max-total"),
        ({"max_files": NAMES - 1}, rf"{NAMES} names.*--max-files"),
    ],
)
def test_more_than_the_user_wants_to_have_is_not_begun(
    world: World, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(SelectionError, match=told):
        world.fetch(**options)
    assert nothing_was_changed(world)
    world.fetch(**{key: value + 1 for key, value in options.items()})
    assert world.differs() == []


def test_an_archive_that_has_grown_beyond_what_is_wanted_changes_nothing(world: World) -> None:
    world.fetch(max_files=NAMES)
    world.publisher.publish(changed(one=b"1"))
    with pytest.raises(SelectionError):
        world.fetch(max_files=NAMES)
    assert not (world.dest / "one").exists()


def test_the_limits_are_those_of_the_part_that_is_asked_for(world: World) -> None:
    assert world.fetch(path=b"notes/", max_files=2, max_total=6).files == 2
    with pytest.raises(SelectionError, match="400,000"):
        world.fetch(world.folder / "other", path=b"big", max_total=100)


def test_a_mirror_keeps_to_its_limits_when_a_node_updates_it() -> None:
    url = ArchiveUrl(bytes(32))
    asked = FetchOptions(url, b"/d", max_total=1 << 40, max_files=7, check_space=False)
    again = from_record(b"/d", str(url), to_record(asked))
    assert (again.max_total, again.max_files, again.check_space) == (1 << 40, 7, False)


def test_a_listing_that_is_longer_than_its_names_can_be_is_not_asked_for(world: World) -> None:
    long = Ref(200 << 20, b"\x01" * 32)
    inside = dir_entry(b"inner", 0o755, MTIME, long, Totals(1, 0, 0, 1))
    publish_root(world.publisher, encode_listing([inside]), Totals(1, 1, 0, 1))
    with pytest.raises(FormatError, match="209715200 bytes for 1 names"):
        world.fetch()
    assert all(long.digest not in source.asked for source in world.sources.values())


async def test_a_recipe_that_is_longer_than_its_object_needs_is_not_received() -> None:
    """36 MiB for a file of 100 KB."""
    ref = Ref(100_000, b"\x01" * 32)
    claimed = b"HTTP/1.1 200 x\r\nContent-Length: %d\r\n\r\n" % (36 << 20)
    for path in ("single", "batch"):
        async with scripted(says(claimed + bytes(recipe_bytes_max(ref.size) + 5))) as server:
            peer = PeerSource(server.address)
            async with asyncio.timeout(20):
                with pytest.raises(FormatError):
                    await (peer.recipe(ref) if path == "single" else peer.recipes([ref]))
            assert peer.received < 64 << 10
            await peer.close()


def test_room_is_that_of_the_disk_on_which_a_directory_is_going_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = os.statvfs

    def statvfs(path: str | bytes) -> os.statvfs_result:
        asked.append(os.fsdecode(path))
        return real(path)

    monkeypatch.setattr(os, "statvfs", statvfs)
    found = room_at(bytes(tmp_path / "not" / "there"))
    assert asked == [str(tmp_path)]
    assert found.bytes > 0

    def refused(_: object) -> os.statvfs_result:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(os, "statvfs", refused)
    assert room_at(bytes(tmp_path)) == Room(sys.maxsize, None)

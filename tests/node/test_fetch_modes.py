"""Modes: permissions as published; setuid, setgid and sticky bits only for those who ask for them."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from tests.node.fetch_world import World
from tests.node.simulator import MTIME, Publisher, content

from p2psync.events import SILENT
from p2psync.fetch import put
from p2psync.fetch.expected import expect
from p2psync.fetch.recorded import from_record
from p2psync.fetch.verify import Difference, Verification
from p2psync.format.listing import Entry, add_totals, dir_entry, encode_listing, file_entry
from p2psync.format.snapshot import Snapshot

MODES = {
    "": 0o2755,
    "large": 0o6755,
    "shared": 0o3777,
    "shared/plain": 0o640,
    "shared/tool": 0o4755,
    "small": 0o2711,
}
WITHOUT = {path: mode & 0o777 for path, mode in MODES.items()}


def publish(publisher: Publisher, modes: dict[str, int] = MODES) -> None:
    """An archive with these modes."""

    def file(path: str, size: int) -> Entry:
        name = os.path.basename(path).encode()
        return file_entry(name, modes[path], MTIME, publisher.put(content(path, size)))

    inner = [file("shared/plain", 10), file("shared/tool", 100)]
    shared = publisher.put(encode_listing(inner))
    totals = add_totals(entry.below for entry in inner)
    entries = [
        file("large", 300_000),
        dir_entry(b"shared", modes["shared"], MTIME, shared, totals),
        file("small", 1000),
    ]
    totals = add_totals(entry.below for entry in entries)
    root = dir_entry(b"", modes[""], MTIME, publisher.put(encode_listing(entries)), totals)
    publisher.sign(publisher.put(Snapshot(root, publisher.now * 10**9).encode()))


@pytest.fixture(autouse=True)
def archive(world: World) -> None:
    publish(world.publisher)


def modes_in(folder: Path) -> dict[str, int]:
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*")} | {"": folder}
    return {name: stat.S_IMODE(path.lstat().st_mode) for name, path in found.items()}


def wrong_modes(world: World) -> list[bytes]:
    found = Verification(world.state, expect(world.state, world.dest), tell=SILENT).run()
    return [finding.path for finding in found if finding.difference is Difference.MODE]


def test_a_strangers_setuid_program_runs_as_nobody_else(world: World) -> None:
    world.fetch()
    assert modes_in(world.dest) == WITHOUT
    assert wrong_modes(world) == []


def test_who_asks_for_it_gets_all_bits_as_with_rsync(world: World, tmp_path: Path) -> None:
    world.fetch(special_bits=True)
    assert modes_in(world.dest) == MODES
    assert wrong_modes(world) == []
    subprocess.run(["rsync", "-a", f"{world.dest}/", tmp_path / "copy"], check=True)
    assert modes_in(tmp_path / "copy") == MODES


@pytest.mark.parametrize("special_bits", [False, True])
def test_what_has_its_modes_is_not_touched_again(world: World, special_bits: bool) -> None:
    for _ in range(2):
        summary = world.fetch(special_bits=special_bits)
    assert (summary.changed, summary.touched) == (0, 0)
    before = (world.dest / "shared" / "tool").stat().st_ctime_ns
    world.fetch(special_bits=special_bits)
    assert (world.dest / "shared" / "tool").stat().st_ctime_ns == before


@pytest.mark.parametrize("check_dest", [False, True])
def test_another_wish_is_followed_where_nothing_else_has_changed(world: World, check_dest: bool) -> None:
    for wish, modes in ((False, WITHOUT), (True, MODES), (True, MODES), (False, WITHOUT)):
        summary = world.fetch(special_bits=wish, check_dest=check_dest)
        assert modes_in(world.dest) == modes
        assert wrong_modes(world) == []
    assert summary.changed == 0


def test_after_a_change_that_did_not_come_to_its_end_all_modes_are_looked_at(world: World) -> None:
    world.fetch()
    tree = world.state.trees.get(os.path.realpath(bytes(world.dest)))
    assert tree is not None
    put.note_begun(tree, world.publisher.head, b"", special_bits=True)
    world.state.trees.update(tree)
    (world.dest / "shared" / "tool").chmod(0o4755)
    world.fetch()
    assert modes_in(world.dest) == WITHOUT


def test_bits_that_stood_there_before_are_taken_away_as_rsync_does(world: World, tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.mkdir()
    (source / "tool").write_bytes(b"x")
    (source / "tool").chmod(0o755)
    subprocess.run(["rsync", "-a", f"{source}/", copy], check=True)
    (copy / "tool").chmod(0o4755)
    subprocess.run(["rsync", "-a", f"{source}/", copy], check=True)
    assert modes_in(copy)["tool"] == 0o755
    world.fetch()
    (world.dest / "shared" / "tool").chmod(0o4755)
    assert wrong_modes(world) == [b"shared/tool"]
    world.fetch()
    assert modes_in(world.dest) == WITHOUT


@pytest.mark.parametrize(("special_bits", "mode"), [(False, 0o755), (True, 0o4755)])
def test_a_single_file(world: World, special_bits: bool, mode: int) -> None:
    world.dest.mkdir()
    world.fetch(path=b"shared/tool", special_bits=special_bits)
    assert stat.S_IMODE((world.dest / "tool").stat().st_mode) == mode
    found = expect(world.state, world.dest / "tool")
    assert not list(Verification(world.state, found, tell=SILENT).run())


def test_a_part_of_an_archive(world: World) -> None:
    world.fetch(path=b"shared/")
    assert modes_in(world.dest) == {"": 0o777, "plain": 0o640, "tool": 0o755}


def test_new_modes_of_the_same_content(world: World) -> None:
    world.fetch()
    publish(world.publisher, MODES | {"shared/tool": 0o4750, "large": 0o6755})
    summary = world.fetch()
    assert modes_in(world.dest) == WITHOUT | {"shared/tool": 0o750}
    assert summary.changed == 0


def test_a_mirror_remembers_what_it_was_told(world: World) -> None:
    world.fetch(mirror=True, special_bits=True)
    tree = world.state.trees.get(os.path.realpath(bytes(world.dest)))
    assert tree is not None
    assert from_record(tree.path, tree.source, tree.options).special_bits

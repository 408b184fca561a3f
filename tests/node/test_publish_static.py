"""Static publishing: a folder of files from which a reader has all but the files' own bytes, whole at every
moment.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from tests.node.publishing import NOW, OLD, write

from p2psync.chunking import cut_object
from p2psync.errors import FileError, UsageError
from p2psync.events import SILENT
from p2psync.fetch.verified import verify
from p2psync.format import pack
from p2psync.format.head import decode_head
from p2psync.format.ids import Ref
from p2psync.format.listing import Kind, decode_listing
from p2psync.format.recipe import Recipe
from p2psync.format.snapshot import Snapshot
from p2psync.publish import Published, publish, static
from p2psync.publish.ending import unpublish
from p2psync.state import State
from p2psync.tree.static_folder import StaticFolder

LARGE = random.Random(3).randbytes(300_000)


class Reader:
    """Reads a folder as somebody who has nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.head = decode_head((folder / "head").read_bytes())
        self.packs = self.names_of(self.head.snapshot.digest)

    def names_of(self, snapshot: bytes) -> list[bytes]:
        raw = (self.folder / pack.pack_path(snapshot)).read_bytes()
        return [snapshot, *pack.decode_header(raw).packs]

    def get(self, digest: bytes, *, recipe: bool = False) -> bytes:
        for name in self.packs:
            raw = (self.folder / pack.pack_path(name)).read_bytes()
            header = pack.decode_header(raw)
            index = pack.Index(header)
            index.add(raw[header.begin : header.data])
            assert index.size == len(raw)
            for row in index.rows_of(digest, recipe=recipe):
                begin, length = index.place(row)
                return raw[begin : begin + length]
        raise AssertionError(f"no pack has {digest.hex()}")

    def paths(self) -> dict[bytes, Ref]:
        """All files, by path; every object and recipe on the way is checked."""
        found: dict[bytes, Ref] = {}
        root = Snapshot.decode(self.get(self.head.snapshot.digest)).root
        waiting = [(b"", root)]
        while waiting:
            path, directory = waiting.pop()
            raw = self.get(directory.digest)
            ref, recipe = cut_object(raw)
            assert ref == directory.ref
            if not ref.is_single:
                assert self.get(ref.digest, recipe=True) == recipe.encode()
            for entry in decode_listing(raw):
                below = path + b"/" + entry.name
                if entry.kind is Kind.DIR:
                    waiting.append((below, entry))
                elif entry.kind is Kind.FILE:
                    found[below.lstrip(b"/")] = entry.ref
                    if entry.size > 65536:
                        Recipe.decode(self.get(entry.digest, recipe=True), entry.ref)
        return found


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def fill(tree: Path) -> None:
    for number in range(30):
        write(tree / f"d{number % 5}" / "inner" / f"{number}", b"%d" % number)
    write(tree / "large", LARGE)


def again(state: State, tree: Path, number: int, **options: bool | bytes) -> Published:
    """Change something, and publish it."""
    write(tree / "changing", b"%d" % number, OLD + number)
    return publish(state, tree, now=NOW + number, **options)  # type: ignore[arg-type]


def test_a_reader_of_the_files_finds_all_that_is_in_the_archive(state: State, tree: Path) -> None:
    fill(tree)
    for number in range(2000):  # A listing of several chunks has a recipe too.
        write(tree / "many" / f"a rather long name of a file {number}", b"")
    done = publish(state, tree, static=True, now=NOW)
    reader = Reader(tree / "p2psync")
    assert reader.head.raw == done.head.raw
    found = reader.paths()
    assert len(found) == done.files == 2031
    assert found[b"large"] == cut_object(LARGE)[0]
    assert not any(path.startswith(b"p2psync") for path in found)


def test_the_folder_changes_nothing_about_the_archive(state: State, tree: Path, tmp_path: Path) -> None:
    fill(tree)
    with State.open(tmp_path / "other") as other:
        plain = publish(other, shutil.copytree(tree, tmp_path / "copy"), now=NOW)
    first = publish(state, tree, static=True, now=NOW)
    assert (first.files, first.bytes) == (plain.files, plain.bytes)
    assert not publish(state, tree, now=NOW + 1).changed
    done = verify(state, tree, tell=SILENT)
    assert done.differences == []


def test_publishing_again_writes_what_is_new_and_goes_on_without_being_told(state: State, tree: Path) -> None:
    fill(tree)
    publish(state, tree, static=True, now=NOW)
    before = names(tree / "p2psync" / "packs")
    write(tree / "d1" / "new", b"new")
    done = publish(state, tree, now=NOW + 1)
    (new,) = names(tree / "p2psync" / "packs") - before
    assert new == done.head.snapshot.digest.hex()
    reader = Reader(tree / "p2psync")
    assert reader.paths().keys() >= {b"d1/new", b"d4/inner/4"}
    # A snapshot, the listings of the root and of d1.
    assert pack.decode_header((tree / "p2psync" / "packs" / new).read_bytes()).rows == 3


def test_nothing_is_written_where_nothing_changed(state: State, tree: Path) -> None:
    fill(tree)
    publish(state, tree, static=True, now=NOW)
    before = {path: path.stat().st_ino for path in (tree / "p2psync").rglob("*")}
    publish(state, tree, now=NOW + 1)
    assert {path: path.stat().st_ino for path in (tree / "p2psync").rglob("*")} == before


def test_three_snapshots_are_kept_with_all_that_they_need(state: State, tree: Path) -> None:
    fill(tree)
    publish(state, tree, static=True, now=NOW)
    heads = [again(state, tree, number).head for number in range(1, 6)]
    folder = tree / "p2psync"
    kept = [f"{head.epoch}-{head.seq}" for head in reversed(heads[-3:])]
    assert (folder / "heads" / "list").read_text().split() == kept
    assert names(folder / "heads") == {"list", *kept}
    for name in kept:
        shutil.copy(folder / "heads" / name, folder / "head")
        assert len(Reader(folder).paths()) == 32


def test_packs_do_not_add_up_for_ever(state: State, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static, "PACKS_KEPT", 4)
    fill(tree)
    write(tree / "changing", b"")
    publish(state, tree, static=True, now=NOW)
    most = 0
    for number in range(1, 10):
        again(state, tree, number)
        most = max(most, len(Reader(tree / "p2psync").packs))
    assert most == 4
    assert len(names(tree / "p2psync" / "packs")) <= 4 + pack.SNAPSHOTS_KEPT
    assert len(Reader(tree / "p2psync").paths()) == 32


def test_a_head_that_is_signed_again_takes_the_place_of_the_one_before(state: State, tree: Path) -> None:
    fill(tree)
    publish(state, tree, static=True, now=NOW, freshness=1000)
    before = names(tree / "p2psync" / "packs")
    done = publish(state, tree, now=NOW + 900, freshness=1000)
    assert not done.changed
    assert done.head.seq == 2
    assert Reader(tree / "p2psync").head.raw == done.head.raw
    assert names(tree / "p2psync" / "packs") == before
    assert names(tree / "p2psync" / "heads") == {"list", "0-2"}


def test_an_archive_that_is_ended_says_so_in_its_files(state: State, tree: Path) -> None:
    fill(tree)
    done = publish(state, tree, static=True, now=NOW)
    unpublish(state, done.archive, now=NOW + 10)
    assert Reader(tree / "p2psync").head.ended == NOW + 10


def test_everybody_may_read_the_files_whatever_the_umask_is(state: State, tree: Path) -> None:
    fill(tree)
    before = os.umask(0o077)
    try:
        publish(state, tree, static=True, now=NOW)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tree / "p2psync").rglob("*") if path.is_file()}
    assert modes == {0o644}
    assert (tree / "p2psync" / "packs").stat().st_mode & 0o777 == 0o755


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", range(5))
def test_one_who_is_killed_leaves_what_was_or_what_is_and_the_next_one_goes_on(
    state: State, tree: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tree)
    first = publish(state, tree, static=True, now=NOW)
    left = after
    put = StaticFolder.put

    def dying(self: StaticFolder, name: str, pieces: object) -> None:
        nonlocal left
        if not left:
            raise Killed
        left -= 1
        put(self, name, pieces)  # type: ignore[arg-type]

    write(tree / "d1" / "new", b"new")
    with monkeypatch.context() as patch:
        patch.setattr(StaticFolder, "put", dying)
        if after < 4:
            with pytest.raises(Killed):
                publish(state, tree, now=NOW + 1)
        else:
            publish(state, tree, now=NOW + 1)
    reader = Reader(tree / "p2psync")
    assert len(reader.paths()) == (31 if after < 4 else 32)
    assert (reader.head.raw == first.head.raw) == (after < 4)
    done = publish(state, tree, now=NOW + 2)
    assert not done.changed
    reader = Reader(tree / "p2psync")
    assert reader.head.raw == done.head.raw
    assert len(reader.paths()) == 32


def test_a_pack_that_was_damaged_on_the_disk_is_not_built_upon(state: State, tree: Path) -> None:
    fill(tree)
    done = publish(state, tree, static=True, now=NOW)
    path = tree / "p2psync" / pack.pack_path(done.head.snapshot.digest)
    path.write_bytes(path.read_bytes()[:100])
    again(state, tree, 1)
    assert len(Reader(tree / "p2psync").paths()) == 32


def test_a_folder_that_was_removed_is_made_again(state: State, tree: Path) -> None:
    fill(tree)
    publish(state, tree, static=True, now=NOW)
    shutil.rmtree(tree / "p2psync")
    publish(state, tree, now=NOW + 1)
    assert len(Reader(tree / "p2psync").paths()) == 31


# Where it is.


def test_another_name_and_a_path_beside_the_tree_are_taken(state: State, tree: Path, tmp_path: Path) -> None:
    fill(tree)
    publish(state, tree, static=b"of p2psync", now=NOW)
    assert len(Reader(tree / "of p2psync").paths()) == 31
    done = publish(state, tree, static=os.fsencode(tmp_path / "beside"), now=NOW + 1)
    assert done.static == os.fsencode(tmp_path / "beside")
    assert len(Reader(tmp_path / "beside").paths()) == 31
    assert not (tree / "of p2psync").exists()  # Or it would be published from now on.
    assert not publish(state, tree, now=NOW + 2).changed


def test_no_static_removes_the_folder(state: State, tree: Path) -> None:
    fill(tree)
    publish(state, tree, static=True, now=NOW)
    done = publish(state, tree, static=False, now=NOW + 1)
    assert not (tree / "p2psync").exists()
    assert (done.files, done.static) == (31, None)
    assert publish(state, tree, now=NOW + 2).static is None


@pytest.mark.parametrize("kind", ["directory", "file", "link", "file called head"])
def test_what_the_archive_has_under_that_name_is_left_alone_and_the_remedy_is_told(
    state: State, tree: Path, tmp_path: Path, kind: str
) -> None:
    fill(tree)
    if kind == "directory":
        write(tree / "p2psync" / "setup.py", b"own")
    elif kind == "file":
        write(tree / "p2psync", b"own")
    elif kind == "link":
        (tmp_path / "elsewhere").mkdir()
        (tree / "p2psync").symlink_to(tmp_path / "elsewhere")
    else:
        write(tree / "p2psync" / "head", b"own")
    with pytest.raises(UsageError, match="--static=NAME"):
        publish(state, tree, static=True, now=NOW)
    assert publish(state, tree, static=b"meta", now=NOW).files == (31 if kind == "link" else 32)
    if kind == "link":
        assert list((tmp_path / "elsewhere").iterdir()) == []


def test_two_archives_do_not_share_a_folder(state: State, tree: Path, tmp_path: Path) -> None:
    fill(tree)
    write(tmp_path / "second" / "x", b"x")
    where = os.fsencode(tmp_path / "beside")
    publish(state, tree, static=where, now=NOW)
    with pytest.raises(UsageError, match="of p2psync://"):
        publish(state, tmp_path / "second", static=where, now=NOW)


@pytest.mark.parametrize("given", [b".", b"..", b"/"])
def test_a_folder_that_has_the_tree_in_it_is_refused(state: State, tree: Path, given: bytes) -> None:
    with pytest.raises(UsageError, match="cannot be the folder"):
        publish(state, tree, static=given, now=NOW)


def test_a_disk_that_refuses_says_so_and_the_old_files_stay(
    state: State, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tree)
    first = publish(state, tree, static=True, now=NOW)
    (tree / "p2psync" / "head").unlink()
    (tree / "p2psync" / "head").mkdir()
    write(tree / "d1" / "new", b"new")
    with pytest.raises(FileError, match="p2psync/head"):
        publish(state, tree, now=NOW + 1)
    assert (tree / "p2psync" / pack.pack_path(first.head.snapshot.digest)).exists()


def test_whoever_lost_the_index_does_not_publish_the_folder(state: State, tree: Path, tmp_path: Path) -> None:
    fill(tree)
    first = publish(state, tree, static=True, now=NOW)
    with State.open(tmp_path / "again") as again:
        again.keys.import_root(state.keys.export_root(first.archive), "the key")
        done = publish(again, tree, archive=first.archive, known_heads=[first.head], now=NOW + 1)
    assert done.files == 31
    assert done.static == bytes(tree / "p2psync")
    assert Reader(tree / "p2psync").head.raw == done.head.raw


def test_where_nothing_may_be_made_another_place_is_the_remedy(
    state: State, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tree)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, os.strerror(13))

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", refuse)
        with pytest.raises(FileError, match="--static=/PATH"):
            publish(state, tree, static=True, now=NOW)
    assert publish(state, tree, now=NOW).static is None

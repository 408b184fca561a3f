"""What was published keeps its address: after a move, a restored backup, a lost index, a wrong clock."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from tests.node.publishing import NOW, write

from p2psync.errors import UsageError
from p2psync.format.head import ArchiveHead, sign_head
from p2psync.publish import FRESHNESS, publish
from p2psync.rules.filter import Filter
from p2psync.state import State
from p2psync.state import Tree as TreeRow
from p2psync.state.trees import Trees
from p2psync.trust import judge


def lose_index(path: Path) -> None:
    for file in path.glob("index.sqlite*"):
        file.unlink()


def test_a_directory_that_was_moved_goes_on_and_nothing_is_read_again(state: State, tree: Path) -> None:
    write(tree / "d" / "f", b"f")
    write(tree / "secret", b"secret")
    first = publish(state, tree, rules=Filter.parse([b"- secret"]))
    moved = tree.rename(tree.parent / "moved")
    done = publish(state, moved)
    assert (done.archive, done.head.raw, done.read_bytes, done.files) == (first.archive, first.head.raw, 0, 1)
    assert [known.path for known in state.trees.all()] == [os.fsencode(moved)]
    write(tree / "new", b"another directory of the old name")
    assert publish(state, tree).archive != first.archive


def test_a_copy_of_a_published_directory_is_another_archive(state: State, tree: Path) -> None:
    write(tree / "f", b"f")
    first = publish(state, tree)
    shutil.copytree(tree, tree.parent / "copy")
    assert publish(state, tree.parent / "copy").archive != first.archive


def test_a_directory_that_was_moved_to_another_disk_is_asked_about(state: State, tree: Path) -> None:
    write(tree / "f", b"f")
    write(tree / "g", b"g")
    first = publish(state, tree)
    copy = tree.parent / "copy"
    shutil.copytree(tree, copy)
    shutil.rmtree(tree)
    with pytest.raises(UsageError, match=r"looks like .*tree, which is gone .*--archive .*key new"):
        publish(state, copy)
    assert publish(state, copy, archive=first.archive).head.raw == first.head.raw
    assert publish(state, copy).archive == first.archive


def test_another_directory_is_a_new_archive_although_one_is_gone(state: State, tree: Path) -> None:
    write(tree / "f", b"f")
    first = publish(state, tree)
    shutil.rmtree(tree)
    write(tree.parent / "another" / "different", b"x")
    assert publish(state, tree.parent / "another").archive != first.archive


def test_a_link_that_leads_elsewhere_now_goes_on_with_its_rules(state: State, tree: Path) -> None:
    link = tree.parent / "current"
    for version in ("v1", "v2"):
        write(tree / version / "f", version.encode())
        write(tree / version / "secret", version.encode())
    link.symlink_to(tree / "v1")
    first = publish(state, link, rules=Filter.parse([b"- secret"]))
    link.unlink()
    link.symlink_to(tree / "v2")
    second = publish(state, link)
    assert second.archive == first.archive and second.changed and second.files == 1
    assert second.head.seq == first.head.seq + 1
    link.unlink()
    link.symlink_to(tree / "v1")
    third = publish(state, link)
    assert third.archive == first.archive and third.root == first.root and third.head.seq == 3


def test_a_link_to_what_is_published_as_another_archive_is_not_guessed_at(state: State, tree: Path) -> None:
    link = tree.parent / "current"
    for version in ("v1", "v2"):
        write(tree / version / "f", version.encode())
    link.symlink_to(tree / "v1")
    publish(state, link)
    other = publish(state, tree / "v2")
    link.unlink()
    link.symlink_to(tree / "v2")
    with pytest.raises(UsageError, match="name that one itself"):
        publish(state, link)
    assert publish(state, tree / "v2").archive == other.archive


@pytest.mark.parametrize("through", ["itself", "a link"])
def test_a_lost_index_costs_no_address_and_no_place_in_the_order(
    tmp_path: Path, tree: Path, through: str
) -> None:
    named = tree
    if through == "a link":
        named = tmp_path / "current"
        named.symlink_to(tree)
    with State.open(tmp_path / "state") as state:
        for number in range(3):
            write(tree / "f", b"%d" % number)
            first = publish(state, named)
    lose_index(tmp_path / "state")
    with State.open(tmp_path / "state") as state:
        done = publish(state, named)
        assert done.archive == first.archive
        assert done.head.seq == first.head.seq + 1 == 4
        assert publish(state, named).head.raw == done.head.raw


def test_a_lost_index_and_a_moved_directory_are_asked_about(tmp_path: Path, tree: Path) -> None:
    with State.open(tmp_path / "state") as state:
        write(tree / "f", b"f")
        first = publish(state, tree)
    lose_index(tmp_path / "state")
    moved = tree.rename(tmp_path / "moved")
    with State.open(tmp_path / "state") as state:
        with pytest.raises(UsageError, match=r"not known here.*tree, which is gone.*--archive.*key new"):
            publish(state, moved)
        done = publish(state, moved, archive=first.archive)
        assert done.head.seq == 2
        other = state.keys.create_root()
        write(tmp_path / "another" / "x", b"x")
        assert publish(state, tmp_path / "another", archive=other).archive == other


def test_who_forgets_an_archive_is_not_asked_of_it_for_ever(state: State, tree: Path) -> None:
    write(tree / "f", b"f")
    publish(state, tree)
    state.trees.remove(state.trees.all()[0])
    shutil.rmtree(tree)
    write(tree.parent / "another" / "different", b"x")
    assert publish(state, tree.parent / "another").exit_code == 0


def test_a_key_that_was_made_or_brought_is_not_passed_over(state: State, tree: Path) -> None:
    write(tree / "f", b"f")
    made = state.keys.create_root()
    with pytest.raises(UsageError, match="keys of archives without a directory"):
        publish(state, tree)
    assert publish(state, tree, archive=made).archive == made
    write(tree.parent / "second" / "f", b"another")
    assert publish(state, tree.parent / "second").archive != made


def test_a_directory_that_is_published_for_the_first_time_at_this_moment_is_no_doubt_for_another(
    state: State, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between another process's key and its row in the index."""
    write(tree / "f", b"f")
    write(tree.parent / "second" / "g", b"g")
    second: list[bytes] = []
    ensure = Trees.ensure

    def overtaken(trees: Trees, *asked: Any) -> TreeRow:
        monkeypatch.undo()
        second.append(publish(state, tree.parent / "second").archive)
        return ensure(trees, *asked)

    monkeypatch.setattr(Trees, "ensure", overtaken)
    first = publish(state, tree).archive
    assert second
    assert first not in second


def test_a_first_publishing_that_was_killed_after_its_key_goes_on_with_that_key(
    state: State, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tree / "f", b"f")

    def killed(*_: object) -> TreeRow:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Trees, "ensure", killed)
        publish(state, tree)
    [made] = state.keys.archives()
    assert publish(state, tree).archive == made


def test_a_restored_backup_goes_on_after_what_others_have(tmp_path: Path, tree: Path) -> None:
    with State.open(tmp_path / "state") as state:
        write(tree / "f", b"1")
        first = publish(state, tree)
    shutil.copytree(tmp_path / "state", tmp_path / "backup")
    with State.open(tmp_path / "state") as state:
        for number in range(5):
            write(tree / "f", b"later %d" % number)
            newest = publish(state, tree)
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "backup").rename(tmp_path / "state")
    asked: list[bytes] = []

    def ask(archive: bytes) -> Future[list[ArchiveHead]]:
        asked.append(archive)
        found: Future[list[ArchiveHead]] = Future()
        found.set_result([newest.head])
        return found

    with State.open(tmp_path / "state") as state:
        done = publish(state, tree, ask=ask)
        assert asked == [first.archive]
        assert (done.archive, done.head.seq) == (first.archive, newest.head.seq + 1)
        assert done.root == newest.root, "what is in the tree, not what the backup knew"
        assert publish(state, tree).head.raw == done.head.raw


def test_nobody_is_asked_of_an_archive_that_was_never_published(state: State, tree: Path) -> None:
    def ask(_: bytes) -> Future[list[ArchiveHead]]:
        raise AssertionError

    write(tree / "f", b"1")
    assert publish(state, tree, ask=ask).head.seq == 1


def test_a_head_from_a_clock_that_was_ahead_is_signed_again(state: State, tree: Path) -> None:
    write(tree / "f", b"x")
    ahead = publish(state, tree, now=NOW + 400 * 86400)
    assert judge(ahead.archive, [ahead.head.raw], None, NOW).head is None
    done = publish(state, tree, now=NOW)
    assert not done.changed and done.head.snapshot == ahead.head.snapshot
    assert (done.head.seq, done.head.signed_at) == (2, int(NOW))
    assert judge(done.archive, [done.head.raw], ahead.head, NOW).head == done.head
    assert publish(state, tree, now=NOW + 1).head.raw == done.head.raw


def test_clocks_that_differ_a_little_sign_nothing_again(state: State, tree: Path) -> None:
    write(tree / "f", b"x")
    first = publish(state, tree, now=NOW)
    assert publish(state, tree, now=NOW - 500).head.raw == first.head.raw


def test_a_head_that_arrives_while_the_tree_is_read_is_followed(state: State, tree: Path) -> None:
    write(tree / "f", b"x")
    first = publish(state, tree, now=NOW)
    root = state.keys.root(first.archive)
    assert root is not None
    elsewhere = sign_head(
        root,
        first.archive,
        epoch=1,
        seq=9,
        snapshot=first.head.snapshot,
        signed_at=int(NOW),
        fresh_until=int(NOW) + FRESHNESS,
    )

    def ask(_: bytes) -> Future[list[ArchiveHead]]:
        state.heads.put(elsewhere, "told")
        found: Future[list[ArchiveHead]] = Future()
        found.set_result([])
        return found

    write(tree / "f", b"changed")
    done = publish(state, tree, now=NOW, ask=ask)
    assert (done.head.epoch, done.head.seq) == (1, 10)


@pytest.mark.parametrize("damage", [b"", b"\xc1", b"\x90", b"\x94\x01\x01\x01\x01"])
def test_a_damaged_note_beside_a_key_is_no_note(state: State, tree: Path, damage: bytes) -> None:
    write(tree / "f", b"x")
    done = publish(state, tree)
    (note,) = (state.path / "keys").glob("*.published")
    note.write_bytes(damage)
    assert publish(state, tree).head.raw == done.head.raw
    assert state.keys.note(done.archive) is not None, "it is written again"

"""Which head a publisher signs, and when it refuses to: order, freshness, delegation, other publishers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.node.publishing import NOW, write

from p2psync.errors import FileError, TrustError, UsageError
from p2psync.events import Event, Phase, Teller, Warned
from p2psync.format.head import ArchiveHead, decode_head, sign_head
from p2psync.format.ids import Ref
from p2psync.format.snapshot import Snapshot
from p2psync.publish import FRESHNESS, publish
from p2psync.state import State
from p2psync_dht import ROLE_HEADS, ROLE_MIRRORS, Delegation
from p2psync_dht.records import MAX_SEQUENCE


def test_unchanged_head_stands_until_half_its_freshness_is_gone(state: State, tree: Path) -> None:
    write(tree / "f", b"x")
    first = publish(state, tree, now=NOW)
    assert publish(state, tree, now=NOW + FRESHNESS / 2 - 1).head == first.head
    renewed = publish(state, tree, now=NOW + FRESHNESS / 2 + 1)
    assert not renewed.changed
    assert renewed.head.snapshot == first.head.snapshot
    assert (renewed.head.seq, renewed.head.fresh_until) == (2, int(NOW + FRESHNESS / 2 + 1) + FRESHNESS)
    assert len(state.meta.snapshots(first.archive)) == 1


def test_snapshots_name_the_two_before_them(state: State, tree: Path) -> None:
    refs = []
    for number in range(4):
        write(tree / "f", b"%d" % number)
        done = publish(state, tree)
        refs.append(done.head.snapshot)
        raw = state.meta.get(refs[-1].digest)
        assert raw is not None
        assert [parent.ref for parent in Snapshot.decode(raw).parents] == refs[-2:-4:-1]
    assert [known.seq for known in state.meta.snapshots(done.archive)] == [4, 3, 2, 1]


def test_next_head_comes_after_one_seen_elsewhere(state: State, tree: Path) -> None:
    write(tree / "f", b"x")
    done = publish(state, tree, now=NOW)
    root = state.keys.root(done.archive)
    assert root is not None
    elsewhere = sign_head(
        root,
        done.archive,
        epoch=2,
        seq=40,
        snapshot=Ref(5, b"e" * 32),
        signed_at=int(NOW),
        fresh_until=int(NOW),
    )
    after = publish(state, tree, now=NOW, known_heads=[elsewhere])
    assert (after.head.epoch, after.head.seq, after.changed) == (2, 41, True)
    raw = state.meta.get(after.head.snapshot.digest)
    assert raw is not None and Snapshot.decode(raw).parents[0].ref == elsewhere.snapshot
    assert publish(state, tree, now=NOW, known_heads=[done.head]).head == after.head


def delegate(
    state: State, archive: bytes, *, epoch: int = 0, roles: int = ROLE_HEADS, until: int = int(NOW)
) -> None:
    root = state.keys.root(archive)
    assert root is not None
    key = state.keys.create_signing(archive).public_key
    state.keys.add_delegation(
        Delegation.sign(root, key, epoch=epoch, roles=roles, not_before=0, not_after=until)
    )


def test_a_delegated_key_publishes_without_the_root(state: State, tree: Path) -> None:
    archive = state.keys.create_root()
    delegate(state, archive, epoch=3)
    state.keys.remove_root(archive)
    done = publish(state, tree, archive=archive, now=NOW)
    assert (done.head.epoch, done.head.seq) == (3, 1)
    assert decode_head(done.head.raw) == done.head
    with pytest.raises(TrustError, match="does not cover today"):
        publish(state, tree, now=NOW + 100)


def test_a_key_of_an_older_epoch_cannot_sign(state: State, tree: Path) -> None:
    archive = state.keys.create_root()
    delegate(state, archive, epoch=2)
    publish(state, tree, archive=archive, now=NOW)
    delegate(state, archive, epoch=1)
    write(tree / "f", b"x")
    with pytest.raises(TrustError, match="epoch 1, but the archive is at epoch 2"):
        publish(state, tree, now=NOW)


def test_the_first_head_of_a_new_epoch_is_signed_though_nothing_changed(state: State, tree: Path) -> None:
    write(tree / "f", b"x")
    old = publish(state, tree, now=NOW)
    delegate(state, old.archive, epoch=1)
    done = publish(state, tree, now=NOW)
    assert not done.changed
    assert (done.head.epoch, done.head.seq, done.head.snapshot) == (1, 2, old.head.snapshot)
    assert publish(state, tree, now=NOW).head == done.head


def test_a_key_without_the_role_cannot_sign_and_leaves_the_old_head(state: State, tree: Path) -> None:
    first = publish(state, tree, now=NOW)
    delegate(state, first.archive, roles=ROLE_MIRRORS)
    write(tree / "f", b"x")
    with pytest.raises(TrustError, match="renew the delegation"):
        publish(state, tree, now=NOW)
    assert state.heads.newest(first.archive) == first.head
    assert len(state.meta.snapshots(first.archive)) == 1


def test_wrong_calls_are_refused_in_one_sentence(state: State, tree: Path) -> None:
    with pytest.raises(UsageError, match="is not a directory"):
        publish(state, tree / "nothing")
    with pytest.raises(UsageError, match="no key here"):
        publish(state, tree, archive=b"k" * 32)
    publish(state, tree)
    with pytest.raises(UsageError, match="another archive"):
        publish(state, tree, archive=state.keys.create_root())


def test_two_publishers_at_once_get_a_clear_error(state: State, tree: Path) -> None:
    done = publish(state, tree)

    def try_as_well(event: Event) -> None:
        if isinstance(event, Phase):
            other = tree.parent / "moved"
            other.mkdir(exist_ok=True)
            for directory in (tree, other):
                with pytest.raises(FileError, match=f"process {os.getpid()}"):
                    publish(state, directory, archive=done.archive)

    publish(state, tree, tell=Teller(try_as_well))
    write(tree.parent / "moved" / "f", b"x")
    assert publish(state, tree.parent / "moved", archive=done.archive).head.seq == 2


# Keys that were stolen.


def signed_by_a_thief(state: State, archive: bytes, seq: int) -> ArchiveHead:
    """A head that somebody signs who has a copy of the signing key."""
    signing, delegation = state.keys.signing(archive) or (None, None)
    assert signing is not None
    return sign_head(
        signing,
        archive,
        epoch=0 if delegation is None else delegation.epoch,
        seq=seq,
        snapshot=Ref(5, b"e" * 32),
        signed_at=int(NOW),
        fresh_until=int(NOW) + 9,
        delegation=delegation,
    )


@pytest.mark.parametrize("seq", [MAX_SEQUENCE, MAX_SEQUENCE - 3])
def test_a_thief_who_uses_up_the_sequence_numbers_locks_no_archive(
    state: State, tree: Path, seq: int
) -> None:
    archive = state.keys.create_root()
    delegate(state, archive)
    publish(state, tree, archive=archive, now=NOW)
    stolen = signed_by_a_thief(state, archive, seq)
    delegate(state, archive, epoch=1)
    done = publish(state, tree, now=NOW, known_heads=[stolen])
    assert (done.head.epoch, done.head.seq) == (1, 1)
    assert done.head.order > stolen.order
    write(tree / "f", b"x")
    assert publish(state, tree, now=NOW).head.order > done.head.order


def test_in_the_epoch_of_a_thief_nothing_follows_the_greatest_number(state: State, tree: Path) -> None:
    archive = state.keys.create_root()
    delegate(state, archive)
    stolen = signed_by_a_thief(state, archive, MAX_SEQUENCE)
    with pytest.raises(TrustError, match="used up the numbers of epoch 0: begin a new one with the root key"):
        publish(state, tree, archive=archive, now=NOW, known_heads=[stolen])


def test_the_root_key_itself_goes_on_in_a_new_epoch(state: State, tree: Path) -> None:
    done = publish(state, tree, now=NOW)
    stolen = signed_by_a_thief(state, done.archive, MAX_SEQUENCE)
    after = publish(state, tree, now=NOW, known_heads=[stolen])
    assert (after.head.epoch, after.head.seq) == (1, 1)


@pytest.mark.parametrize("here", [True, False])
def test_a_publisher_hears_of_snapshots_that_were_signed_elsewhere(
    state: State, tree: Path, here: bool
) -> None:
    told: list[str] = []

    def note(event: Event) -> None:
        if isinstance(event, Warned):
            told.append(event.text)

    done = publish(state, tree, now=NOW)
    stolen = [] if here else [signed_by_a_thief(state, done.archive, 7)]
    write(tree / "f", b"x")
    publish(state, tree, now=NOW, known_heads=stolen, tell=Teller(note))
    warned = [text for text in told if "snapshot 7 was signed elsewhere" in text and "--new-epoch" in text]
    assert len(warned) == (0 if here else 1)

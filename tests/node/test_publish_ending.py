"""Ending an archive: who can, what it says, what it leaves alone, and how publishing takes it back."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.node.publishing import NOW, write
from tests.node.simulator import identity

from p2psync.content.library import StateLibrary
from p2psync.errors import BusyError, SelectionError, TrustError, UsageError
from p2psync.events import Event, Teller, Warned
from p2psync.format.canonical import encode
from p2psync.format.coverage import Coverage
from p2psync.format.head import decode_head, sign_head
from p2psync.format.url import archive_text
from p2psync.publish import FRESHNESS, publish
from p2psync.publish.ending import unpublish
from p2psync.rules.filter import Filter
from p2psync.state import State
from p2psync.state.heads import ENDED_TOLD
from p2psync_dht import (
    ROLE_HEADS,
    ROLE_MIRRORS,
    Delegation,
    Endpoint,
    HolderRecord,
    HolderRole,
    Identity,
    holders_key,
)

LATER = NOW + 3600
DAY = 86_400


def published(state: State, tree: Path) -> bytes:
    write(tree / "f", b"x")
    return publish(state, tree, now=NOW).archive


def delegate(
    state: State, archive: bytes, *, epoch: int = 0, roles: int = ROLE_HEADS, days: int = 365
) -> None:
    root = state.keys.root(archive)
    assert root is not None
    key = state.keys.create_signing(archive, replace=True).public_key
    term = {"not_before": int(NOW) - DAY, "not_after": int(NOW) + days * DAY}
    state.keys.add_delegation(Delegation.sign(root, key, epoch=epoch, roles=roles, **term))


# What it says.


def test_the_next_head_names_the_same_snapshot_and_says_that_it_is_the_last(state: State, tree: Path) -> None:
    archive = published(state, tree)
    before = state.heads.newest(archive)
    assert before is not None
    done = unpublish(state, archive, now=LATER)
    head = decode_head(done.head.raw)
    assert (head.ended, head.signed_at, head.fresh_until) == (int(LATER), int(LATER), int(LATER))
    assert (head.epoch, head.seq, head.snapshot) == (before.epoch, before.seq + 1, before.snapshot)
    assert state.heads.newest(archive) == head
    assert (done.changed, done.directories) == (True, [os.fsencode(tree)])
    assert len(state.meta.snapshots(archive)) == 1


def test_a_head_that_ends_nothing_has_the_bytes_that_it_always_had(state: State, tree: Path) -> None:
    archive = published(state, tree)
    head = state.heads.newest(archive)
    assert head is not None
    assert head.record.payload == encode(head.snapshot.to_row())
    assert decode_head(head.raw).ended is None


def test_nothing_in_the_directory_is_touched(state: State, tree: Path) -> None:
    archive = published(state, tree)
    before = subprocess.run(["ls", "-laR", "--full-time", tree], capture_output=True, check=True).stdout
    unpublish(state, archive, now=LATER)
    after = subprocess.run(["ls", "-laR", "--full-time", tree], capture_output=True, check=True).stdout
    assert after == before


def test_ending_it_twice_is_ending_it_once(state: State, tree: Path) -> None:
    archive = published(state, tree)
    first = unpublish(state, archive, now=LATER)
    again = unpublish(state, archive, now=LATER + DAY)
    assert (again.head, again.changed) == (first.head, False)


def holder(name: str, archive: bytes, *, complete: bool = True) -> HolderRecord:
    return HolderRecord.sign(
        identity(name),
        holders_key(archive),
        endpoints=[Endpoint("192.0.2.1", 8730)],
        issued=int(NOW),
        expires=int(NOW) + DAY,
        role=HolderRole.MIRROR,
        payload=Coverage(complete, 0, 1).encode(),
    )


def test_whoever_ends_what_nobody_else_holds_is_warned(state: State, tree: Path) -> None:
    archive = published(state, tree)
    state.holders.keep(archive, holder("part", archive, complete=False))
    own = HolderRecord.sign(
        state.identity(),
        holders_key(archive),
        endpoints=[Endpoint("192.0.2.2", 8730)],
        issued=int(NOW),
        expires=int(NOW) + DAY,
        role=HolderRole.ORIGIN,
        payload=Coverage(True, 0, 1).encode(),
    )
    state.holders.keep_own(archive, own, NOW)
    state.holders.hear(archive, [holder("stranger", archive)], NOW)  # Which anybody may have made up.
    heard: list[Event] = []
    unpublish(state, archive, now=LATER, tell=Teller(heard.append))
    (said,) = (event.text for event in heard if isinstance(event, Warned))
    assert "nobody else is known here to hold" in said
    publish(state, tree, now=LATER)
    mirror = holder("mirror", archive)
    state.holders.keep_proved(archive, mirror, mirror.endpoints[0], LATER)
    heard.clear()
    unpublish(state, archive, now=LATER, tell=Teller(heard.append))
    assert heard == []


def test_what_is_ended_is_served_no_more_but_its_head_is_for_a_month(state: State, tree: Path) -> None:
    archive = published(state, tree)
    clock = [LATER]
    library = StateLibrary(state, clock=lambda: clock[0])
    found = library.browse(archive, [b"f"])
    assert found is not None
    head = unpublish(state, archive, now=LATER).head
    assert library.archives() == []
    assert library.browse(archive, [b"f"]) is None
    assert library.open(found.entry.digest) is None
    assert library.head(archive) == head.raw
    clock[0] = LATER + ENDED_TOLD - 1
    assert library.head(archive) == head.raw
    clock[0] = LATER + ENDED_TOLD
    assert library.head(archive) is None
    library.close()


def test_others_are_told_for_longer_than_any_earlier_head_is_fresh() -> None:
    assert ENDED_TOLD > FRESHNESS


# Taking it back.


def test_publishing_again_goes_on_with_the_same_address_and_rules(state: State, tree: Path) -> None:
    write(tree / "f", b"x")
    write(tree / "a.tmp", b"x")
    archive = publish(state, tree, now=NOW, rules=Filter.parse([b"- *.tmp"])).archive
    unpublish(state, archive, now=LATER)
    heard: list[Event] = []
    again = publish(state, tree, now=LATER + DAY, tell=Teller(heard.append))
    assert (again.archive, again.head.seq, again.head.ended) == (archive, 3, None)
    assert (again.files, again.read_bytes) == (1, 0)
    assert again.head.fresh_until == int(LATER + DAY) + FRESHNESS
    (said,) = (event.text for event in heard if isinstance(event, Warned))
    assert "was ended by its publisher on 2027-01-15" in said
    assert "it is published again" in said
    assert StateLibrary(state).archives() == [archive]
    assert state.heads.told_as_ended(LATER + DAY) == []


def test_a_directory_that_was_moved_meanwhile_goes_on_too(state: State, tree: Path) -> None:
    archive = published(state, tree)
    unpublish(state, archive, now=LATER)
    moved = tree.rename(tree.with_name("moved"))
    assert publish(state, moved, now=LATER + DAY).archive == archive


def test_an_archive_that_was_ended_elsewhere_is_gone_on_with_knowingly(state: State, tree: Path) -> None:
    """The publisher has two machines, or puts back an old state directory."""
    archive = published(state, tree)
    root, before = state.keys.root(archive), state.heads.newest(archive)
    assert root is not None and before is not None
    elsewhere = sign_head(
        root,
        archive,
        epoch=0,
        seq=7,
        snapshot=before.snapshot,
        signed_at=int(NOW),
        fresh_until=int(NOW),
        ended=int(NOW),
    )
    heard: list[Event] = []
    done = publish(state, tree, now=LATER, known_heads=[elsewhere], tell=Teller(heard.append))
    assert (done.head.seq, done.head.ended) == (8, None)
    assert any("was ended" in event.text for event in heard if isinstance(event, Warned))


def test_the_end_comes_after_a_head_that_was_signed_elsewhere(state: State, tree: Path) -> None:
    archive = published(state, tree)
    root, before = state.keys.root(archive), state.heads.newest(archive)
    assert root is not None and before is not None
    elsewhere = sign_head(
        root, archive, epoch=0, seq=7, snapshot=before.snapshot, signed_at=int(NOW), fresh_until=int(LATER)
    )
    assert unpublish(state, archive, now=LATER, known_heads=[elsewhere]).head.seq == 8


# Who can.


def test_a_delegated_key_ends_it(state: State, tree: Path) -> None:
    archive = published(state, tree)
    delegate(state, archive)
    state.keys.remove_root(archive)
    head = unpublish(state, archive, now=LATER).head
    assert head.record.delegation is not None
    assert decode_head(head.raw).ended == int(LATER)


def test_the_end_is_signed_again_in_a_new_epoch_and_keeps_its_day(state: State, tree: Path) -> None:
    """A stolen key has ended it, or may take the end back: the root's new epoch decides."""
    archive = published(state, tree)
    delegate(state, archive)
    unpublish(state, archive, now=LATER)
    delegate(state, archive, epoch=1)
    again = unpublish(state, archive, now=LATER + DAY)
    assert again.changed
    assert (again.head.epoch, again.head.seq, again.head.ended) == (1, 3, int(LATER))


@pytest.mark.parametrize(("roles", "days"), [(ROLE_MIRRORS, 365), (ROLE_HEADS, 0)])
def test_a_key_that_may_not_sign_heads_ends_nothing(state: State, tree: Path, roles: int, days: int) -> None:
    archive = published(state, tree)
    delegate(state, archive, roles=roles, days=days)
    with pytest.raises(TrustError):
        unpublish(state, archive, now=LATER)
    head = state.heads.newest(archive)
    assert head is not None and head.ended is None
    assert state.trees.all()[0].role == "publish"


def test_without_a_key_nothing_is_ended(state: State, tree: Path) -> None:
    archive = published(state, tree)
    state.keys.remove(archive)
    with pytest.raises(UsageError, match="no key here"):
        unpublish(state, archive, now=LATER)
    assert state.trees.all()[0].role == "publish"


def test_a_key_alone_ends_it_once_the_newest_head_is_known(state: State, tree: Path) -> None:
    """The publisher's disk is lost, and the key is not."""
    archive = published(state, tree)
    head = state.heads.newest(archive)
    assert head is not None
    with State.open(state.path.with_name("vault")) as vault:
        vault.keys.import_root(state.keys.export_root(archive))
        with pytest.raises(SelectionError, match="no snapshot"):
            unpublish(vault, archive, now=LATER)
        done = unpublish(vault, archive, now=LATER, known_heads=[head])
        assert (done.head.seq, done.directories) == (2, [])
        assert vault.heads.told_as_ended(LATER) == [done.head]


def test_who_publishes_it_at_the_moment_is_not_disturbed(state: State, tree: Path) -> None:
    archive = published(state, tree)
    with state.lock(f"publish-{archive_text(archive)}"), pytest.raises(BusyError):
        unpublish(state, archive, now=LATER)
    with state.lock_place(os.fsencode(tree)), pytest.raises(BusyError):
        unpublish(state, archive, now=LATER)


def test_a_strangers_head_ends_nothing(state: State, tree: Path) -> None:
    archive = published(state, tree)
    ours = state.heads.newest(archive)
    assert ours is not None
    stranger = Identity.generate()
    made = sign_head(
        stranger,
        stranger.public_key,
        epoch=0,
        seq=9,
        snapshot=ours.snapshot,
        signed_at=int(NOW),
        fresh_until=int(NOW),
        ended=int(NOW),
    )
    forged = made.raw.replace(stranger.public_key, archive)
    library = StateLibrary(state)
    with pytest.raises(TrustError):
        library.put_head(archive, forged)
    assert state.heads.newest(archive) == ours
    library.close()

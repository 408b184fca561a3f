"""The rules by which heads are believed, one test for each attack on them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.node.simulator import DAY, NOW, Publisher, identity

from p2psync.errors import FormatError, TrustError
from p2psync.format.canonical import encode
from p2psync.format.head import ArchiveHead, decode_head, sign_head
from p2psync.format.ids import Ref
from p2psync.format.limits import SNAPSHOT_BYTES_MAX
from p2psync.trust import CLOCK_SKEW, Judgement, judge
from p2psync_dht import ROLE_MIRRORS, Delegation
from p2psync_dht.records import MAX_CLOCK_SKEW, MAX_HEAD_SIZE, MAX_SEQUENCE

TREE = {b"file": b"content"}


@pytest.fixture
def publisher() -> Publisher:
    made = Publisher()
    made.publish(TREE)
    return made


def judged(
    publisher: Publisher, *candidates: bytes, remembered: ArchiveHead | None = None, **options: Any
) -> Judgement:
    return judge(publisher.archive, candidates, remembered, options.pop("now", publisher.now), **options)


def refused(raw: bytes, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        decode_head(raw)


# Heads that are believed


def test_the_newest_of_several_heads_is_used_in_whatever_order_they_come(publisher: Publisher) -> None:
    heads = [publisher.head, publisher.publish({b"file": b"2"}), publisher.publish({b"file": b"3"})]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        found = judged(publisher, *(heads[i].raw for i in order))
        assert found.head == heads[2]
        assert not found.warnings


def test_nothing_found_and_nothing_remembered_is_no_head(publisher: Publisher) -> None:
    assert judged(publisher) == Judgement(None)


def test_the_remembered_head_serves_when_the_network_has_none(publisher: Publisher) -> None:
    assert judged(publisher, remembered=publisher.head) == Judgement(publisher.head)


def test_the_same_head_from_many_is_one_head_and_no_conflict(publisher: Publisher) -> None:
    raw = publisher.head.raw
    assert judged(publisher, raw, raw, raw, remembered=publisher.head) == Judgement(publisher.head)


def test_a_delegated_key_signs_in_its_epoch(publisher: Publisher) -> None:
    publisher.delegate("signer", epoch=1)
    head = publisher.publish(TREE)
    assert head.record.delegation is not None
    assert judged(publisher, publisher.heads[0].raw, head.raw).head == head


def test_a_head_stays_valid_after_its_delegation_has_ended(publisher: Publisher) -> None:
    """Stale is not dead: the delegation has to cover the time of signing, not the time of reading."""
    publisher.delegate("signer", epoch=1, days=1)
    head = publisher.publish(TREE)
    found = judged(publisher, head.raw, now=NOW + 1000 * DAY)
    assert found.head == head


def test_fields_of_newer_writers_are_kept_and_verified_and_order_the_head(publisher: Publisher) -> None:
    raw = publisher.forge_head(publisher.root, seq=9, extra=["later", {"a": 1}])
    head = decode_head(raw)
    assert (head.seq, head.raw, head.record.extra) == (9, raw, ("later", {"a": 1}))


def test_a_payload_may_say_more_than_which_snapshot(publisher: Publisher) -> None:
    snapshot = publisher.head.snapshot
    raw = publisher.forge_head(publisher.root, payload=encode([*snapshot.to_row(), {"later": 1}]))
    assert decode_head(raw).snapshot == snapshot


# Replay and order


def test_a_replayed_older_head_does_not_take_a_client_back(publisher: Publisher) -> None:
    old = publisher.head
    new = publisher.publish({b"file": b"new"})
    found = judged(publisher, old.raw, remembered=new)
    assert found.head == new
    assert found.refused_older == 1


def test_a_replayed_older_head_does_not_hide_a_newer_one_from_a_fresh_client(publisher: Publisher) -> None:
    old = publisher.head
    new = publisher.publish({b"file": b"new"})
    assert judged(publisher, old.raw, new.raw).head == new
    assert judged(publisher, new.raw, old.raw).refused_older == 1


def test_an_older_head_is_refused_even_where_the_remembered_one_is_stale(publisher: Publisher) -> None:
    old = publisher.sign(publisher.head.snapshot, seq=5)
    new = publisher.sign(publisher.head.snapshot, seq=6)
    fresh_but_old = decode_head(publisher.forge_head(publisher.root, seq=5, fresh_until=NOW + 900 * DAY))
    found = judged(publisher, old.raw, fresh_but_old.raw, remembered=new, now=NOW + 30 * DAY)
    assert found.head == new


def test_a_stolen_signing_key_with_the_greatest_number_loses_to_a_root_signed_epoch(
    publisher: Publisher,
) -> None:
    stolen = publisher.delegate("signer", epoch=1)
    publisher.publish(TREE)
    taken_over = decode_head(publisher.forge_head(stolen, seq=MAX_SEQUENCE))
    assert judged(publisher, taken_over.raw, remembered=publisher.head).head == taken_over
    publisher.use_root(epoch=2)
    rescued = publisher.sign(publisher.head.snapshot, seq=1)
    found = judged(publisher, rescued.raw, remembered=taken_over)
    assert found.head == rescued
    assert judged(publisher, taken_over.raw, remembered=rescued).head == rescued


def test_a_stolen_signing_key_cannot_follow_into_the_next_epoch(publisher: Publisher) -> None:
    stolen = publisher.delegate("signer", epoch=1)
    publisher.publish(TREE)
    refused(publisher.forge_head(stolen, epoch=2), TrustError, "epoch is not its delegation's")
    refused(publisher.forge_head(stolen, epoch=2, delegation=None), TrustError, "did not sign")
    own = publisher.forge_delegation(stolen, stolen, epoch=2)
    refused(publisher.forge_head(stolen, epoch=2, delegation=own), TrustError, "did not sign")


def test_an_equal_pair_with_different_bytes_is_reported_and_the_greater_hash_wins(
    publisher: Publisher,
) -> None:
    one = publisher.head
    two = publisher.sign(publisher.snapshot({b"file": b"other"}), seq=one.seq)
    winner = max(one, two, key=lambda head: head.order)
    loser = min(one, two, key=lambda head: head.order)
    for candidates, remembered in (
        ((one, two), None),
        ((two, one), None),
        ((winner,), loser),
        ((loser,), winner),
    ):
        found = judged(publisher, *(head.raw for head in candidates), remembered=remembered)
        assert found.head == winner
        assert len(found.warnings) == 1
        assert "two different heads" in found.warnings[0]
        assert found.refused_older == 0


def test_an_equal_pair_that_names_one_snapshot_disputes_nothing(publisher: Publisher) -> None:
    one = publisher.head
    publisher.now += 60
    two = publisher.sign(one.snapshot, seq=one.seq)
    found = judged(publisher, one.raw, two.raw)
    assert found.head == max(one, two, key=lambda head: head.order)
    assert not found.warnings


# Signers


def test_a_head_by_a_stranger_is_refused(publisher: Publisher) -> None:
    raw = publisher.forge_head(identity("stranger"), seq=99)
    refused(raw, TrustError, "did not sign")
    found = judged(publisher, raw)
    assert found.head is None
    assert "ignored a head from the network" in found.warnings[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epoch", 1),
        ("seq", 2),
        ("payload", encode([7, b"x" * 32])),
        ("signed_at", NOW + 1),
        ("fresh_until", NOW + 99 * DAY),
        ("extra", [1]),
    ],
)
def test_no_field_can_be_changed_under_an_old_signature(publisher: Publisher, name: str, value: Any) -> None:
    refused(publisher.forge_head(None, **{name: value}), TrustError, "did not sign")


def test_another_archives_head_is_ignored(publisher: Publisher) -> None:
    other = Publisher("other").publish(TREE)
    found = judged(publisher, other.raw, remembered=publisher.head)
    assert found.head == publisher.head
    assert found.warnings == ("ignored a head of another archive",)


def test_another_archives_head_cannot_be_renamed(publisher: Publisher) -> None:
    other = Publisher("other")
    other.publish(TREE)
    refused(other.forge_head(None, root=publisher.archive), TrustError, "did not sign")
    refused(other.forge_head(other.root, root=publisher.archive), TrustError, "did not sign")


def test_another_archives_delegation_is_refused(publisher: Publisher) -> None:
    other = Publisher("other")
    key = other.delegate("signer", epoch=0)
    assert other.delegation is not None
    raw = publisher.forge_head(key, delegation=other.delegation.raw)
    refused(raw, TrustError, "delegation of another archive")


def test_a_delegation_that_was_over_when_the_head_was_signed_is_refused(publisher: Publisher) -> None:
    key = publisher.delegate("signer", epoch=1, days=1)
    publisher.publish(TREE)
    assert publisher.delegation is not None
    last = publisher.delegation.not_after
    assert decode_head(publisher.forge_head(key, signed_at=last)).signed_at == last
    refused(publisher.forge_head(key, signed_at=last + 1), TrustError, "outside its delegation's time")
    refused(publisher.forge_head(key, signed_at=NOW - 1), TrustError, "outside its delegation's time")


def test_a_key_for_mirror_lists_cannot_sign_heads(publisher: Publisher) -> None:
    key = identity("mirrors")
    given = publisher.forge_delegation(publisher.root, key, roles=ROLE_MIRRORS)
    refused(publisher.forge_head(key, delegation=given), TrustError, "may not sign heads")


def test_a_delegate_cannot_delegate(publisher: Publisher) -> None:
    key = publisher.delegate("signer", epoch=1)
    publisher.publish(TREE)
    accomplice = identity("accomplice")
    given = publisher.forge_delegation(key, accomplice, epoch=1)
    refused(publisher.forge_head(accomplice, delegation=given), TrustError, "did not sign")


def test_a_delegation_cannot_pass_for_a_head_nor_a_head_for_a_delegation(publisher: Publisher) -> None:
    publisher.delegate("signer", epoch=1)
    publisher.publish(TREE)
    assert publisher.delegation is not None
    refused(publisher.delegation.raw, FormatError, "not a head")
    root_signed = publisher.heads[0].raw
    refused(
        publisher.forge_head(publisher.signer, delegation=root_signed), FormatError, "not a delegation|bytes"
    )


def test_signing_what_readers_would_refuse_fails_at_the_publisher(publisher: Publisher) -> None:
    publisher.delegate("signer", epoch=1, days=1)
    publisher.now += 2 * DAY
    with pytest.raises(TrustError, match="renew the delegation"):
        publisher.publish(TREE)
    publisher.epoch = 2
    with pytest.raises(TrustError, match="epoch"):
        publisher.publish(TREE)


@pytest.mark.parametrize("size", [0, SNAPSHOT_BYTES_MAX + 1])
def test_a_head_names_a_snapshot_of_a_size_that_snapshots_have(publisher: Publisher, size: int) -> None:
    ref = Ref(size, b"d" * 32 if size else b"")
    with pytest.raises(FormatError, match="no snapshot"):
        sign_head(
            publisher.root, publisher.archive, epoch=0, seq=2, snapshot=ref, signed_at=NOW, fresh_until=NOW
        )
    refused(publisher.forge_head(publisher.root, payload=encode(ref.to_row())), FormatError, "no snapshot")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x90",
        encode([1]),
        encode(["1", b"x" * 32]),
        encode([True, b"x" * 32]),
        encode([5, b"x"]),
    ],
)
def test_a_head_that_names_nothing_is_refused(publisher: Publisher, payload: bytes) -> None:
    refused(publisher.forge_head(publisher.root, payload=payload), FormatError, ".")


def test_a_head_that_is_too_large_is_refused_before_it_is_looked_at(publisher: Publisher) -> None:
    raw = publisher.forge_head(publisher.root, extra=[b"x" * MAX_HEAD_SIZE])
    refused(raw, FormatError, "bytes")


# Time


def test_a_head_from_the_future_is_not_believed_yet(publisher: Publisher) -> None:
    early = publisher.forge_head(publisher.root, seq=7, signed_at=NOW + CLOCK_SKEW)
    late = publisher.forge_head(publisher.root, seq=8, signed_at=NOW + CLOCK_SKEW + 1)
    found = judged(publisher, early, late, publisher.head.raw)
    assert found.head is not None
    assert found.head.raw == early
    assert "in the future" in found.warnings[0]
    assert judged(publisher, late, now=NOW + 1).head is not None


def test_the_skew_allowed_here_is_the_one_that_storing_nodes_allow() -> None:
    assert CLOCK_SKEW == MAX_CLOCK_SKEW


def test_a_stale_head_is_used_with_a_warning_that_says_how_old_it_is(publisher: Publisher) -> None:
    found = judged(publisher, publisher.head.raw, now=NOW + 3 * DAY)
    assert found.head == publisher.head
    assert len(found.warnings) == 1
    assert "3 days old" in found.warnings[0]
    assert "until 2 days ago" in found.warnings[0]


def test_a_stale_head_is_an_error_where_a_fresh_one_is_required(publisher: Publisher) -> None:
    last = publisher.head.fresh_until
    assert judged(publisher, publisher.head.raw, now=last, require_fresh=True).head == publisher.head
    with pytest.raises(TrustError, match="--require-fresh"):
        judged(publisher, publisher.head.raw, now=last + 1, require_fresh=True)
    with pytest.raises(TrustError, match="--require-fresh"):
        judged(publisher, remembered=publisher.head, now=last + 1, require_fresh=True)


def test_a_fresh_but_older_head_does_not_satisfy_who_requires_freshness(publisher: Publisher) -> None:
    """Freezing a client on an old version that was given a long freshness must not work."""
    publisher.lifetime = 1000 * DAY
    old = publisher.sign(publisher.head.snapshot, seq=5)
    publisher.lifetime = DAY
    new = publisher.sign(publisher.head.snapshot, seq=6)
    with pytest.raises(TrustError, match="--require-fresh"):
        judged(publisher, old.raw, remembered=new, now=NOW + 2 * DAY, require_fresh=True)


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (59, "59 seconds"),
        (60, "1 minute "),
        (7199, "1 hour "),
        (7200, "2 hours"),
        (86400, "1 day "),
        (10**6, "11 d"),
    ],
)
def test_ages_are_told_in_the_largest_whole_unit(publisher: Publisher, age: int, words: str) -> None:
    head = decode_head(publisher.forge_head(publisher.root, fresh_until=NOW))
    assert words in judged(publisher, head.raw, now=NOW + age).warnings[0]


# Rubbish


def test_rubbish_from_the_network_does_not_hide_a_good_head(publisher: Publisher) -> None:
    rubbish = [
        b"",
        b"\xc1",
        b"x" * 450,
        b"\xff" * 10_000,
        publisher.head.raw[:-1],
        publisher.head.raw + b"\0",
    ]
    found = judged(publisher, *rubbish, publisher.head.raw)
    assert found.head == publisher.head
    assert len(found.warnings) == len(rubbish)


@given(st.data())
def test_a_head_changed_anywhere_is_refused_with_an_error_of_this_project(data: st.DataObject) -> None:
    publisher = Publisher()
    publisher.publish(TREE)
    publisher.delegate("signer", epoch=1)
    good = publisher.publish(TREE).raw
    raw = bytearray(good)
    begin = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(begin, min(begin + 3, len(raw))))
    raw[begin:end] = data.draw(st.binary(max_size=3))
    assume(raw != good)
    with pytest.raises((FormatError, TrustError)):
        decode_head(bytes(raw))


@given(st.binary(max_size=500))
def test_random_bytes_are_no_head(raw: bytes) -> None:
    with pytest.raises(FormatError):
        decode_head(raw)


@given(st.binary(max_size=130))
def test_any_payload_that_is_signed_names_a_snapshot_or_is_a_format_error(payload: bytes) -> None:
    publisher = Publisher()
    publisher.publish(TREE)
    raw = publisher.forge_head(publisher.root, payload=payload)
    try:
        head = decode_head(raw)
    except FormatError:
        return
    assert head.snapshot.is_single


def test_delegations_sign_only_within_their_own_bounds(publisher: Publisher) -> None:
    with pytest.raises(ValueError, match="ends before it begins"):
        Delegation.sign(publisher.root, b"k" * 32, epoch=0, roles=1, not_before=2, not_after=1)

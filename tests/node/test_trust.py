"""Which of the heads that are found is used: the newest, and none of the past or the future."""

from __future__ import annotations

from typing import Any

import pytest
from tests.node.simulator import DAY, NOW, Publisher, identity
from tests.node.trust_support import TREE, judged, refused

from p2psync.errors import TrustError
from p2psync.format.canonical import encode
from p2psync.format.head import decode_head
from p2psync.trust import CLOCK_SKEW, Judgement, ended_text
from p2psync_dht.records import MAX_CLOCK_SKEW, MAX_SEQUENCE

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


# The end of an archive


def test_an_ended_archive_is_used_and_its_end_is_no_staleness(publisher: Publisher) -> None:
    ended = publisher.end()
    found = judged(publisher, publisher.heads[0].raw, ended.raw, now=NOW + 1000 * DAY)
    assert (found.head, found.warnings) == (ended, ())
    assert ended_text(ended).endswith("was ended by its publisher on 2027-01-15; its last snapshot is 2")


def test_an_ended_archive_is_not_fresh(publisher: Publisher) -> None:
    ended = publisher.end()
    with pytest.raises(TrustError, match=r"ended .*--require-fresh"):
        judged(publisher, ended.raw, require_fresh=True)


def test_an_end_that_was_taken_back_is_not_replayed(publisher: Publisher) -> None:
    ended = publisher.end()
    again = publisher.publish({b"file": b"again"})
    assert judged(publisher, ended.raw, remembered=again) == Judgement(again, refused_older=1)
    assert judged(publisher, ended.raw, again.raw).head == again


def test_a_strangers_end_is_refused(publisher: Publisher) -> None:
    payload = encode([*publisher.head.snapshot.to_row(), {"ended": NOW}])
    forged = publisher.forge_head(identity("stranger"), seq=9, payload=payload)
    found = judged(publisher, publisher.head.raw, forged)
    assert found.head == publisher.head
    assert "ignored a head" in found.warnings[0]


def test_an_end_that_is_written_into_a_signed_head_is_refused(publisher: Publisher) -> None:
    payload = encode([*publisher.head.snapshot.to_row(), {"ended": NOW}])
    refused(publisher.forge_head(payload=payload), TrustError, "did not sign")


def test_a_superseded_key_ends_nothing(publisher: Publisher) -> None:
    publisher.delegate("stolen", epoch=1)
    publisher.publish(TREE)
    stolen = publisher.end()
    publisher.delegate("successor", epoch=2)
    newer = publisher.sign(publisher.head.snapshot)
    late = decode_head(
        publisher.forge_head(
            identity("stolen"),
            epoch=1,
            seq=MAX_SEQUENCE,
            payload=stolen.record.payload,
            delegation=stolen.record.delegation.raw if stolen.record.delegation else None,
        )
    )
    assert late.ended is not None
    assert judged(publisher, stolen.raw, late.raw, newer.raw).head == newer


def test_one_number_that_ends_it_and_does_not_is_a_dispute(publisher: Publisher) -> None:
    goes_on = publisher.sign(publisher.head.snapshot, seq=5)
    ended = publisher.sign(publisher.head.snapshot, seq=5, ended=NOW)
    found = judged(publisher, goes_on.raw, ended.raw)
    assert found.head == max(goes_on, ended, key=lambda head: head.order)
    assert "two different heads" in found.warnings[0]


@pytest.mark.parametrize(
    "further", [[], [None], [7], [[]], [{}], [{"later": 1}], *([{"ended": value}] for value in (-1, 1 << 41))]
)
def test_what_a_newer_writer_adds_to_a_payload_ends_nothing(publisher: Publisher, further: list[Any]) -> None:
    payload = encode([*publisher.head.snapshot.to_row(), *further])
    assert decode_head(publisher.forge_head(publisher.root, payload=payload)).ended is None


@pytest.mark.parametrize("value", [True, "now", None, b"", [], {}])
def test_an_end_at_no_time_is_none(publisher: Publisher, value: Any) -> None:
    payload = encode([*publisher.head.snapshot.to_row(), {"ended": value, "later": "more"}])
    assert decode_head(publisher.forge_head(publisher.root, payload=payload)).ended is None


def test_an_end_with_further_fields_is_one(publisher: Publisher) -> None:
    payload = encode([*publisher.head.snapshot.to_row(), {"ended": NOW, "successor": "..."}, "more"])
    assert decode_head(publisher.forge_head(publisher.root, payload=payload)).ended == NOW

"""Who may sign a head, and what a head has to be: one test for each forgery."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.node.simulator import DAY, NOW, Publisher, identity
from tests.node.trust_support import TREE, judged, refused

from p2psync.errors import FormatError, TrustError
from p2psync.format.canonical import encode
from p2psync.format.head import decode_head, sign_head
from p2psync.format.ids import Ref
from p2psync.format.limits import SNAPSHOT_BYTES_MAX
from p2psync_dht import ROLE_MIRRORS, Delegation
from p2psync_dht.records import MAX_HEAD_SIZE

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


def test_delegations_sign_only_within_their_own_bounds(publisher: Publisher) -> None:
    with pytest.raises(ValueError, match="ends before it begins"):
        Delegation.sign(publisher.root, b"k" * 32, epoch=0, roles=1, not_before=2, not_after=1)


# Contents


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

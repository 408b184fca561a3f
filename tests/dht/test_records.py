"""Records: form, limits, signatures, and the attacks on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2psync_dht import (
    ROLE_HEADS,
    ROLE_MIRRORS,
    TAG_HEAD,
    TAG_MIRRORS,
    Delegation,
    Endpoint,
    Head,
    HolderRecord,
    HolderRole,
    Identity,
    RecordError,
    head_key,
    holders_key,
    mirrors_key,
    object_key,
    tag_of,
    verify_signature,
)
from p2psync_dht.codec import CodecError, pack, unpack_canonical
from p2psync_dht.holder_record import MAX_HOLDER_LIFETIME, MAX_HOLDER_SIZE, addresses_in
from p2psync_dht.keys import DOMAIN_HEAD, DOMAIN_HOLDER, DOMAIN_MIRRORS
from p2psync_dht.records import MAX_CLOCK_SKEW, MAX_HEAD_SIZE
from p2psync_dht.scope import pack_ip

VECTORS = Path(__file__).parent / "vectors" / "records.json"
NOW = 1_800_000_000
ROOT = Identity.from_seed(b"\x01" * 32)
KEY = Identity.from_seed(b"\x02" * 32)
OTHER = Identity.from_seed(b"\x03" * 32)


def delegation(**fields: Any) -> Delegation:
    values: dict[str, Any] = {
        "epoch": 3,
        "roles": ROLE_HEADS,
        "not_before": NOW - 100,
        "not_after": NOW + 100,
    }
    return Delegation.sign(ROOT, KEY.public_key, **(values | fields))


def head(signer: Identity = ROOT, **fields: Any) -> Head:
    values: dict[str, Any] = {
        "epoch": 3,
        "seq": 7,
        "payload": b"p",
        "signed_at": NOW,
        "fresh_until": NOW + 50,
    }
    return Head.sign(signer, ROOT.public_key, **(values | fields))


def of_mirrors(signer: Identity = ROOT, **fields: Any) -> Head:
    """The head of a list of mirrors."""
    return head(signer, tag=TAG_MIRRORS, **fields)


def holder(**fields: Any) -> HolderRecord:
    values: dict[str, Any] = {
        "endpoints": [Endpoint("192.0.2.7", 8730)],
        "issued": NOW,
        "expires": NOW + 3600,
        "role": HolderRole.MIRROR,
    }
    return HolderRecord.sign(KEY, holders_key(ROOT.public_key), **(values | fields))


def forged(record: Head | HolderRecord, domain: bytes, signer: Identity, **changes: Any) -> bytes:
    """The record's fields, changed by position, signed by `signer` without the checks of `sign`."""
    fields = unpack_canonical(record.raw[:-64], limit=1000)
    for index, value in changes.items():
        fields[int(index[1:])] = value
    body = pack(fields)
    return body + signer.sign(body, domain=domain)


def test_golden_vectors() -> None:
    vectors = json.loads(VECTORS.read_text())
    for name, keys in vectors["keys"].items():
        made = Identity.from_seed(bytes.fromhex(keys["seed"]))
        assert made.public_key.hex() == keys["public_key"], name
        assert made.node_id.hex() == keys["node_id"], name
    root = bytes.fromhex(vectors["keys"]["root"]["public_key"])
    assert head_key(root).hex() == vectors["dht_keys"]["head"]
    assert holders_key(root).hex() == vectors["dht_keys"]["holders"]
    assert object_key(root).hex() == vectors["dht_keys"]["object"]
    assert mirrors_key(root).hex() == vectors["dht_keys"]["mirrors"]
    kinds: dict[str, Callable[[bytes], Delegation | Head | HolderRecord]] = {
        "delegation": Delegation.decode,
        "head": Head.decode,
        "mirrors": partial(Head.decode, tag=TAG_MIRRORS),
        "holder": HolderRecord.decode,
    }
    for vector in vectors["records"]:
        record = kinds[vector["kind"]](bytes.fromhex(vector["raw"]))
        record.verify()
        assert record.raw.hex() == vector["raw"]
        for field, value in vector["fields"].items():
            held = getattr(record, field)
            held = held.hex() if isinstance(held, bytes) else held
            held = [str(place) for place in held] if field == "endpoints" else held
            held = held.raw.hex() if isinstance(held, Delegation) else held
            assert held == value, (vector["name"], field)
    for vector in vectors["refused"]:
        with pytest.raises(RecordError):
            kinds[vector["kind"]](bytes.fromhex(vector["raw"])).verify()


def test_signing_again_gives_the_bytes_of_the_vectors() -> None:
    vectors = {vector["name"]: vector["raw"] for vector in json.loads(VECTORS.read_text())["records"]}
    assert delegation().raw.hex() == vectors["delegation"]
    assert head().raw.hex() == vectors["head signed by the root"]
    assert head(KEY, delegation=delegation()).raw.hex() == vectors["head signed by a delegate"]
    assert of_mirrors().raw.hex() == vectors["mirrors' head signed by the root"]
    given = delegation(roles=ROLE_MIRRORS)
    assert of_mirrors(KEY, delegation=given).raw.hex() == vectors["mirrors' head signed by a delegate"]
    assert holder().raw.hex() == vectors["holder record"]
    assert holder().withdraw(KEY, NOW + 60).raw.hex() == vectors["holder record withdrawn"]


def test_succession_of_signing_keys() -> None:
    """A superseded key signs valid heads still, and never a newer one; years later the newest is as valid."""
    vectors = json.loads(VECTORS.read_text())
    raws = {vector["name"]: bytes.fromhex(vector["raw"]) for vector in vectors["records"]}
    heads = [Head.decode(raws[name]) for name in vectors["succession"]]
    for one in heads:
        one.verify(NOW + 10 * 365 * 86400)
    assert [one.order for one in heads] == sorted(one.order for one in heads)
    given = Delegation.sign(
        ROOT, OTHER.public_key, epoch=4, roles=ROLE_HEADS, not_before=NOW - 100, not_after=NOW + 100
    )
    assert given.raw == raws["delegation to a successor"]
    assert head(OTHER, delegation=given, epoch=4, seq=8).raw == heads[-1].raw
    assert head(KEY, delegation=delegation(), seq=2**63 - 1).raw == heads[-2].raw


def test_sizes_stay_within_what_the_wire_allows() -> None:
    widest = delegation(epoch=2**63 - 1, not_before=2**39, not_after=2**40)
    largest = head(
        KEY,
        epoch=2**63 - 1,
        seq=2**63 - 1,
        payload=bytes(128),
        signed_at=2**40,
        fresh_until=2**40,
        delegation=widest,
    )
    assert len(largest.raw) <= MAX_HEAD_SIZE == 450
    both = holder(endpoints=[Endpoint("192.0.2.7", 1), Endpoint("2001:db8::7", 1)], payload=bytes(16))
    assert len(both.raw) <= MAX_HOLDER_SIZE == 250


def test_fields_of_newer_writers_are_kept_and_signed() -> None:
    newer = head(extra=(b"new", [1, {"a": None}]))
    again = Head.decode(newer.raw)
    again.verify()
    assert again.extra == (b"new", [1, {"a": None}])
    assert again.raw == newer.raw


def test_order_is_epoch_then_sequence_then_hash() -> None:
    assert head(epoch=4, seq=0).order > head(epoch=3, seq=99).order > head(epoch=3, seq=98).order
    one, two = head(payload=b"1"), head(payload=b"2")
    assert one.order != two.order
    assert one.order[:2] == two.order[:2]


@pytest.mark.parametrize(
    ("what", "fields"),
    [
        ("another epoch", {"epoch": 4}),
        ("too early", {"signed_at": NOW - 101}),
        ("too late: the delegation has expired", {"signed_at": NOW + 101}),
    ],
)
def test_delegated_head_outside_its_delegation_is_refused(what: str, fields: dict[str, int]) -> None:
    with pytest.raises(RecordError):
        head(KEY, delegation=delegation(), **fields)


def test_delegate_without_the_role_cannot_sign_heads() -> None:
    with pytest.raises(RecordError, match="may not sign heads"):
        head(KEY, delegation=delegation(roles=ROLE_MIRRORS))


def test_who_may_sign_heads_alone_may_not_recommend_mirrors_and_the_other_way_round() -> None:
    assert of_mirrors(KEY, delegation=delegation(roles=ROLE_MIRRORS)).tag == TAG_MIRRORS
    with pytest.raises(RecordError, match="may not sign mirrors' heads"):
        of_mirrors(KEY, delegation=delegation(roles=ROLE_HEADS))


def test_the_head_of_a_list_is_never_taken_for_that_of_an_archive() -> None:
    """Neither as it is, nor with the other tag in it, nor under the other DHT key."""
    listed = of_mirrors()
    assert tag_of(listed.raw) == TAG_MIRRORS
    with pytest.raises(RecordError):
        Head.decode(listed.raw)
    with pytest.raises(RecordError):
        Head.decode(head().raw, tag=TAG_MIRRORS)
    for record, tag, other in ((listed, TAG_HEAD, DOMAIN_MIRRORS), (head(), TAG_MIRRORS, DOMAIN_HEAD)):
        changed = record.raw[:1] + bytes([tag]) + record.raw[2:]
        for raw in (changed, forged(record, other, ROOT, f0=tag)):
            with pytest.raises(RecordError, match="did not sign"):
                Head.decode(raw, tag=tag).verify()
    assert listed.key == mirrors_key(ROOT.public_key) != head().key == head_key(ROOT.public_key)


def test_head_by_a_stranger_is_refused() -> None:
    with pytest.raises(RecordError):
        head(OTHER)
    with pytest.raises(RecordError, match="did not sign"):
        Head.decode(forged(head(), DOMAIN_HEAD, OTHER)).verify()


def test_delegation_forged_by_the_delegate_is_refused() -> None:
    raw = delegation().raw
    body = raw[:-64].replace(ROOT.public_key, OTHER.public_key)
    stolen = forged(head(KEY, delegation=delegation()), DOMAIN_HEAD, KEY, f7=body + raw[-64:])
    with pytest.raises(RecordError):
        Head.decode(stolen).verify()


def test_delegation_for_another_archive_is_refused() -> None:
    foreign = Delegation.sign(
        OTHER, KEY.public_key, epoch=3, roles=ROLE_HEADS, not_before=NOW - 100, not_after=NOW + 100
    )
    stolen = forged(head(KEY, delegation=delegation()), DOMAIN_HEAD, KEY, f7=foreign.raw)
    with pytest.raises(RecordError, match="another archive"):
        Head.decode(stolen).verify()


def test_signature_of_one_kind_is_none_of_another() -> None:
    """A head's body signed as something else, by the right key, is not a head."""
    with pytest.raises(RecordError, match="did not sign"):
        Head.decode(forged(head(), DOMAIN_HOLDER, ROOT)).verify()
    body = head().raw[:-64]
    assert not verify_signature(ROOT.public_key, DOMAIN_HEAD, body, ROOT.sign(body))


def test_holder_record_cannot_be_moved_to_another_key() -> None:
    record = holder()
    moved = record.raw.replace(record.key, holders_key(b"other"))
    with pytest.raises(RecordError, match="did not sign"):
        HolderRecord.decode(moved).verify()


@pytest.mark.parametrize("now", [NOW - 86400, NOW, NOW + 1, NOW + 3599])
def test_a_withdrawal_comes_after_what_it_takes_back_and_ends_with_it(now: int) -> None:
    said = holder(payload=b"all", endpoints=[Endpoint("192.0.2.7", 8730), Endpoint("2001:db8::7", 8730)])
    left = said.withdraw(KEY, now)
    left.verify(left.issued)
    assert not said.withdrawn
    assert left.withdrawn
    assert left.order > said.order
    assert left.expires == said.expires
    assert len(left.raw) < len(said.raw)
    back = holder(issued=left.issued + 1, expires=left.issued + 3600)
    assert back.order > left.order
    assert not back.withdrawn


def test_what_has_expired_needs_no_withdrawal() -> None:
    with pytest.raises(RecordError):
        holder().withdraw(KEY, NOW + 3600)


@pytest.mark.parametrize("element", [0, 2, True, "1", b"\x01", [1], None])
def test_another_ninth_element_is_no_withdrawal(element: Any) -> None:
    assert not holder(extra=(element,)).withdrawn
    assert holder(extra=(1, element)).withdrawn


def test_holder_record_is_bounded_in_time() -> None:
    record = holder()
    record.verify(NOW)
    with pytest.raises(RecordError, match="expired"):
        record.verify(NOW + 3600)
    with pytest.raises(RecordError, match="future"):
        record.verify(NOW - MAX_CLOCK_SKEW - 1)
    with pytest.raises(RecordError, match="too long"):
        holder(expires=NOW + MAX_HOLDER_LIFETIME + 1)
    with pytest.raises(RecordError, match="no time"):
        holder(expires=NOW)


@pytest.mark.parametrize(
    "place",
    [
        bytes([0, 0, 0, 0, 1, 1]),
        bytes([224, 0, 0, 1, 1, 1]),
        bytes([192, 0, 2, 1, 0, 0]),
        bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 1, 1, 1]),
        bytes(5),
        "ftp://example.org/",
        "http://exa mple.org/",
        "http://example.org/\n",
        "http://ex\u00e4mple.org/",
        "https://example.org/" + "a" * 120,
        7,
        None,
    ],
)
def test_endpoints_nobody_can_use_are_refused(place: Any) -> None:
    with pytest.raises(RecordError):
        HolderRecord.decode(forged(holder(), DOMAIN_HOLDER, KEY, f3=[place]))


def test_endpoints_survive() -> None:
    places = (Endpoint("192.0.2.7", 8730), Endpoint("2001:db8::7", 1), Endpoint(url="https://a.org/"))
    assert HolderRecord.decode(holder(endpoints=places).raw).endpoints == places
    assert [str(place) for place in places] == ["192.0.2.7:8730", "[2001:db8::7]:1", "https://a.org/"]


@pytest.mark.parametrize(
    ("index", "value"),
    [
        ("f0", 3),
        ("f0", True),
        ("f1", b"short"),
        ("f1", "a" * 32),
        ("f2", -1),
        ("f2", 2**63),
        ("f2", True),
        ("f2", 1.0),
        ("f4", bytes(129)),
        ("f5", 2**40 + 1),
        ("f7", b""),
        ("f7", b"x" * 100),
        ("f7", []),
    ],
)
def test_head_with_a_wrong_field_is_refused(index: str, value: Any) -> None:
    with pytest.raises(RecordError):
        Head.decode(forged(head(), DOMAIN_HEAD, ROOT, **{index: value}))


def test_values_that_cannot_be_written_are_refused() -> None:
    for seq in (-1, 2**63, 2**70):
        with pytest.raises(RecordError):
            head(seq=seq)


@given(st.binary(max_size=600))
@settings(max_examples=300)
def test_any_bytes_are_refused_with_one_exception(raw: bytes) -> None:
    for kind in (Delegation, Head, HolderRecord):
        with pytest.raises(RecordError):
            kind.decode(raw).verify()


@given(st.data())
@settings(max_examples=300)
def test_any_change_to_a_record_is_noticed(data: st.DataObject) -> None:
    given_out: list[Delegation | Head | HolderRecord] = [delegation(), head(), holder()]
    given_out.append(head(KEY, delegation=delegation()))
    record = data.draw(st.sampled_from(given_out))
    at = data.draw(st.integers(0, len(record.raw) - 1))
    flipped = bytearray(record.raw)
    flipped[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RecordError):
        type(record).decode(bytes(flipped)).verify()


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.binary()
    | st.text()
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(_values)
@settings(max_examples=200)
def test_canonical_values_survive(value: Any) -> None:
    assert unpack_canonical(pack(value), limit=10_000) == value


@pytest.mark.parametrize(
    "raw",
    [
        b"\xcc\x01",
        b"\xd9\x01a",
        b"\xdc\x00\x01\x01",
        b"\x01\x01",
        b"\xc1",
        b"",
        b"\xd1\x00\x01",
        b"\x91" * 600,
    ],
    ids=[
        "long int",
        "long str",
        "long array",
        "two values",
        "reserved",
        "nothing",
        "signed as unsigned",
        "deep",
    ],
)
def test_other_spellings_are_refused(raw: bytes) -> None:
    with pytest.raises(CodecError):
        unpack_canonical(raw, limit=1000)


def test_the_addresses_of_a_record_are_found_without_reading_it() -> None:
    places = (
        [Endpoint("192.0.2.7", 8730)],
        [Endpoint("2001:db8::7", 443), Endpoint(url="https://mirror.example/" + "x" * 50)],
        [Endpoint(url="http://a.b/"), Endpoint("192.0.2.7", 1), Endpoint("::1", 1)],
        [Endpoint(url="http://a.b/")],
    )
    for endpoints in places:
        raw = HolderRecord.sign(
            KEY,
            bytes(20),
            endpoints=endpoints,
            issued=NOW,
            expires=NOW + 3600,
            role=HolderRole.MIRROR,
        ).raw
        assert list(addresses_in(raw)) == [pack_ip(each.ip) for each in endpoints if each.ip]

"""The store: what is kept, what is refused, and who pays when it is full."""

from __future__ import annotations

import random
from typing import Any

import pytest

from p2psync_dht import (
    TAG_MIRRORS,
    Endpoint,
    Head,
    HolderRecord,
    HolderRole,
    Identity,
    RecordError,
    holders_key,
)
from p2psync_dht.places import HOLDERS_PER_NETWORK, source_of
from p2psync_dht.storage import HEAD_KEEP, RecordStore
from p2psync_dht.wire import Status

from .conftest import identity

NOW = 1_800_000_000
KEY = holders_key(b"archive")
KEYS = {number: Identity.from_seed(number.to_bytes(32, "big")) for number in range(1, 9)}


class Clock:
    now = float(NOW)

    def __call__(self) -> float:
        return self.now


def store(clock: Clock | None = None, **limits: int) -> RecordStore:
    return RecordStore(clock or Clock(), random.Random(1), **limits)


def head(seq: int = 1, root: Identity | None = None, signed_at: int = NOW) -> Head:
    signer = root or identity(1)
    return Head.sign(
        signer, signer.public_key, epoch=0, seq=seq, payload=b"", signed_at=signed_at, fresh_until=NOW
    )


def holder(number: int, *, key: bytes = KEY, issued: int = NOW, ip: str = "192.0.2.1") -> HolderRecord:
    who = KEYS.get(number) or Identity.from_seed(number.to_bytes(32, "big"))
    places = [Endpoint(ip, 80)]
    return HolderRecord.sign(
        who, key, endpoints=places, issued=issued, expires=issued + 3600, role=HolderRole.PEER
    )


def test_a_replayed_older_head_is_refused() -> None:
    kept = store()
    assert kept.put(head(2).raw) == Status.STORED
    assert kept.put(head(1).raw) == Status.OLDER
    assert kept.put(head(2).raw) == Status.SAME
    assert kept.put(head(3).raw) == Status.STORED
    assert kept.head(head().key) == (head(3).raw, 0)
    assert len(kept) == 1


@pytest.mark.parametrize(
    "raw", [b"", b"\x98\x02", b"\x98\x03" + bytes(200), b"\x98\x02" + bytes(300), b"x" * 2000]
)
def test_what_is_no_record_is_refused(raw: bytes) -> None:
    kept = store()
    assert kept.put(raw) == Status.REFUSED
    assert len(kept) == 0


def test_forged_records_are_refused() -> None:
    kept = store()
    for record in (head(), holder(1)):
        assert kept.put(record.raw[:-1] + bytes([record.raw[-1] ^ 1])) == Status.REFUSED
    assert kept.put(head(signed_at=NOW + 601).raw) == Status.REFUSED
    assert kept.put(holder(1, issued=NOW - 3600).raw) == Status.REFUSED
    assert kept.put(holder(1, issued=NOW + 601).raw) == Status.REFUSED


def test_an_endpoint_must_be_the_senders() -> None:
    kept = store()
    assert kept.put(holder(1).raw, sender_ip="192.0.2.2") == Status.REFUSED
    assert kept.put(holder(1).raw, sender_ip="192.0.2.1") == Status.STORED


@pytest.mark.parametrize(
    ("sender", "places", "status"),
    [
        ("192.0.2.1", ("192.0.2.1", "2001:db8::1"), Status.STORED),
        ("2001:db8::1", ("192.0.2.1", "2001:db8::1"), Status.STORED),
        ("192.0.2.1", ("2001:db8::1",), Status.REFUSED),
        ("192.0.2.1", ("192.0.2.1", "192.0.2.9"), Status.REFUSED),
        ("192.0.2.1", ("192.0.2.1", "::1"), Status.REFUSED),
        ("192.0.2.1", ("192.0.2.1", "fd00::1"), Status.REFUSED),
        ("192.168.0.1", ("192.168.0.1", "2001:db8::1"), Status.REFUSED),
        ("192.0.2.1", ("192.0.2.1", "2001:db8::1", "2001:db8::2"), Status.REFUSED),
    ],
)
def test_one_endpoint_more_may_be_of_the_other_family(
    sender: str, places: tuple[str, ...], status: Status
) -> None:
    record = HolderRecord.sign(
        identity(1),
        KEY,
        endpoints=[Endpoint(ip, 8730) for ip in places],
        issued=NOW,
        expires=NOW + 3600,
        role=HolderRole.PEER,
    )
    assert store().put(record.raw, sender_ip=sender) == status


def test_storing_again_never_moves_a_signed_expiry() -> None:
    clock = Clock()
    kept = store(clock)
    kept.put(holder(1).raw)
    clock.now = NOW + 3599
    assert kept.put(holder(1).raw) == Status.SAME
    assert len(kept.holders(KEY, 9)[1]) == 1
    clock.now = NOW + 3600
    assert kept.holders(KEY, 9)[1] == []
    assert kept.prune() == 1
    assert len(kept) == 0


def test_a_head_is_forgotten_a_week_after_its_last_refresh_not_after_its_freshness() -> None:
    clock = Clock()
    kept = store(clock)
    kept.put(head().raw)
    clock.now = NOW + HEAD_KEEP - 1
    assert kept.head(head().key) == (head().raw, HEAD_KEEP - 1)
    assert kept.iter_older_than(HEAD_KEEP - 1) == [(head().key, head().raw)]
    kept.put(head().raw)
    clock.now += HEAD_KEEP - 1
    assert kept.head(head().key) is not None
    clock.now += 1
    assert kept.head(head().key) is None
    assert kept.prune() == 1


def test_one_record_a_node_the_later_one_wins() -> None:
    kept = store()
    early, late = holder(1, issued=NOW - 5), holder(1)
    assert kept.put(late.raw) == Status.STORED
    assert kept.put(early.raw) == Status.OLDER
    assert kept.holders(KEY, 9) == (1, [late.raw])
    for number in range(2, 6):
        kept.put(holder(number).raw)
    later = holder(1, issued=NOW + 1)
    assert kept.put(later.raw) == Status.STORED
    assert kept.holders(KEY, 9)[0] == 5
    assert later.raw in kept[KEY]


def test_a_withdrawal_takes_the_place_of_the_record_until_that_would_have_ended() -> None:
    clock = Clock()
    kept = store(clock)
    said = holder(1)
    left = said.withdraw(KEYS[1], NOW + 60)
    kept.put(said.raw, source=7, sender_ip="192.0.2.1")
    assert kept.put(left.raw, source=8, sender_ip="192.0.2.1") == Status.STORED
    assert kept.put(left.raw, source=8, sender_ip="192.0.2.1") == Status.SAME
    assert kept.holders(KEY, 9) == (1, [left.raw])
    assert [source for _, _, source in kept.records()] == [7]  # The same network pays for it.
    clock.now = said.expires
    assert kept.holders(KEY, 9)[1] == []
    kept.prune(everything=True)
    assert len(kept) == 0


def test_a_withdrawal_cannot_stay_longer_than_what_it_takes_back() -> None:
    clock = Clock()
    kept = store(clock)
    said = holder(1)
    kept.put(said.raw)
    lasting = holder(1, issued=NOW + 100).withdraw(KEYS[1], NOW + 200)
    assert lasting.expires > said.expires
    assert kept.put(lasting.raw, sender_ip="192.0.2.1") == Status.STORED
    clock.now = said.expires
    kept.prune(everything=True)
    assert len(kept) == 0


def test_who_has_left_is_not_brought_back_by_a_replay_and_may_come_back() -> None:
    kept = store()
    said = holder(1)
    left = said.withdraw(KEYS[1], NOW)
    kept.put(said.raw)
    kept.put(left.raw)
    assert kept.put(said.raw, sender_ip="192.0.2.1") == Status.OLDER
    back = holder(1, issued=left.issued + 1)
    assert kept.put(back.raw, sender_ip="192.0.2.1") == Status.STORED
    assert kept.put(left.raw, sender_ip="192.0.2.1") == Status.OLDER
    assert kept.holders(KEY, 9) == (1, [back.raw])


def test_nobody_is_withdrawn_by_another() -> None:
    kept = store()
    said = holder(1)
    kept.put(said.raw)
    other = said.withdraw(KEYS[2], NOW)  # It speaks for node 2, of which nothing is here.
    assert kept.put(other.raw, sender_ip="192.0.2.1") == Status.SAME
    forged = said.withdraw(KEYS[1], NOW).raw[:-64] + other.raw[-64:]
    assert kept.put(forged, sender_ip="192.0.2.1") == Status.REFUSED
    elsewhere = holder(1, key=holders_key(b"another")).withdraw(KEYS[1], NOW)
    kept.put(elsewhere.raw, sender_ip="192.0.2.1")
    assert kept.holders(KEY, 9) == (1, [said.raw])


def test_withdrawals_of_what_is_not_here_fill_no_store() -> None:
    kept = store()
    for number, who in KEYS.items():
        assert kept.put(holder(number).withdraw(who, NOW).raw, sender_ip="192.0.2.1") == Status.SAME
    assert len(kept) == 0


def test_a_node_leaves_from_another_address_but_announces_nobody_there() -> None:
    kept = store()
    said = holder(1, ip="192.0.2.1")
    kept.put(said.raw, sender_ip="192.0.2.1")
    assert kept.put(holder(1, issued=NOW + 1, ip="192.0.2.1").raw, sender_ip="198.51.100.1") == Status.REFUSED
    left = said.withdraw(KEYS[1], NOW)
    assert kept.put(left.raw, sender_ip="198.51.100.1") == Status.STORED
    assert kept.holders(KEY, 9) == (1, [left.raw])


def test_a_withdrawal_survives_a_restart_of_the_store() -> None:
    kept, again = store(), store()
    said = holder(1)
    left = said.withdraw(KEYS[1], NOW)
    kept.put(said.raw)
    kept.put(left.raw)
    for raw, drop_after, source in kept.records():
        assert again.restore(raw, drop_after, source) == Status.STORED
    assert again.put(said.raw, sender_ip="192.0.2.1") == Status.OLDER


def test_pages_cover_the_set_and_samples_are_random() -> None:
    kept = store()
    for number in range(30):
        kept.put(holder(number).raw)
    pages = [raw for offset in range(0, 30, 7) for raw in kept.holders(KEY, 7, offset)[1]]
    assert sorted(pages) == sorted(kept[KEY])
    samples = {raw for _ in range(40) for raw in kept.holders(KEY, 5)[1]}
    assert len(samples) == 30


def test_one_network_cannot_crowd_out_the_holders_of_a_key() -> None:
    kept = store(max_holders_per_key=10)
    honest = [holder(number) for number in range(5)]
    for number, record in enumerate(honest):
        kept.put(record.raw, source=number)
    statuses = [put_from(kept, number, f"8.8.{number}.8") for number in range(100, 200)]
    left = kept[KEY]
    assert len(left) == 10
    assert all(record.raw in left for record in honest)
    assert statuses == [Status.STORED] * 5 + [Status.FULL] * 95
    assert put_from(kept, 300, "9.9.9.9") == Status.STORED


def put_from(kept: RecordStore, number: int, ip: str, **fields: Any) -> Status:
    """What becomes of the record of a node at an address."""
    return kept.put(holder(number, ip=ip, **fields).raw, source=source_of(ip), sender_ip=ip)


@pytest.mark.parametrize(
    ("pattern", "stored"),
    [
        ("8.8.8.8", HOLDERS_PER_NETWORK.client),
        ("8.8.8.{n}", HOLDERS_PER_NETWORK.site),
        ("8.8.{n}.8", HOLDERS_PER_NETWORK.provider),
        ("2a01:4f8:1:1::{n:x}", HOLDERS_PER_NETWORK.client),
        ("2a01:4f8:1:{n:x}::1", HOLDERS_PER_NETWORK.site),
        ("2a01:4f8:{n:x}::1", HOLDERS_PER_NETWORK.provider),
        ("10.0.0.{n}", 100),
        ("{n}.8.8.8", 100),
    ],
)
def test_a_hundred_fakes_of_one_network_take_no_more_than_its_share_of_a_key(
    pattern: str, stored: int
) -> None:
    kept = store()
    honest = [f"9.9.{n}.9" for n in range(3)]
    assert all(put_from(kept, 500 + n, ip) == Status.STORED for n, ip in enumerate(honest))
    fakes = [put_from(kept, n, pattern.format(n=n)) for n in range(11, 111)]
    assert fakes == [Status.STORED] * stored + [Status.FULL] * (100 - stored)
    assert kept.holders(KEY, 9)[0] == stored + 3


def test_who_has_a_whole_provider_displaces_nobody_of_another_and_no_older_neighbour() -> None:
    kept = store(max_holders_per_key=64)
    honest = ["2a01:4f8:ffff::1", *(f"2a{n}:db8::1" for n in range(10, 60))]
    for number, ip in enumerate(honest):
        put_from(kept, 2000 + number, ip)
    for number in range(500):
        put_from(kept, number, f"2a01:4f8:{number:x}::1")
    left = set(kept[KEY])
    assert all(holder(2000 + number, ip=ip).raw in left for number, ip in enumerate(honest))


def test_a_newcomer_gets_a_place_from_who_has_most_in_its_network() -> None:
    """Where an attacker was first: from four of its sites, all that one provider may have."""
    kept = store()
    fakes = [f"8.8.{site}.{n}" for site in range(4) for n in range(8)]
    assert all(put_from(kept, n, ip) == Status.STORED for n, ip in enumerate(fakes))
    for number in range(5):
        assert put_from(kept, 900 + number, f"8.8.100.{number}") == Status.STORED
    assert put_from(kept, 990, "8.8.0.99") == Status.FULL
    assert kept.holders(KEY, 9)[0] == HOLDERS_PER_NETWORK.provider
    # What a node says anew takes the place of what it said.
    assert put_from(kept, 900, "8.8.100.0", issued=NOW + 1) == Status.STORED
    clients = store()
    assert all(put_from(clients, n, f"8.8.8.{n // 4}") == Status.STORED for n in range(8))
    assert put_from(clients, 900, "8.8.8.99") == Status.STORED


def test_naming_somebody_elses_network_takes_none_of_its_places() -> None:
    kept = store()
    fakes = [
        HolderRecord.sign(
            Identity.from_seed(number.to_bytes(32, "big")),
            KEY,
            endpoints=[Endpoint("9.9.9.9", 80), Endpoint(f"2a01:{number:x}::1", 80)],
            issued=NOW,
            expires=NOW + 3600,
            role=HolderRole.PEER,
        )
        for number in range(1, 50)
    ]
    for fake in fakes:
        ip = fake.endpoints[1].ip
        assert kept.put(fake.raw, source=source_of(ip), sender_ip=ip) == Status.STORED
    assert put_from(kept, 900, "9.9.9.9") == Status.STORED


def test_whoever_names_urls_alone_has_no_more_places_than_a_client() -> None:
    kept = store()
    statuses = [
        kept.put(
            HolderRecord.sign(
                Identity.from_seed(number.to_bytes(32, "big")),
                KEY,
                endpoints=[Endpoint(url=f"http://victim.example/{number}")],
                issued=NOW,
                expires=NOW + 3600,
                role=HolderRole.PEER,
            ).raw,
            source=source_of("8.8.8.8"),
            sender_ip="8.8.8.8",
        )
        for number in range(20)
    ]
    assert statuses == [Status.STORED] * HOLDERS_PER_NETWORK.client + [Status.FULL] * 16


def test_places_that_run_out_are_free_again() -> None:
    clock = Clock()
    kept = store(clock)
    for number in range(20):
        put_from(kept, number, f"8.8.8.{number}")
    clock.now += 3600
    kept.prune(everything=True)
    assert all(put_from(kept, 50 + n, f"8.8.8.{n}", issued=NOW + 3600) == Status.STORED for n in range(8))


def test_whoever_has_a_48_does_not_displace_everybody_in_a_full_store() -> None:
    kept = store(max_records=400)
    for number in range(90):
        key = holders_key(bytes([number]))
        assert put_from(kept, number, f"{number + 11}.8.8.8", key=key) == Status.STORED
    for number in range(1000):
        key = holders_key(number.to_bytes(2, "big"))
        put_from(kept, 100 + number, f"2a01:4f8:1:{number:x}::1", key=key)
    for number in range(1000):
        put_from(kept, 2000 + number, f"2a01:4f8:{number:x}::1", key=holders_key(b"x%d" % number))
    honest = [key for key, _ in kept if kept.holders(key, 9)[1]]
    assert all(holders_key(bytes([number])) in honest for number in range(90))
    assert len(kept) <= 90 + 400 // 4


def test_one_network_cannot_crowd_out_everybody_else() -> None:
    kept = store(max_records=40)
    statuses = [kept.put(head(root=identity(number)).raw, source=7) for number in range(1, 41)]
    assert statuses.count(Status.STORED) == 10
    assert statuses.count(Status.FULL) == 30
    for number in range(50):
        key = holders_key(bytes([number]))
        assert kept.put(holder(number, key=key).raw, source=number + 100) == Status.STORED
    assert len(kept) == 40
    assert sum(source == 7 for _, _, source in kept.records()) < 10


def test_sources_are_networks() -> None:
    assert source_of("203.0.113.1") == source_of("203.0.114.1") != source_of("203.1.113.1")
    assert source_of("2001:db8::1") == source_of("2001:db8:ffff::2") != source_of("2001:db9::1")
    assert source_of("10.0.0.1") != source_of("10.0.0.2")


def test_the_interface_of_the_package_holds() -> None:
    kept = store()
    kept[head().key] = head().raw
    kept[KEY] = holder(1).raw
    assert kept[KEY] == [holder(1).raw]
    assert sorted(kept) == sorted([(head().key, head().raw), (KEY, holder(1).raw)])
    assert kept.get(bytes(20), "none") == "none"
    with pytest.raises(KeyError):
        kept[bytes(20)]
    with pytest.raises(RecordError):
        kept[KEY] = b"junk"


def test_restored_heads_keep_their_age() -> None:
    clock = Clock()
    kept = store(clock)
    kept.put(head().raw)
    clock.now += 1000
    ((raw, drop_after, source),) = kept.records()
    again = store(clock)
    assert again.restore(raw, drop_after, source) == Status.STORED
    assert again.head(head().key) == (raw, 1000)
    assert store(clock).restore(raw, NOW, source) == Status.REFUSED


def test_an_archives_head_and_that_of_its_mirrors_are_kept_beside_each_other() -> None:
    clock = Clock()
    kept = store(clock)
    listed = [
        Head.sign(
            identity(1),
            identity(1).public_key,
            epoch=0,
            seq=seq,
            payload=b"",
            signed_at=NOW,
            fresh_until=NOW,
            tag=TAG_MIRRORS,
        )
        for seq in (1, 2)
    ]
    for raw in (head(7).raw, listed[0].raw, listed[1].raw):
        assert kept.put(raw) == Status.STORED
    assert kept.put(listed[0].raw) == Status.OLDER
    assert kept.head(head().key) == (head(7).raw, 0)
    assert kept.head(listed[1].key) == (listed[1].raw, 0)
    assert sorted(kept) == sorted([(head().key, head(7).raw), (listed[1].key, listed[1].raw)])
    again = store(clock)
    for raw, drop_after, source in kept.records():
        assert again.restore(raw, drop_after, source) == Status.STORED
    assert again.head(listed[1].key) == (listed[1].raw, 0)
    clock.now += HEAD_KEEP
    assert again.prune(everything=True) == 2
    assert (again.head(listed[1].key), len(again)) == (None, 0)

"""The routing table: exactness, proof, diversity, replacement."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2psync_dht.contact import Contact
from p2psync_dht.routing import MAX_CANDIDATES, MAX_FAILURES, REFRESH_AFTER, ContactTable

OWN = Contact(bytes(20), "", 0)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def table(ksize: int = 20, *, diversify_local: bool = False) -> ContactTable:
    return ContactTable(OWN, Clock(), ksize=ksize, diversify_local=diversify_local)


def contact(rng: random.Random, *, ip: str | None = None) -> Contact:
    where = ip or f"127.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
    return Contact(rng.randbytes(20), where, rng.randrange(1, 65536))


def near(bits: int, number: int, *, ip: str = "127.0.0.1") -> Contact:
    """Contact `number` among those that share exactly `bits` bits with the own id."""
    return Contact(((1 << (159 - bits)) + number).to_bytes(20, "big"), ip, 1000 + number)


@given(st.integers(0, 2**32), st.binary(min_size=20, max_size=20), st.integers(1, 30))
@settings(max_examples=60)
def test_the_closest_are_exactly_the_closest(seed: int, target: bytes, count: int) -> None:
    rng = random.Random(seed)
    made = table()
    for _ in range(300):
        made.add_verified(contact(rng))
    wanted = int.from_bytes(target, "big")
    everybody = sorted(made, key=lambda one: one.long_id ^ wanted)
    assert made.closest(wanted, count) == everybody[:count]
    assert len(made) == len(everybody)


def test_buckets_split_around_the_own_id_only() -> None:
    made = table()
    rng = random.Random(1)
    for _ in range(3000):
        made.add_verified(contact(rng))
    assert all(len(bucket) <= 20 for bucket in made.buckets)
    assert sum(bucket.has_in_range(OWN) for bucket in made.buckets) == 1
    assert 5 <= len(made.buckets) <= 12
    ranges = [bucket.range for bucket in made.buckets]
    assert ranges[0][0] == 0
    assert ranges[-1][1] == 2**160 - 1
    assert all(one[1] + 1 == two[0] for one, two in itertools.pairwise(ranges))


def test_a_full_bucket_keeps_candidates_until_a_place_is_free() -> None:
    made = table(4)
    for number in range(4):
        assert made.add_verified(near(0, number))
    assert made.add_verified(near(5, 99))  # the first bucket splits
    assert not made.wants(near(0, 9))
    for number in range(10, 30):
        made.note_candidate(near(0, number))
    bucket = made.bucket_of(near(0, 0).long_id)
    assert len(bucket.replacement_nodes) == MAX_CANDIDATES
    victim = made.closest(near(0, 0).long_id)[0]
    assert made.note_failure(victim) is None
    replacement = made.note_failure(victim)
    assert replacement == near(0, 29)
    # It has to prove itself before it takes the place.
    assert len(made) == 4
    assert made.get(replacement.id) is None


def test_two_time_outs_in_a_row_evict() -> None:
    made = table()
    one = near(3, 1)
    made.add_verified(one)
    for _ in range(5):
        made.note_failure(one)
        made.note_alive(one)
    assert len(made) == 1
    for _ in range(MAX_FAILURES):
        made.note_failure(one)
    assert len(made) == 0


def test_failing_contacts_are_not_recommended() -> None:
    made = table()
    made.add_verified(near(3, 1))
    made.add_verified(near(3, 2))
    made.note_failure(near(3, 1))
    assert made.closest(0, working=True) == [near(3, 2)]
    assert len(made.closest(0)) == 2


def test_two_of_one_network_in_a_bucket() -> None:
    made = table(4)
    for number in range(100, 106):
        made.add_verified(near(1 + number % 2, number))
    assert [made.add_verified(near(0, n, ip=f"203.0.113.{n}")) for n in (1, 2, 3)] == [True, True, False]
    assert made.add_verified(near(0, 5, ip="203.0.114.1"))
    assert made.add_verified(near(9, 6, ip="203.0.113.6"))
    local = table()
    assert all(local.add_verified(near(0, n)) for n in range(1, 9))
    strict = table(diversify_local=True)
    assert sum(strict.add_verified(near(0, n)) for n in range(1, 9)) == 2


def test_somebody_with_a_network_of_ipv6_does_not_fill_a_bucket() -> None:
    """Each address below in a /64 of its own, then in a /48 of its own."""
    of_one_48 = table()
    assert sum(of_one_48.add_verified(near(0, n, ip=f"2a01:db8:1:{n:x}::1")) for n in range(1, 21)) == 2
    of_one_32 = table()
    assert sum(of_one_32.add_verified(near(0, n, ip=f"2a01:db8:{n:x}::1")) for n in range(1, 21)) == 8
    assert of_one_32.add_verified(near(0, 30, ip="2a02:db8::1"))
    apart = table()
    assert all(apart.add_verified(near(0, n, ip=f"2a{n:02}:db8::1")) for n in range(1, 21))


def test_one_address_has_one_id_and_an_id_keeps_a_working_address() -> None:
    made = table()
    first, second = near(0, 1), Contact(b"\x90" * 20, "127.0.0.1", 1001)
    assert made.add_verified(first)
    assert made.add_verified(second)
    assert list(made) == [second]
    moved = Contact(second.id, "127.0.0.2", 1)
    assert not made.add_verified(moved)
    made.note_failure(second)
    assert made.add_verified(moved)
    assert list(made) == [moved]


def test_the_own_id_is_no_contact() -> None:
    made = table()
    assert not made.add_verified(Contact(OWN.id, "127.0.0.1", 1))
    assert not made.wants(Contact(OWN.id, "127.0.0.1", 1))
    assert made.next_candidate(made.buckets[0]) is None


def test_quiet_buckets_are_noticed() -> None:
    clock = Clock()
    made = ContactTable(OWN, clock)
    assert made.lonely_buckets() == []
    clock.now = REFRESH_AFTER + 1
    assert made.lonely_buckets() == made.buckets
    made.bucket_of(5).touch_last_updated()
    assert made.lonely_buckets() == []


def test_ids_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="20 bytes"):
        Contact(b"short", "127.0.0.1", 1)

"""The networks that addresses count for, and fair orders among them."""

from __future__ import annotations

import random

import pytest

from p2psync_dht.networks import Caps, NetworkQuota, Networks, fairly, networks_of, public_networks_of
from p2psync_dht.scope import pack_ip


def of(ip: str) -> Networks:
    return networks_of(pack_ip(ip))


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("203.0.113.7", "203.0.113.7", 3),
        ("203.0.113.7", "203.0.113.9", 2),
        ("203.0.113.7", "203.0.7.7", 1),
        ("203.0.113.7", "203.1.113.7", 0),
        ("2a01:db8:1:2::7", "2a01:db8:1:2:ffff::9", 3),
        ("2a01:db8:1:2::7", "2a01:db8:1:3::7", 2),
        ("2a01:db8:1:2::7", "2a01:db8:2:2::7", 1),
        ("2a01:db8:1:2::7", "2a01:db9:1:2::7", 0),
    ],
)
def test_networks_that_count_as_one(one: str, other: str, alike: int) -> None:
    assert sum(mine == theirs for mine, theirs in zip(of(one), of(other), strict=True)) == alike


def test_local_addresses_are_of_no_public_network() -> None:
    for ip in ("127.0.0.1", "10.1.2.3", "192.168.1.1", "::1", "fd00::1"):
        assert public_networks_of(pack_ip(ip)) is None
        assert public_networks_of(pack_ip(ip), diversify_local=True) == of(ip)


@pytest.mark.parametrize(
    ("pattern", "admitted"),
    [
        ("203.0.113.7", 2),
        ("203.0.113.{n}", 4),
        ("203.0.{n}.1", 6),
        ("{n}.0.0.1", 100),
        ("2a01:db8:1:1::{n:x}", 2),
        ("2a01:db8:1:{n:x}::1", 4),
        ("2a01:db8:{n:x}::1", 6),
        ("2a01:{n:x}::1", 100),
        ("10.0.0.{n}", 100),
    ],
)
def test_one_party_gets_no_more_places_than_its_networks_have(pattern: str, admitted: int) -> None:
    quota = NetworkQuota(caps=Caps(client=2, site=4, provider=6))
    assert sum(quota.admit(pattern.format(n=n)) for n in range(11, 111)) == admitted
    assert quota.admit("198.51.100.1")


def test_a_place_that_is_given_back_is_anothers() -> None:
    quota = NetworkQuota(["203.0.113.7"], caps=Caps(1, 1, 1))
    assert not quota.admit("203.0.113.8")
    quota.release("203.0.113.7")
    assert quota.admit("203.0.113.8")


def order(*ips: str) -> list[str]:
    return fairly(ips, lambda ip: [of(each) for each in ip.split()])


def test_all_providers_come_before_one_of_them_comes_twice() -> None:
    assert order("1.1.1.1", "1.1.1.2", "1.1.2.1", "2.2.2.2", "3.3.3.3") == [
        "1.1.1.1",
        "2.2.2.2",
        "3.3.3.3",
        "1.1.2.1",
        "1.1.1.2",
    ]


def test_a_thousand_of_one_provider_come_after_one_of_another() -> None:
    many = [f"2a01:db8:{n:x}::1" for n in range(1000)]
    assert order(*many, "2a02:db8::1").index("2a02:db8::1") == 1


def test_who_has_one_address_comes_before_the_second_of_its_neighbour() -> None:
    assert order("1.1.1.1", "1.1.1.1", "1.1.1.1", "1.1.1.2")[:2] == ["1.1.1.1", "1.1.1.2"]


def test_naming_a_second_address_makes_nobody_come_sooner() -> None:
    flood = [f"1.1.1.1 2a{n:02}:db8::1" for n in range(10, 60)]
    assert order(*flood, "2.2.2.2").index("2.2.2.2") == 1


def test_every_item_stands_in_the_order_once() -> None:
    rng = random.Random(1)
    ips = [f"{rng.randrange(3)}.{rng.randrange(3)}.{rng.randrange(3)}.{rng.randrange(3)}" for _ in range(300)]
    assert sorted(order(*ips)) == sorted(ips)
    assert order() == []

"""Which addresses that others name are looked at."""

from __future__ import annotations

import pytest

from p2psync.network import told
from p2psync.network.told import SOMEWHERE, may_look_at, teller_at

FAR, NEIGHBOUR, HERE = "203.0.113.1", "192.168.7.1", "127.0.0.1"
OWN = "10.1.2.3"
INSIDE = ["127.0.0.1", "10.1.2.9", "192.168.7.9", "172.16.0.1", "100.64.0.1", "::1", "fd00::1"]
NEVER = [
    "169.254.169.254",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "fe80::1",
    "ff02::1",
    "64:ff9b::a01:203",
]


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine is in 10/8, and has no IPv6."""
    monkeypatch.setattr(told, "own_address", lambda family, towards: OWN if ":" not in towards else None)


@pytest.mark.parametrize("victim", INSIDE)
def test_a_stranger_names_nobody_in_the_readers_own_networks(victim: str) -> None:
    assert not may_look_at(victim, FAR)
    assert not may_look_at(victim, SOMEWHERE)


@pytest.mark.parametrize("victim", NEVER)
@pytest.mark.parametrize("teller", [FAR, NEIGHBOUR, HERE, None])
def test_some_addresses_are_nobodys_to_name(victim: str, teller: str | None) -> None:
    assert not may_look_at(victim, teller)


def test_a_neighbour_names_those_of_its_site_and_of_ours() -> None:
    assert may_look_at("192.168.7.9", NEIGHBOUR)
    assert may_look_at("10.1.2.9", NEIGHBOUR)
    assert not may_look_at(
        "172.16.0.1", NEIGHBOUR
    )  # What is there at this site, the neighbour does not know.
    assert not may_look_at("127.0.0.1", NEIGHBOUR)
    assert may_look_at(FAR, NEIGHBOUR)


@pytest.mark.parametrize("teller", [HERE, None])
def test_this_machine_may_know_what_is_on_it_and_at_its_site(teller: str | None) -> None:
    assert may_look_at("127.0.0.1", teller)
    assert may_look_at("10.1.2.9", teller)
    assert not may_look_at("192.168.7.9", teller)  # From another site that it was at.


def test_one_unique_local_site_names_nobody_in_another() -> None:
    assert may_look_at("fd00:1:2::9", "fd00:1:2::1")
    assert not may_look_at("fd00:1:3::9", "fd00:1:2::1")


@pytest.mark.parametrize(
    ("name", "ip"),
    [
        ("192.0.2.7:8730", "192.0.2.7"),
        ("[2001:db8::7]:8730", "2001:db8::7"),
        ("localhost:8730", "127.0.0.1"),
        ("nowhere.invalid:8730", SOMEWHERE),
        ("no address", SOMEWHERE),
    ],
)
async def test_a_teller_of_whom_no_address_is_known_is_far_away(name: str, ip: str) -> None:
    assert await teller_at(name) in (ip, "::1" if name.startswith("localhost") else ip)
